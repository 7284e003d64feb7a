"""A planned data set: each of its files is read once, its folds are written once.

Configurations that its plan lacks are added when they are needed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from builders.disk import fill_disk, forbid_writing
from builders.fingerprint import make_fingerprint
from builders.planned import plan_all
from builders.stages import start

from samnet.core.errors import UserError
from samnet.core.machine import Machine
from samnet.dataset.dataset_folder import DatasetFolder
from samnet.dataset.splits import MAX_FOLDS, make_splits
from samnet.fingerprint.records import Fingerprint
from samnet.plan.plan import Plan
from samnet.planning.planned_dataset import PlannedDataset, write_splits
from samnet.planning.planned_step import PlannedStep
from samnet.planning.planner import make_plan
from samnet.training.kept_measurements import KeptMeasurements

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


class TestPlanWith:
    """The plan with configurations that it may lack."""

    def test_adds_what_the_plan_lacks_to_its_file(
        self, dataset: PlannedDataset, fingerprint: Fingerprint, plan: Plan
    ) -> None:
        found = dataset.plan_with(["samed"])
        assert found == make_plan(fingerprint, GPU, requested=["samed"])
        assert Plan.load(dataset.folder.plan_file) == found
        assert PlannedDataset(dataset.folder).plan_with(["samed"]) == found

    def test_measures_and_writes_nothing_where_the_plan_has_it(
        self, dataset: PlannedDataset
    ) -> None:
        def refuse(*step: object) -> float:
            raise AssertionError

        before = dataset.folder.plan_file.stat()
        assert dataset.plan_with(["lora", "full"], refuse) is dataset.plan
        plan_all(dataset.fingerprint).save(dataset.folder.plan_file)
        assert dataset.plan_with(["samed"], refuse).configuration("samed")  # another process's
        assert before.st_mtime_ns < dataset.folder.plan_file.stat().st_mtime_ns
        dataset.check_configuration("samed")

    def test_of_several_processes_each_adds_its_own(
        self, dataset: PlannedDataset, fingerprint: Fingerprint
    ) -> None:
        names = ("samed", "autosam", "samed_h")

        def add(name: str) -> None:
            PlannedDataset(dataset.folder).plan_with([name])

        processes = [start(add, name) for name in names]
        for process in processes:
            process.join(60)
        assert [process.exitcode for process in processes] == [0, 0, 0]
        written = Plan.load(dataset.folder.plan_file)
        assert written == make_plan(fingerprint, GPU, requested=names)

    def test_without_permission_to_write_it_is_planned_for_this_command(
        self,
        dataset: PlannedDataset,
        fingerprint: Fingerprint,
        plan: Plan,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        steps: list[PlannedStep] = []

        def count(step: PlannedStep) -> float:
            steps.append(step)
            return 0.5

        measure = KeptMeasurements(dataset.folder.step_memory_file, count)
        with monkeypatch.context() as patch:
            forbid_writing(patch)
            found = dataset.plan_with(["samed"], measure)
        assert "samnetPlans.json cannot be written (Read-only file system)" in caplog.text
        assert "samed planned for this command alone" in caplog.text
        assert steps
        assert found.configuration("samed") == plan_all(fingerprint).configuration("samed")
        assert Plan.load(dataset.folder.plan_file) == plan

    def test_full_disk_is_an_error_and_leaves_the_plan(
        self, dataset: PlannedDataset, plan: Plan, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as patch:
            fill_disk(patch)
            with pytest.raises(OSError, match="No space left"):
                dataset.plan_with(["samed"])
        assert Plan.load(dataset.folder.plan_file) == plan

    def test_refuses_a_fingerprint_of_other_data(self, dataset: PlannedDataset, plan: Plan) -> None:
        replace_fingerprint(PlannedDataset(dataset.folder))
        with pytest.raises(
            UserError,
            match=r"samnetPlans\.json was made for other data .* so samed cannot be planned; "
            "run samnet_plan -d Dataset500_Synthetic",
        ):
            dataset.plan_with(["samed"])
        assert dataset.plan_with(["lora"]) == plan

    def test_checks_a_configuration_without_planning_it(self, dataset: PlannedDataset) -> None:
        before = dataset.folder.plan_file.read_text()
        for name in ("lora", "samed"):
            dataset.check_configuration(name)
        assert dataset.folder.plan_file.read_text() == before
        with pytest.raises(UserError, match=r"no configuration 'nope'; it has frozen, .* samed"):
            dataset.check_configuration("nope")
