"""A planned data set: each of its files is read once, and its folds are written once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from builders.fingerprint import make_fingerprint

from samnet.core.errors import UserError
from samnet.core.machine import Machine
from samnet.dataset.dataset_folder import DatasetFolder
from samnet.dataset.splits import MAX_FOLDS, make_splits
from samnet.fingerprint.records import Fingerprint
from samnet.plan.plan import Plan
from samnet.planning.planned_dataset import PlannedDataset, write_splits
from samnet.planning.planner import make_plan

GPU = Machine("cuda", 16)
NAMES = tuple("abcdefg")


@pytest.fixture
def folder(folders: dict[str, Path]) -> DatasetFolder:
    return DatasetFolder.of("Dataset500_Synthetic")


@pytest.fixture
def fingerprint() -> Fingerprint:
    return make_fingerprint(case_names=NAMES)


@pytest.fixture
def plan(fingerprint: Fingerprint) -> Plan:
    return make_plan(fingerprint, GPU)


@pytest.fixture
def dataset(folder: DatasetFolder, fingerprint: Fingerprint, plan: Plan) -> PlannedDataset:
    """A planned data set, of which nothing has been read."""
    fingerprint.save(folder.fingerprint_file)
    plan.save(folder.plan_file)
    write_splits(plan, fingerprint, folder)
    return PlannedDataset.find(500)


def test_planned_dataset_reads_what_planning_wrote(
    dataset: PlannedDataset, fingerprint: Fingerprint, plan: Plan
) -> None:
    assert dataset.name == "Dataset500_Synthetic"
    assert dataset.fingerprint == fingerprint
    assert dataset.plan == plan
    assert dataset.splits == make_splits(list(NAMES), plan.patient_key)
    assert dataset.fold_names == ["0", "1", "2", "3", "4"]


def replace_fingerprint(dataset: PlannedDataset) -> None:
    replace(dataset.fingerprint, data_key="another").save(dataset.folder.fingerprint_file)


def replace_plan(dataset: PlannedDataset) -> None:
    replace(dataset.plan, data_key="another").save(dataset.folder.plan_file)


def replace_splits(dataset: PlannedDataset) -> None:
    dataset.folder.splits_file.write_text('[{"train": ["a"], "val": ["b"]}]')


@pytest.mark.parametrize(
    ("content", "replace_file"),
    [
        ("fingerprint", replace_fingerprint),
        ("plan", replace_plan),
        ("splits", replace_splits),
        ("fold_names", replace_splits),
    ],
)
def test_planned_dataset_reads_each_file_once(
    dataset: PlannedDataset, content: str, replace_file: Callable[[PlannedDataset], None]
) -> None:
    first: Any = getattr(dataset, content)
    replace_file(dataset)
    assert getattr(dataset, content) == first
    assert getattr(PlannedDataset(dataset.folder), content) != first


@pytest.mark.parametrize("content", ["fingerprint", "plan", "splits"])
def test_planned_dataset_keeps_what_it_has_read_when_the_file_is_gone(
    dataset: PlannedDataset, content: str
) -> None:
    first: Any = getattr(dataset, content)
    _ = dataset.fingerprint
    for file in dataset.folder.preprocessed.iterdir():
        file.unlink()
    assert getattr(dataset, content) is first
    with pytest.raises(UserError):
        getattr(PlannedDataset(dataset.folder), content)


def test_planned_dataset_without_a_plan_names_the_command(folder: DatasetFolder) -> None:
    with pytest.raises(
        UserError,
        match=r"samnetPlans\.json: no such file; run samnet_plan_and_preprocess -d "
        r"Dataset500_Synthetic",
    ):
        _ = PlannedDataset(folder).plan


def test_planned_dataset_refuses_splits_of_other_cases(dataset: PlannedDataset) -> None:
    dataset.folder.splits_file.write_text('[{"train": ["a"], "val": ["z"]}]')
    with pytest.raises(UserError, match="cases that the data set does not have: z"):
        _ = dataset.splits


def test_splits_are_written_once_and_kept(
    plan: Plan, fingerprint: Fingerprint, folder: DatasetFolder
) -> None:
    write_splits(plan, fingerprint, folder)
    assert folder.splits_file.read_text().count('"train"') == MAX_FOLDS
    kept = '[{"train": ["a", "b"], "val": ["c", "d", "e", "f", "g"]}]'
    folder.splits_file.write_text(kept)
    write_splits(plan, fingerprint, folder)
    assert folder.splits_file.read_text() == kept


def test_cases_without_a_fold_are_reported(
    plan: Plan,
    fingerprint: Fingerprint,
    folder: DatasetFolder,
    caplog: pytest.LogCaptureFixture,
) -> None:
    write_splits(plan, make_fingerprint(case_names=NAMES[:5]), folder)
    write_splits(plan, fingerprint, folder)
    assert "2 cases are in no fold, such as f" in caplog.text


def test_splits_with_cases_that_are_gone_are_refused_with_the_remedy(
    plan: Plan, fingerprint: Fingerprint, folder: DatasetFolder
) -> None:
    write_splits(plan, fingerprint, folder)
    with pytest.raises(
        UserError, match=r"cases that the data set does not have: g\. Correct it, or delete it"
    ):
        write_splits(plan, make_fingerprint(case_names=NAMES[:6]), folder)


def test_patients_are_never_divided_between_training_and_validation(folder: DatasetFolder) -> None:
    names = []
    for number in range(7):
        names += [f"patient{number:03d}_frame01", f"patient{number:03d}_frame12"]
    fingerprint = make_fingerprint(case_names=tuple(names))
    write_splits(make_plan(fingerprint, GPU), fingerprint, folder)
    fingerprint.save(folder.fingerprint_file)
    for fold in PlannedDataset(folder).splits:
        training_patients = {name[:10] for name in fold["train"]}
        validation_patients = {name[:10] for name in fold["val"]}
        assert not training_patients & validation_patients
