from __future__ import annotations

import json
import multiprocessing
import os
import random
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
    one_process,
    prepare_dataset,
    tiny_backbone,
    use_folders,
)

from samnet.cli.train import main
from samnet.core.files import TEMPORARY_PREFIX
from samnet.dataset.images import read_labels
from samnet.training.checkpoint import BEST, FINAL, LAST, read_progress
from samnet.training.loop import Trainer

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
    one_process(monkeypatch)
    return tmp_path / NAME / "lora"


def train(*options: str, fold: str = "all") -> int:
    return main(["501", "lora", fold, "--device", "cpu", "--workers", "0", *options])


def asked(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "run.json").read_text())["asked"]


def stop_at_step(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    plain_step = Trainer._step

    def step(self: Trainer, *batch: Any) -> float:
        if self.progress.step == number:
            monkeypatch.setattr(Trainer, "_step", plain_step)
            os.kill(os.getpid(), signal.SIGTERM)
        return plain_step(self, *batch)

    monkeypatch.setattr(Trainer, "_step", step)


def test_without_workers_no_process_is_started(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*arguments: Any, **options: Any) -> None:
        raise AssertionError("a process was started")

    use_folders(root, tmp_path, monkeypatch)
    monkeypatch.setattr("samnet.core.worker_pool.ProcessPoolExecutor", forbidden)
    assert train(fold="0") == 0
    assert (tmp_path / NAME / "lora" / "fold_0" / "validation" / "summary.json").is_file()


def test_a_fold_is_trained_validated_and_then_left_alone(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train("--seed", "4", fold="0") == 0
    folder = results / "fold_0"
    record = asked(folder)
    assert (record["seed"], record["fold"], record["max_seconds"]) == (4, "0", None)
    assert record["configuration"]["backbone"] == "tiny"
    assert record["data_key"]
    assert json.loads((folder / "run.json").read_text())["sittings"][0]["device"] == "cpu"

    predicted = sorted(file.name for file in (folder / "validation").glob("*.nii.gz"))
    held_out = {f"case_{number:02d}" for number in range(6)} - set(record["training_cases"])
    assert predicted == sorted(f"{case}.nii.gz" for case in held_out)
    assert read_labels(folder / "validation" / predicted[0]).array.shape == (1, 5, 24, 20)
    summary = json.loads((folder / "validation" / "summary.json").read_text())
    assert len(summary["metric_per_case"]) == len(predicted)

    before = {file: file.stat().st_mtime_ns for file in folder.rglob("*")}
    assert train("--seed", "4", fold="0") == 0
    assert "is finished" in capsys.readouterr().err
    assert {file: file.stat().st_mtime_ns for file in folder.rglob("*")} == before


def test_raw_files_that_changed_since_they_were_prepared_are_pointed_out(
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


def test_another_device_than_the_planned_one_is_pointed_out(
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
    assert (
        f"planned for cuda with 16 GiB, and trained on cpu: samnet_plan -d {NAME} --device cpu plans for"
        in message
    )


def test_fold_0_is_the_default_and_cv_is_all_folds(
    results: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = []
    monkeypatch.setattr(
        "samnet.training.run.train", lambda name, configuration, fold, *_: trained.append(fold)
    )
    assert main(["501", "lora"]) == 0
    assert main(["501", "lora", "cv"]) == 0
    assert trained == ["0", "0", "1", "2", "3", "4"]


def test_cv_goes_on_where_it_was(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stop_at_step(monkeypatch, 3)
    assert train("--steps", "4", fold="1") == 75
    assert train("--continue", "--steps", "2", "--set", "patience=0", fold="cv") == 0
    folders = [results / f"fold_{number}" for number in range(5)]
    assert [read_progress(folder / LAST).step for folder in folders] == [2, 4, 2, 2, 2]
    assert all((folder / "validation" / "summary.json").is_file() for folder in folders)


def test_other_settings_are_refused_until_told_to_restart(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train() == 0
    before = (results / "fold_all" / FINAL).read_bytes()
    assert train("--lr", "1e-4") == 2
    assert "a finished training with other settings" in capsys.readouterr().err
    assert (results / "fold_all" / FINAL).read_bytes() == before
    assert train("--lr", "1e-4", "--restart") == 0
    assert (results / "fold_all" / FINAL).read_bytes() != before
    assert len((results / "fold_all" / "metrics.jsonl").read_text().splitlines()) == 3


def test_a_restart_that_cannot_begin_deletes_nothing(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train() == 0
    assert train("--restart", "--set", "views=[1]", "--set", "slicing_axis=1") == 2
    assert "not prepared for the views [1]" in capsys.readouterr().err
    assert (results / "fold_all" / FINAL).is_file()


def test_an_interrupted_run_goes_on_with_the_same_command(
    results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stop_at_step(monkeypatch, 3)
    assert train() == 75
    assert (
        "stopped by SIGTERM; state saved at step 4; the same command goes on"
        in capsys.readouterr().err
    )
    assert train("--batch-size", "3") == 2
    assert (
        "an unfinished training with other settings; --continue goes on with it"
        in capsys.readouterr().err
    )
    assert train() == 0
    assert read_progress(results / "fold_all" / LAST).step == 6
    assert len(json.loads((results / "fold_all" / "run.json").read_text())["sittings"]) == 2


@pytest.mark.parametrize("number", ["--num-cases", "--num-patients"])
def test_continue_keeps_what_it_is_not_told(
    results: Path, monkeypatch: pytest.MonkeyPatch, number: str
) -> None:
    """Seed, cases and time of the beginning, also without their flags."""
    began = ["--seed", "5", number, "3", "--max-time", "1h"]
    stop_at_step(monkeypatch, 1)
    assert train(*began) == 75
    before = asked(results / "fold_all")
    assert train("--continue", "--lr", "1e-4") == 0
    after = asked(results / "fold_all")
    assert len(after["training_cases"]) == 3
    assert (after["seed"], after["max_seconds"]) == (5, 3600.0)
    before["configuration"]["learning_rate"] = 1e-4
    assert after == before


def test_a_finished_run_is_prolonged_by_continue(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = results / "fold_0"
    assert train("--steps", "2", fold="0") == 0
    assert train("--continue", fold="0") == 0
    assert "is finished" in capsys.readouterr().err
    (folder / "validation" / "old.txt").touch()
    assert train("--continue", "--steps", "4", fold="0") == 0
    assert read_progress(folder / LAST).step == 4
    assert [
        json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()
    ] == [2, 4]
    assert not (folder / "validation" / "old.txt").exists()
    assert (folder / "validation" / "summary.json").is_file()
    assert train("--continue", "--epochs", "2", fold="0") == 0  # the same four steps
    assert read_progress(folder / LAST).step == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--seed", "9"], "began with another seed"),
        (["--num-cases", "2"], "began with another training_cases"),
        (["--set", "head=mask_decoder"], "began with head 'upsampling', not 'mask_decoder'"),
        (["--backbone", "small"], "began with backbone 'tiny', not 'small'"),
    ],
)
def test_continue_does_not_change_what_the_weights_rest_on(
    results: Path,
    options: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    stop_at_step(monkeypatch, 0)
    assert train() == 75
    files = {file: file.read_bytes() for file in (results / "fold_all").iterdir()}
    assert train("--continue", *options) == 2
    assert message in capsys.readouterr().err
    assert {file: file.read_bytes() for file in (results / "fold_all").iterdir()} == files


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        (["501", "lora", "--continue"], "there is no training in"),
        (["501", "lora", "7"], "choose from 0 to 4, all, or cv"),
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
def test_what_cannot_be_trained_is_a_users_error(
    results: Path, typed: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(typed) == 2
    assert message in capsys.readouterr().err
    assert not results.exists()


@pytest.mark.parametrize(
    "options", [["--max-time", "soon"], ["--lr", "0"], ["--continue", "--restart"], ["--step", "3"]]
)
def test_bad_options_are_refused(options: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["501", "lora", *options])
    assert caught.value.code == 2


def test_an_unplanned_data_set_is_told_the_command(
    results: Path,
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("samnet_preprocessed", str(tmp_path / "empty"))
    assert train() == 2
    assert f"run samnet_plan_and_preprocess -d {NAME}" in capsys.readouterr().err


def test_flags_are_values_of_the_plan_and_recorded(results: Path) -> None:
    """A warm-up longer than a tenth of the steps would leave no training."""
    flags = [
        "--epochs",
        "1",
        "--lr",
        "0.002",
        "--batch-size",
        "1",
        "--backbone",
        "tiny",
        "--set",
        "patience=3",
    ]
    assert train(*flags) == 0
    used = asked(results / "fold_all")["configuration"]
    expected = {
        "steps": 2,
        "steps_per_epoch": 2,
        "learning_rate": 0.002,
        "batch_size": 1,
        "patience": 3,
    }
    assert used | expected == used
    assert used["warmup_steps"] == 0


def test_max_time_ends_a_training_successfully(results: Path) -> None:
    assert train("--steps", "100000", "--max-time", "0.3s", fold="0") == 0
    assert read_progress(results / "fold_0" / LAST).step < 1000
    assert (results / "fold_0" / BEST).is_file()


PROGRAM = """
import sys
sys.path.insert(0, {tests!r})
import pytest
from builders.tiny import add_tiny_backbone
add_tiny_backbone(pytest.MonkeyPatch())
from samnet.cli.train import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen]]:
    """Start a training in a process group of its own; what is left of it at the end is killed."""
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


def test_killed_at_any_moment_it_ends_in_the_same_weights(
    results: Path,
    tmp_path: Path,
    root: Path,
    start: Callable[..., subprocess.Popen],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options = ["--steps", "24", "--workers", "0"]
    folder = results / "fold_all"
    for _ in range(2):
        before = date_of(folder / LAST)
        process = start(*options)
        wait_for(lambda before=before: date_of(folder / LAST) > before, process)
        time.sleep(random.uniform(0, 0.5))
        process.kill()
        process.wait()
        assert all(
            json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()
        )
    assert train(*options) == 0
    assert not list(folder.rglob(f"{TEMPORARY_PREFIX}*"))
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == list(range(1, 13))

    use_folders(root, tmp_path / "undisturbed", monkeypatch)
    assert train(*options) == 0
    undisturbed = tmp_path / "undisturbed" / NAME / "lora" / "fold_all"
    assert (folder / FINAL).read_bytes() == (undisturbed / FINAL).read_bytes()


def test_a_signal_for_the_whole_group_saves_and_leaves_no_process(
    results: Path, start: Callable[..., subprocess.Popen]
) -> None:
    """As `scancel`, `timeout` and Ctrl-C send it: also to the processes that prepare samples."""
    process = start("--steps", "100000", "--workers", "1")
    wait_for((results / "fold_all" / LAST).is_file, process)
    os.killpg(process.pid, signal.SIGTERM)
    printed = process.communicate()[1]
    assert process.returncode == 75
    assert "state saved" in printed
    assert "Traceback" not in printed
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)
    assert read_progress(results / "fold_all" / LAST).step > 0
    assert multiprocessing.active_children() == []
