"""Tasks of job arrays: through the command line, their parts are disjoint and complete."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from builders.data import write_dataset
from builders.tiny import add_tiny_backbone, make_model, prepare_dataset, tiny_backbone, use_folders

from samnet.cli import plan_and_preprocess, predict, preprocess

__all__ = ["tiny_backbone"]
NAME = "Dataset501_Tiny"
CASES = [f"case_{number:02d}" for number in range(5)]
NUM_PARTS = 3
# What a scheduler tells the task of a number from 0, and what the user has to add.
SCHEDULERS: dict[str, tuple[Callable[[int], dict[str, str]], list[str]]] = {
    "SLURM": (
        lambda task: {
            "SLURM_ARRAY_TASK_ID": str(task),
            "SLURM_ARRAY_TASK_MIN": "0",
            "SLURM_ARRAY_TASK_COUNT": str(NUM_PARTS),
        },
        [],
    ),
    "SLURM in steps": (
        lambda task: {
            "SLURM_ARRAY_TASK_ID": str(10 + 5 * task),
            "SLURM_ARRAY_TASK_MIN": "10",
            "SLURM_ARRAY_TASK_STEP": "5",
            "SLURM_ARRAY_TASK_COUNT": str(NUM_PARTS),
        },
        [],
    ),
    "LSF": (
        lambda task: {"LSB_JOBINDEX": str(task + 1), "LSB_JOBINDEX_END": str(NUM_PARTS)},
        [],
    ),
    "PBS": (lambda task: {"PBS_ARRAY_INDEX": str(task)}, ["--num-parts", str(NUM_PARTS)]),
    "Kubernetes": (
        lambda task: {"JOB_COMPLETION_INDEX": str(task)},
        ["--num-parts", str(NUM_PARTS)],
    ),
    "none": (lambda task: {}, ["--num-parts", str(NUM_PARTS)]),
}


@pytest.fixture(scope="module")
def planned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a planned data set of five cases."""
    root = tmp_path_factory.mktemp("planned")
    with pytest.MonkeyPatch.context() as patch:
        add_tiny_backbone(patch)
        write_dataset(root / "raw", num_cases=len(CASES), shape=(4, 20, 24))
        prepare_dataset(root, 501, patch, views=[0], slicing_axis=0)
    return root


@pytest.fixture
def folder(planned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the planned data set, of which no case is prepared."""
    shutil.copytree(planned / "preprocessed", tmp_path / "preprocessed")
    use_folders(planned, tmp_path / "results", monkeypatch)
    monkeypatch.setenv("samnet_preprocessed", str(tmp_path / "preprocessed"))
    shutil.rmtree(tmp_path / "preprocessed" / NAME / "slices")
    return tmp_path / "preprocessed" / NAME


def take_prepared(folder: Path) -> list[str]:
    """Return the cases that are prepared, and remove them."""
    found = sorted(file.stem for file in (folder / "slices").glob("case_*.json"))
    shutil.rmtree(folder / "slices", ignore_errors=True)
    return found


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_preprocess_as_tasks_of_an_array_prepares_every_case_once(
    folder: Path, scheduler: str
) -> None:
    variables, options = SCHEDULERS[scheduler]
    parts = []
    for task in range(NUM_PARTS):
        by_hand = [] if variables(task) else ["--part-id", str(task)]
        with pytest.MonkeyPatch.context() as patch:
            for name, value in variables(task).items():
                patch.setenv(name, value)
            assert preprocess.main(["-d", "501", "-np", "0", *options, *by_hand]) == 0
        parts.append(take_prepared(folder))
    assert sorted(itertools.chain(*parts)) == CASES
    assert [len(part) for part in parts] == [2, 2, 1]


@pytest.mark.parametrize("scheduler", ["PBS", "Kubernetes"])
def test_preprocess_takes_all_cases_where_the_number_of_tasks_is_not_told(
    folder: Path, scheduler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in SCHEDULERS[scheduler][0](1).items():
        monkeypatch.setenv(name, value)
    assert preprocess.main(["-d", "501", "-np", "0"]) == 0
    assert take_prepared(folder) == CASES


def test_options_come_before_what_the_scheduler_says(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in SCHEDULERS["SLURM"][0](2).items():
        monkeypatch.setenv(name, value)
    given = ["--num-parts", "5", "--part-id", "4"]
    assert preprocess.main(["-d", "501", "-np", "0", *given]) == 0
    assert take_prepared(folder) == CASES[4:]
    assert preprocess.main(["-d", "501", "-np", "0", "--part-id", "0"]) == 0
    assert take_prepared(folder) == [CASES[0], CASES[3]]


def test_plan_and_preprocess_as_tasks_of_an_array_prepares_every_case_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Measuring a step takes seconds for each configuration; this is its memory in GiB.
    monkeypatch.setattr("samnet.training.dry_run.measure_step", lambda *configuration: 0.5)
    parts = []
    for task in range(NUM_PARTS):
        with pytest.MonkeyPatch.context() as patch:
            for name, value in SCHEDULERS["SLURM"][0](task).items():
                patch.setenv(name, value)
            words = ["-d", "501", "-np", "0", "--device", "cpu", "--no-verify"]
            assert plan_and_preprocess.main(words) == 0
        parts.append(take_prepared(folder))
    assert sorted(itertools.chain(*parts)) == CASES
    assert [len(part) for part in parts] == [2, 2, 1]


def test_predict_as_tasks_of_an_array_predicts_every_case_once(
    folder: Path, planned: Path, tmp_path: Path
) -> None:
    make_model(tmp_path / "results" / NAME / "lora" / "fold_0")
    images = planned / "raw" / NAME / "imagesTr"
    parts = []
    for task in range(NUM_PARTS):
        output = tmp_path / f"part_{task}"
        with pytest.MonkeyPatch.context() as patch:
            for name, value in SCHEDULERS["LSF"][0](task).items():
                patch.setenv(name, value)
            words = ["-i", str(images), "-o", str(output), "--device", "cpu"]
            assert predict.main(words) == 0
        parts.append(sorted(file.name for file in output.glob("*.nii.gz")))
    assert sorted(itertools.chain(*parts)) == [f"{case}.nii.gz" for case in CASES]
    assert [len(part) for part in parts] == [2, 2, 1]
