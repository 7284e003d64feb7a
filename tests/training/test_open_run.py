"""Opening the folder of a run, without training."""

from __future__ import annotations

import json
import logging
import shutil
import signal
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builders.data import write_dataset, write_volume
from builders.locks import FOREIGN
from builders.phantom import make_phantom, overlap
from builders.runs import Stopped, after_step, in_validation, send_signal, stop
from builders.tiny import prepare_dataset, use_folders

from samnet.core.cpu_bfloat16 import VARIABLE
from samnet.core.errors import UserError
from samnet.core.files import TEMPORARY_PREFIX
from samnet.core.locks import FolderBusy, LockLost
from samnet.models.model_folder import BEST, FINAL, LAST, RunFolder
from samnet.planning.planned_dataset import PlannedDataset
from samnet.training.distributed import Distributed
from samnet.training.open_run import open_run
from samnet.training.options import TrainingOptions
from samnet.training.out_of_memory import Fallback
from samnet.training.resolve import ResolvedRun, resolve_run
from samnet.training.run_cases import load_cases
from samnet.training.run_record import RunRecord

Resolve = Callable[..., ResolvedRun]


@pytest.fixture
def resolve(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Resolve:
    """Return a function that resolves a run, on all cases where no fold is given."""
    use_folders(prepared, tmp_path / "results", monkeypatch)

    def resolve_fold(
        configuration: str = "scratch", fold: str = "all", **options: Any
    ) -> ResolvedRun:
        dataset = PlannedDataset.find("501")
        given = TrainingOptions(device="cpu", workers=0, **options)
        return resolve_run(dataset, configuration, fold, given)

    return resolve_fold


def open_only(run: ResolvedRun) -> dict[str, torch.Tensor]:
    """Open a run as if it were killed before its first step; return the weights it begins with."""
    with open_run(run, Distributed()) as trainer:
        return {name: value.clone() for name, value in trainer.network.adapter().items()}


def train_steps(run: ResolvedRun, number: int) -> None:
    """Train as if the run were killed after some steps."""
    with open_run(run, Distributed()) as trainer:
        trainer.on_step = after_step(number, stop)
        with pytest.raises(Stopped):
            trainer.run()


def load_record(folder: RunFolder) -> RunRecord:
    record = RunRecord.load(folder)
    assert record is not None
    return record


def test_open_run_writes_plan_and_record(resolve: Resolve) -> None:
    run = resolve(seed=4)
    open_only(run)
    assert RunFolder(run.folder.path).plan == run.plan
    record = load_record(run.folder)
    assert record.request == run.request
    [session] = record.sessions
    assert (session.device, session.embeddings) == ("cpu", None)
    assert session.torch == torch.__version__


def test_trainer_gets_cases_and_options_of_the_run(resolve: Resolve) -> None:
    options = {"seed": 4, "max_seconds": 60.0, "save_seconds": 7.0}
    run = resolve(fold="0", **options)
    with open_run(run, Distributed(), ends_at=1e9) as trainer:
        task = trainer.task
    assert [case.identifier for case in task.training_cases] == run.cases.training
    assert [case.identifier for case in task.validation_cases] == run.cases.validation
    assert task.configuration == run.plan.single_configuration
    assert task.label_scheme == run.plan.label_scheme
    assert task.held_out
    assert (task.seed, task.max_seconds, task.ends_at) == (4, 60.0, 1e9)
    assert task.save_seconds == 7.0
    assert min(task.validation_seconds, task.prediction_seconds) > 0


def test_nothing_is_predicted_in_the_end_where_nothing_is_held_out(resolve: Resolve) -> None:
    with open_run(resolve(), Distributed()) as trainer:
        task = trainer.task
    assert not task.held_out
    assert task.validation_seconds > 0
    assert task.prediction_seconds == 0


def test_record_names_what_was_changed_for_want_of_memory(resolve: Resolve) -> None:
    fallback, run = Fallback(3, 1, False, "out of memory"), resolve()
    with open_run(run, Distributed()) as trainer:
        trainer.on_fallback(fallback)
    [session] = load_record(run.folder).sessions
    assert session.out_of_memory == [fallback]


def test_partial_files_of_a_killed_run_are_removed(resolve: Resolve) -> None:
    train_steps(resolve(), 3)
    partial = resolve().folder.path / f"{TEMPORARY_PREFIX}1-checkpoint_last.safetensors"
    partial.touch()
    open_only(resolve())
    assert not partial.exists()


def test_open_run_begins_with_weights_fixed_by_the_seed(resolve: Resolve) -> None:
    first, again = open_only(resolve(seed=4)), open_only(resolve(seed=4))
    other = open_only(resolve(seed=5))
    assert all(torch.equal(value, again[name]) for name, value in first.items())
    assert not all(torch.equal(value, other[name]) for name, value in first.items())


def first_inputs(run: ResolvedRun) -> torch.Tensor:
    """Return the first batch that a run trains on."""
    seen: list[torch.Tensor] = []
    with open_run(run, Distributed()) as trainer:
        trainer.network.register_forward_pre_hook(lambda network, inputs: seen.append(inputs[0]))
        trainer.on_step = after_step(1, stop)
        with pytest.raises(Stopped):
            trainer.run()
    return seen[0]


def test_open_run_trains_on_samples_fixed_by_the_seed(resolve: Resolve) -> None:
    first, again = first_inputs(resolve(seed=4)), first_inputs(resolve(seed=4))
    assert torch.equal(first, again)
    assert not torch.equal(first, first_inputs(resolve(seed=5)))


def test_record_lists_every_session_whose_state_is_resumed(resolve: Resolve) -> None:
    open_only(resolve())
    train_steps(resolve(), 3)  # the state of step 2 is saved
    assert len(load_record(resolve().folder).sessions) == 1  # the first session left nothing
    open_only(resolve())
    assert len(load_record(resolve().folder).sessions) == 2
    open_only(resolve(restart=True))
    assert len(load_record(resolve().folder).sessions) == 1


def test_open_run_resumes_the_saved_state(resolve: Resolve) -> None:
    train_steps(resolve(), 3)
    with open_run(resolve(), Distributed()) as trainer:
        assert (trainer.progress.step, trainer.progress.epoch) == (2, 1)
    with open_run(resolve(restart=True), Distributed()) as trainer:
        assert (trainer.progress.step, trainer.progress.epoch) == (0, 0)


@pytest.mark.usefixtures("cpu_bfloat16")
def test_run_is_resumed_on_a_cpu_without_units_for_bfloat16_with_a_note(
    resolve: Resolve, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    settings = {"precision": "bfloat16"}
    train_steps(resolve(settings=settings), 3)
    assert "on cpu in bfloat16" in caplog.text
    assert "single precision" not in caplog.text
    monkeypatch.setenv(VARIABLE, "0")
    with open_run(resolve(settings=settings), Distributed()) as trainer:
        assert trainer.progress.step == 2
        trainer.run()
    assert "trained in bfloat16 before, in float32 from here on" in caplog.text
    assert "this CPU is not faster in bfloat16: training in single precision; " in caplog.text
    assert "--device cpu plans for that" in caplog.text
    folder = resolve(settings=settings).folder
    assert [session.precision for session in load_record(folder).sessions] == [
        "bfloat16",
        "float32",
    ]


def test_open_run_removes_what_a_longer_run_makes_invalid(resolve: Resolve) -> None:
    with open_run(resolve(), Distributed()) as trainer:
        trainer.run()
    folder = resolve().folder
    folder.validation.mkdir()
    (folder.validation / "summary.json").touch()
    open_only(resolve(resume=True, settings={"steps": 8}))
    assert not folder.validation.exists()
    assert not folder.is_finished
    assert folder.checkpoint(LAST).is_file()


def test_open_run_removes_best_weights_without_a_state(resolve: Resolve) -> None:
    """They are those of a run that was killed before it saved its state."""
    run = resolve()
    open_only(run)
    run.folder.checkpoint(BEST).touch()
    open_only(resolve())
    assert not run.folder.checkpoint(BEST).exists()


def test_restart_that_cannot_begin_deletes_nothing(resolve: Resolve) -> None:
    with open_run(resolve(), Distributed()) as trainer:
        trainer.run()
    files = {file: file.read_bytes() for file in resolve().folder.path.iterdir()}
    run = resolve(restart=True, settings={"views": [1], "slicing_axis": 1})
    with pytest.raises(UserError, match=r"not prepared for the views \[1\]"):
        open_only(run)
    assert {file: file.read_bytes() for file in run.folder.path.iterdir()} == files
    assert run.folder.checkpoint(FINAL) in files


def test_folder_in_which_another_process_trains_is_refused(resolve: Resolve) -> None:
    with open_run(resolve(), Distributed()), pytest.raises(FolderBusy, match="fold_all"):
        open_only(resolve())


@pytest.mark.parametrize("moment", ["step", "validation", "stop", "out of memory"])
def test_run_that_has_lost_its_lock_writes_nothing_more(moment: str, resolve: Resolve) -> None:
    """It was suspended, and a process on another machine has resumed the run meanwhile."""
    folder = resolve().folder.path
    found: dict[Path, bytes] = {}

    def lose_lock() -> None:
        [lock] = folder.parent.glob(".*.samnet-lock")
        lock.write_text(json.dumps(asdict(FOREIGN)))
        found.update((file, file.read_bytes()) for file in folder.iterdir())
        if moment == "stop":
            send_signal(signal.SIGTERM)
        if moment == "out of memory":
            trainer.on_fallback(Fallback(3, 1, False, "out of memory"))

    with open_run(resolve(), Distributed()) as trainer:
        if moment == "validation":
            in_validation(trainer, 1, lose_lock)
        else:
            trainer.on_step = after_step(3, lose_lock)
        with pytest.raises(LockLost, match=r"fold_all\) writes nothing more there: .* on node7"):
            trainer.run()
    assert {file: file.read_bytes() for file in folder.iterdir()} == found


def test_batch_that_cannot_be_shared_is_refused_before_the_folder_is_made(
    resolve: Resolve,
) -> None:
    run = resolve(settings={"batch_size": 3})
    with pytest.raises(UserError, match="a batch of 3 cannot be split evenly over 2 processes"):
        run_as_second_of_two(run)
    assert not run.folder.path.exists()


def run_as_second_of_two(run: ResolvedRun) -> None:
    with open_run(run, Distributed(rank=1, world_size=2)):
        pytest.fail("the run was opened")


def test_resumed_run_keeps_its_choice_of_embeddings(resolve: Resolve) -> None:
    """Its samples depend on the choice, so a default that has changed since does not matter."""
    train_steps(resolve("frozen", cache_size=0.5), 3)
    [first] = load_record(resolve("frozen", cache_size=0.5).folder).sessions
    assert first.embeddings is not None
    longer = resolve("frozen", resume=True, settings={"augmentation": "none"})
    open_only(longer)
    assert load_record(longer.folder).sessions[-1].embeddings == first.embeddings


def test_another_cache_size_changes_the_embeddings_of_a_resumed_run(resolve: Resolve) -> None:
    train_steps(resolve("frozen", cache_size=0.5), 3)
    open_only(resolve("frozen", resume=True, cache_size=0.0))
    open_only(resolve("frozen", resume=True))
    run = resolve("frozen", resume=True, cache_size=0.7)
    open_only(run)
    kept = [session.embeddings for session in load_record(run.folder).sessions]
    assert [choice and choice.size for choice in kept] == [0.5, None, None, 0.7]


@pytest.mark.parametrize(
    ("options", "num_cases"),
    [({}, 6), ({"num_cases": 2}, 2), ({"num_patients": 3}, 3)],
    ids=["all folds", "fewer cases", "fewer patients"],
)
def test_bound_of_the_embeddings_is_shared_by_the_cases_of(
    resolve: Resolve, options: dict[str, int], num_cases: int
) -> None:
    run = resolve("frozen", "0", cache_size=0.5, **options)
    with open_run(run, Distributed()) as trainer:
        cache = trainer.task.embeddings
    assert cache is not None
    assert len(cache.cases) == num_cases


def test_changed_raw_files_are_pointed_out(
    resolve: Resolve,
    prepared: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING)
    shutil.copytree(prepared / "raw", tmp_path / "raw", copy_function=shutil.copyfile)
    monkeypatch.setenv("samnet_raw", str(tmp_path / "raw"))
    open_only(resolve())
    assert "have changed" not in caplog.text
    images = tmp_path / "raw" / "Dataset501_Tiny" / "imagesTr"
    shutil.copyfile(images / "case_01_0000.nii.gz", images / "case_04_0000.nii.gz")
    open_only(resolve(restart=True))
    assert "the raw files of 1 of 6 training cases have changed" in caplog.text
    assert "such as those of case_04" in caplog.text
    caplog.clear()
    images = tmp_path / "raw" / "Dataset501_Tiny" / "imagesUn"
    shutil.copyfile(images / "case_01_0000.nii.gz", images / "case_03_0000.nii.gz")
    open_only(resolve(restart=True))
    assert "without labels" not in caplog.text  # they are not learnt from
    open_only(resolve(restart=True, settings={"registered_cases": 1}))
    assert "the raw files of 1 of 6 cases without labels have changed" in caplog.text


@pytest.fixture
def alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_backbone: None) -> Resolve:
    """Return a function that resolves a run on volumes that show the same in slightly other places.

    Their images are there a second time without labels.
    """
    raw = write_dataset(tmp_path / "raw", num_cases=4)
    for number in range(4):
        image, labels = make_phantom(shift=(0.0, number - 1.5, 1.0), seed=number)
        name = f"case_{number:02d}"
        write_volume(raw / "imagesTr" / f"{name}_0000.nii.gz", 100 * image[0] + 1, np.eye(4))
        write_volume(raw / "labelsTr" / f"{name}.nii.gz", labels, np.eye(4))
    shutil.copytree(raw / "imagesTr", raw / "imagesUn")
    prepare_dataset(tmp_path, 501, monkeypatch, views=[0], slicing_axis=0, registered_cases=3)

    def resolve_fold(**options: Any) -> ResolvedRun:
        given = TrainingOptions(device="cpu", workers=0, **options)
        return resolve_run(PlannedDataset.find("501"), "scratch", "all", given)

    return resolve_fold


def test_cases_without_labels_are_trained_on_with_those_that_registration_finds(
    alike: Resolve, caplog: pytest.LogCaptureFixture
) -> None:
    run = alike(num_cases=1)
    with caplog.at_level(logging.INFO), open_run(run, Distributed()) as trainer:
        labelled, *registered = trainer.task.training_cases
        assert not trainer.task.unlabelled_cases
    assert "labels were taken over for 3 of 4 cases" in caplog.text
    assert (labelled.identifier, labelled.labels_folder) == (run.request.training_cases[0], None)
    assert [case.labels_folder for case in registered] == [run.folder.registered_labels] * 2
    others = load_cases(run.dataset.folder.slices, [case.identifier for case in registered], [0])
    for case, truth in zip(registered, others, strict=True):
        assert overlap(case.labels(), truth.labels()) > 0.85
        assert case.record.class_slices["0"]["1"]  # slices are drawn by class
    before = {file: file.stat().st_mtime_ns for file in run.folder.registered_labels.iterdir()}
    train_steps(alike(num_cases=1), 2)
    after = {file: file.stat().st_mtime_ns for file in run.folder.registered_labels.iterdir()}
    assert after == before
    # Of a run without a state, nothing is kept that other values would not give.
    with open_run(alike(num_cases=1, settings={"registered_cases": 1}), Distributed()) as trainer:
        assert len(trainer.task.training_cases) == 2


def test_labels_that_do_not_fit_are_pointed_out_and_not_trained_on(
    resolve: Resolve, caplog: pytest.LogCaptureFixture
) -> None:
    run = resolve(settings={"registered_cases": 3})  # balls lie elsewhere in each image
    with open_run(run, Distributed()) as trainer:
        cases = trainer.task.training_cases
    assert tuple(case.identifier for case in cases) == run.request.training_cases
    warning = next(record for record in caplog.records if record.levelname == "WARNING")
    assert "learnt from" in warning.getMessage()
