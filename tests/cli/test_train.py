from __future__ import annotations

import functools
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from builders.data import write_dataset
from builders.tiny import (
    add_tiny_backbone,
    prepare_dataset,
    tiny_backbone,
    use_folders,
)

from samnet.cli.named_positionals import read_named_positionals
from samnet.cli.train import COMMAND, main
from samnet.core.files import TEMPORARY_PREFIX
from samnet.dataset.images import read_labels
from samnet.fingerprint.training_data import TrainingData
from samnet.models.model_folder import FINAL, LAST, RunFolder
from samnet.training.checkpoint import read_progress
from samnet.training.loop import Trainer
from samnet.training.run_record import RunRecord

__all__ = ["tiny_backbone"]
NAME = "Dataset501_Tiny"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared")
    with pytest.MonkeyPatch.context() as patch:
        add_tiny_backbone(patch)
        write_dataset(folder / "raw", shape=(5, 24, 20))
        prepare_dataset(folder, 501, patch, views=[0], slicing_axis=0)
    return folder


@pytest.fixture
def results(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The results folder of the configuration."""
    use_folders(root, tmp_path, monkeypatch)
    return tmp_path / NAME / "lora"


def train(*options: str, fold: str = "all") -> int:
    return main(["501", "lora", fold, "--device", "cpu", "--workers", "0", *options])


def train_until(step: int, *options: str, fold: str = "all") -> int:
    """Train, and send this process SIGTERM when so many steps are done."""

    def stop(done: int, loss: float) -> None:
        if done == step:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.MonkeyPatch.context() as patch:
        stopping_trainer = functools.partial(Trainer, on_step=stop)
        patch.setattr("samnet.training.open_run.Trainer", stopping_trainer)
        return train(*options, fold=fold)


def read_record(folder: Path) -> RunRecord:
    record = RunRecord.load(RunFolder(folder))
    assert record is not None
    return record


def checkpoint(folder: Path, kind: str) -> Path:
    return RunFolder(folder).checkpoint(kind)


def steps_done(folder: Path) -> int:
    return read_progress(checkpoint(folder, LAST)).step


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The rows of the epochs."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_train_takes_flags_in_place_of_the_order(results: Path) -> None:
    words = ["-d", "501", "-c", "lora", "-f", "all", "--device", "cpu", "--workers", "0"]
    assert main([*words, "--steps", "1"]) == 0
    assert read_record(results / "fold_all").request.fold == "all"


@pytest.mark.parametrize(("options", "saved"), [(["--save-every", "1e-6s"], True), ([], False)])
def test_train_saves_the_state_as_often_as_it_is_told(
    results: Path, options: list[str], saved: bool
) -> None:
    """The first step is in the middle of an epoch, at whose end the state is saved anyway."""
    found: list[bool] = []

    def look(step: int, loss: float) -> None:
        found.append(checkpoint(results / "fold_all", LAST).is_file())

    with pytest.MonkeyPatch.context() as patch:
        looking_trainer = functools.partial(Trainer, on_step=look)
        patch.setattr("samnet.training.open_run.Trainer", looking_trainer)
        assert train("--steps", "2", *options) == 0
    assert found == [saved, saved]


def test_train_takes_fold_0_by_default_in_both_forms() -> None:
    for words in (["8", "lora"], ["-d", "8", "-c", "lora"]):
        options = COMMAND.parser().parse_args(words)
        read_named_positionals(options, ("dataset", "configuration"), {"fold": "0"})
        assert (options.dataset, options.configuration, options.fold) == ("8", "lora", "0")


def test_train_starts_no_process_without_workers(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*arguments: Any, **options: Any) -> None:
        raise AssertionError("a process was started")

    use_folders(root, tmp_path, monkeypatch)
    monkeypatch.setattr("samnet.core.worker_processes.ProcessPoolExecutor", forbidden)
    assert train(fold="0") == 0
    assert (tmp_path / NAME / "lora" / "fold_0" / "validation" / "summary.json").is_file()


def test_train_trains_and_validates_a_fold_and_then_leaves_it_unchanged(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train("--seed", "4", fold="0") == 0
    folder = results / "fold_0"
    record = read_record(folder)
    request = record.request
    assert (request.seed, request.fold, request.max_seconds) == (4, "0", None)
    assert request.configuration["backbone"] == "tiny"
    assert request.data_key
    assert record.sessions[0].device == "cpu"
    assert set(json.loads((folder / "run.json").read_text())) == {"request", "sessions"}

    training_data = TrainingData.load(folder / "training_data.json")
    assert training_data.num_cases == len(request.training_cases)
    assert training_data.spacing == ((2.0, 2.0), (1.0, 1.0), (1.0, 1.0))

    predicted = sorted(file.name for file in (folder / "validation").glob("*.nii.gz"))
    held_out = {f"case_{number:02d}" for number in range(6)} - set(request.training_cases)
    assert predicted == sorted(f"{case}.nii.gz" for case in held_out)
    assert read_labels(folder / "validation" / predicted[0]).array.shape == (1, 5, 24, 20)
    summary = json.loads((folder / "validation" / "summary.json").read_text())
    assert len(summary["metric_per_case"]) == len(predicted)

    before = {file: file.stat().st_mtime_ns for file in folder.rglob("*")}
    assert train("--seed", "4", fold="0") == 0
    assert "is finished" in capsys.readouterr().err
    assert {file: file.stat().st_mtime_ns for file in folder.rglob("*")} == before


def test_train_warns_of_raw_files_that_changed_after_they_were_prepared(
    results: Path,
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    raw = tmp_path / "raw"
    shutil.copytree(root / "raw", raw, copy_function=shutil.copyfile)
    monkeypatch.setenv("samnet_raw", str(raw))
    assert train("--steps", "1") == 0
    assert "have changed" not in capsys.readouterr().err
    images = raw / NAME / "imagesTr"
    shutil.copyfile(images / "case_01_0000.nii.gz", images / "case_04_0000.nii.gz")
    assert train("--steps", "1", "--restart") == 0
    message = capsys.readouterr().err
    assert "the raw files of 1 of 6 training cases have changed" in message
    assert "such as those of case_04: run samnet_plan_and_preprocess again" in message


def test_train_warns_of_another_device_than_the_planned_one(
    results: Path,
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert train("--steps", "1") == 0
    assert "is planned for" not in capsys.readouterr().err
    shutil.copytree(root / "preprocessed", tmp_path / "preprocessed")
    monkeypatch.setenv("samnet_preprocessed", str(tmp_path / "preprocessed"))
    file = tmp_path / "preprocessed" / NAME / "samnetPlans.json"
    content = json.loads(file.read_text())
    content["machine"] = {"device": "cuda", "memory": 16.0}
    file.write_text(json.dumps(content))
    assert train("--steps", "1", "--restart") == 0
    message = " ".join(capsys.readouterr().err.split())
    expected = (
        "planned for cuda with 16 GiB, and trained on cpu: "
        f"samnet_plan -d {NAME} --device cpu plans for"
    )
    assert expected in message


def test_train_takes_fold_0_by_default_and_all_folds_for_cv(
    results: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = []

    def note(dataset: Any, configuration: str, fold: str, *rest: Any, **options: Any) -> RunFolder:
        trained.append(fold)
        return RunFolder(results / f"fold_{fold}")

    monkeypatch.setattr("samnet.training.run.train", note)
    assert main(["501", "lora"]) == 0
    assert main(["501", "lora", "cv"]) == 0
    assert trained == ["0", "0", "1", "2", "3", "4"]


def test_train_cv_continues_the_folds_that_have_begun(results: Path) -> None:
    assert train_until(4, "--steps", "4", fold="1") == 75
    assert train("--continue", "--steps", "2", "--set", "patience=0", fold="cv") == 0
    folders = [results / f"fold_{number}" for number in range(5)]
    assert [steps_done(folder) for folder in folders] == [2, 4, 2, 2, 2]
    assert all((folder / "validation" / "summary.json").is_file() for folder in folders)


def test_train_refuses_other_settings_except_with_restart(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    final = checkpoint(results / "fold_all", FINAL)
    assert train() == 0
    before = final.read_bytes()
    assert train("--lr", "1e-4") == 2
    assert "a finished training run with other settings" in capsys.readouterr().err
    assert final.read_bytes() == before
    assert train("--lr", "1e-4", "--restart") == 0
    assert final.read_bytes() != before
    assert len(read_metrics(results / "fold_all")) == 3


def test_train_restart_deletes_nothing_where_it_cannot_begin(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train() == 0
    assert train("--restart", "--set", "views=[1]", "--set", "slicing_axis=1") == 2
    assert "not prepared for the views [1]" in capsys.readouterr().err
    assert checkpoint(results / "fold_all", FINAL).is_file()


def test_the_same_command_resumes_an_interrupted_run(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train_until(4) == 75
    stopped = "stopped by SIGTERM; state saved at step 4; the same command resumes it"
    assert stopped in capsys.readouterr().err
    assert train("--batch-size", "3") == 2
    refused = "with other settings (batch_size 2, now 3); --continue resumes it"
    assert refused in capsys.readouterr().err
    assert train() == 0
    assert steps_done(results / "fold_all") == 6
    assert len(read_record(results / "fold_all").sessions) == 2


@pytest.mark.parametrize("number", ["--num-cases", "--num-patients"])
def test_continue_keeps_the_options_that_are_not_given_again(results: Path, number: str) -> None:
    """These are the seed, the cases and the time limit of the beginning."""
    folder = results / "fold_all"
    assert train_until(2, "--seed", "5", number, "3", "--max-time", "1h") == 75
    before = read_record(folder).request
    assert train("--continue", "--lr", "1e-4") == 0
    after = read_record(folder).request
    assert len(after.training_cases) == 3
    assert (after.seed, after.max_seconds) == (5, 3600.0)
    before.configuration["learning_rate"] = 1e-4
    assert after == before


def test_continue_prolongs_a_finished_run(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = results / "fold_0"
    assert train("--steps", "2", fold="0") == 0
    assert train("--continue", fold="0") == 0
    assert "is finished" in capsys.readouterr().err
    (folder / "validation" / "old.txt").touch()
    assert train("--continue", "--steps", "4", fold="0") == 0
    assert steps_done(folder) == 4
    assert [row["step"] for row in read_metrics(folder)] == [2, 4]
    assert not (folder / "validation" / "old.txt").exists()
    assert (folder / "validation" / "summary.json").is_file()
    assert train("--continue", "--epochs", "2", fold="0") == 0  # the same four steps
    assert steps_done(folder) == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--seed", "9"], "began with another seed"),
        (["--num-cases", "2"], "began with another training_cases"),
        (["--set", "head=mask_decoder"], "began with head 'upsampling', not 'mask_decoder'"),
        (["--backbone", "small"], "began with backbone 'tiny', not 'small'"),
    ],
)
def test_continue_refuses_to_change_what_the_weights_rest_on(
    results: Path, options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train_until(1) == 75
    files = {file: file.read_bytes() for file in (results / "fold_all").iterdir()}
    assert train("--continue", *options) == 2
    assert message in capsys.readouterr().err
    assert {file: file.read_bytes() for file in (results / "fold_all").iterdir()} == files


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (["501", "lora", "--continue"], "--continue: there is no training"),
        (["501", "lora", "7"], "choose from 0, 1, 2, 3, 4, all, or cv"),
        (["-d", "501", "-c", "lora", "-f", "7"], "fold '7': choose from 0, 1, 2, 3, 4, all, or cv"),
        (["501", "-c", "lora"], "'501' is given in order and '--configuration lora' by flags"),
        (["501", "lora", "-f", "0"], "'501 lora' is given in order and '--fold 0' by flags"),
        (["-d", "501", "-c", "lora", "-f", "0", "1"], "'1' is given in order"),
        (["501"], "configuration missing; write for example 8 lora 0, or -d 8 -c lora -f 0"),
        (["-c", "lora"], "dataset missing"),
        ([], "dataset and configuration missing"),
        (["501", "lore"], "no configuration 'lore'; it has"),
        (["502", "lora"], "no data set '502'"),
        (["501", "lora", "--epochs", "2", "--steps", "3"], "give one"),
        (["501", "lora", "--num-cases", "7"], "fold 0 has"),
        (["501", "lora", "--num-patients", "7"], "fold 0 has"),
        (["501", "lora", "--set", "zom=2"], "zom"),
        (["501", "lora", "--set", "steps=many"], "steps"),
        (["501", "lora", "--epochs", "2", "--set", "steps_per_epoch=x"], "steps_per_epoch"),
        (["501", "lora", "--backbone", "vit_x"], "vit_x"),
        (["501", "lora", "--device", "tpu"], "--device tpu"),
    ],
)
def test_train_refuses_what_it_cannot_train(
    results: Path, typed: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(typed) == 2
    assert message in capsys.readouterr().err
    assert not results.exists()


@pytest.mark.parametrize(
    "options", [["--max-time", "soon"], ["--lr", "0"], ["--continue", "--restart"], ["--step", "3"]]
)
def test_train_refuses_bad_options(options: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["501", "lora", *options])
    assert caught.value.code == 2


def test_train_names_the_command_that_plans_a_data_set(
    results: Path,
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("samnet_preprocessed", str(tmp_path / "empty"))
    assert train() == 2
    assert f"run samnet_plan_and_preprocess -d {NAME}" in capsys.readouterr().err


def test_train_records_its_flags_as_values_of_the_plan(results: Path) -> None:
    """The warm-up is shortened too: two steps would be nothing else."""
    rates = ["--epochs", "1", "--lr", "0.002", "--batch-size", "1"]
    assert train(*rates, "--backbone", "tiny", "--set", "patience=3") == 0
    used = read_record(results / "fold_all").request.configuration
    expected = {
        "steps": 2,
        "steps_per_epoch": 2,
        "learning_rate": 0.002,
        "batch_size": 1,
        "patience": 3,
    }
    assert used | expected == used
    assert used["warmup_steps"] == 0


def test_train_succeeds_when_max_time_is_over(results: Path) -> None:
    assert train("--steps", "100000", "--max-time", "0.3s", fold="0") == 0
    assert steps_done(results / "fold_0") < 1000
    assert checkpoint(results / "fold_0", FINAL).is_file()


def test_same_command_predicts_what_max_time_left_out(
    results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each command predicts one case at least, and the last one computes the scores."""
    monkeypatch.setattr("samnet.training.final_validation.GRACE_SECONDS", -1000.0)
    command = functools.partial(train, "--steps", "100000", "--max-time", "0.3s", fold="0")
    validation = results / "fold_0" / "validation"
    assert command() == 0
    assert len(list(validation.glob("*.nii.gz"))) == 1
    assert not (validation / "summary.json").exists()
    assert "1 of 2 held-out cases are not predicted yet" in capsys.readouterr().err
    done = steps_done(results / "fold_0")
    assert command() == 0
    assert len(list(validation.glob("*.nii.gz"))) == 2
    assert (validation / "summary.json").is_file()
    assert steps_done(results / "fold_0") == done


PROGRAM = """
import sys
sys.path.insert(0, {tests!r})
import pytest
from builders.tiny import add_tiny_backbone
add_tiny_backbone(pytest.MonkeyPatch())
from samnet.cli.named_positionals import read_named_positionals
from samnet.cli.train import COMMAND, main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen]]:
    """Start a training run in a new process group; what is left of it at the end is killed."""
    started: list[subprocess.Popen] = []

    def start_training(*options: str) -> subprocess.Popen:
        command = [
            sys.executable,
            "-c",
            PROGRAM.format(tests=str(Path(__file__).parents[1])),
            "501",
            "lora",
            "all",
        ]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        started.append(
            subprocess.Popen(
                [*command, "--device", "cpu", *options],
                env=environment,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
        )
        return started[-1]

    yield start_training
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def wait_for(condition: Callable[[], bool], process: subprocess.Popen) -> None:
    while not condition():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.02)


def date_of(file: Path) -> int:
    return file.stat().st_mtime_ns if file.is_file() else 0


def test_train_ends_in_the_same_weights_after_it_was_killed(
    results: Path,
    tmp_path: Path,
    root: Path,
    start: Callable[..., subprocess.Popen],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Once just after the state was saved, once between the row of an epoch and its state."""
    options = ["--steps", "24", "--workers", "0"]
    folder = results / "fold_all"
    moments = (
        lambda: date_of(checkpoint(folder, LAST)),
        lambda: (folder / "metrics.jsonl").read_text().count("\n"),
    )
    for state_of in moments:
        before = state_of()
        process = start(*options)
        wait_for(lambda state_of=state_of, before=before: state_of() > before, process)
        process.kill()
        process.wait()
        assert all(row["step"] for row in read_metrics(folder))
    assert train(*options) == 0
    assert not list(folder.rglob(f"{TEMPORARY_PREFIX}*"))
    assert [row["epoch"] for row in read_metrics(folder)] == list(range(1, 13))

    use_folders(root, tmp_path / "undisturbed", monkeypatch)
    assert train(*options) == 0
    undisturbed = tmp_path / "undisturbed" / NAME / "lora" / "fold_all"
    expected = checkpoint(undisturbed, FINAL).read_bytes()
    assert checkpoint(folder, FINAL).read_bytes() == expected


def test_train_saves_and_leaves_no_process_when_its_whole_group_is_signalled(
    results: Path, start: Callable[..., subprocess.Popen]
) -> None:
    """`scancel`, `timeout` and Ctrl-C also send it to the processes that prepare samples."""
    process = start("--steps", "100000", "--workers", "1")
    wait_for(checkpoint(results / "fold_all", LAST).is_file, process)
    os.killpg(process.pid, signal.SIGTERM)
    printed = process.communicate()[1]
    assert process.returncode == 75
    assert "state saved" in printed
    assert "Traceback" not in printed
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)
    assert steps_done(results / "fold_all") > 0
    assert multiprocessing.active_children() == []
