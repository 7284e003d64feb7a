"""Options of a request that choose cases, or change the plan by more than a value."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from builders.tiny import SHORT, use_folders

from samnet.core.errors import UserError
from samnet.models.model_folder import LAST
from samnet.plan.plan import Plan, decisions_key
from samnet.planning.planned_dataset import PlannedDataset
from samnet.planning.presets import standard_names
from samnet.training.options import TrainingOptions
from samnet.training.resolve import ResolvedRun, resolve_run
from samnet.training.run_cases import choose_cases
from samnet.training.run_record import RunRecord

Resolve = Callable[..., ResolvedRun]


@pytest.fixture
def root(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of a copy of the planned data set, whose plan may be changed."""
    shutil.copytree(prepared / "preprocessed", tmp_path / "preprocessed")
    use_folders(tmp_path, tmp_path / "results", monkeypatch)
    return tmp_path


def resolve(
    fold: str = "all", *, name: str = "lora", world_size: int = 1, **options: Any
) -> ResolvedRun:
    dataset = PlannedDataset.find("501")
    return resolve_run(dataset, name, fold, TrainingOptions(**options), world_size)


@pytest.mark.usefixtures("root")
def test_cases_are_drawn_by_the_seed() -> None:
    splits = PlannedDataset.find("501").splits
    drawn = []
    for seed in (0, 1, 2):
        cases = resolve(num_cases=2, seed=seed).cases
        assert cases == choose_cases(splits, "all", 2, seed)
        drawn.append(tuple(cases.training))
    assert len(set(drawn)) > 1


@pytest.mark.usefixtures("root")
def test_patients_are_found_by_the_key_of_the_plan() -> None:
    dataset = PlannedDataset.find("501")
    plan, key = dataset.plan, "^case"
    decision = replace(plan.decisions["patient_key"], value=key)
    decisions = plan.decisions | {"patient_key": decision}
    replace(plan, patient_key=key, decisions=decisions).save(dataset.folder.plan_file)
    assert len(resolve(num_patients=1).cases.training) == 6


@pytest.mark.usefixtures("root")
def test_multiplied_batch_is_not_multiplied_again_when_the_run_is_resumed() -> None:
    run = resolve(multiply_batch=True, world_size=2)
    run.plan.save(run.folder.plan_file)
    RunRecord(run.request).save(run.folder)
    run.folder.checkpoint(LAST).touch()
    resumed = resolve(multiply_batch=True, world_size=2, resume=True)
    assert resumed.plan.single_configuration.batch_size == 2 * SHORT["batch_size"]


@pytest.mark.usefixtures("root")
def test_what_depends_on_another_backbone_is_planned_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("samnet.training.resolve.measure_step", lambda *facts: 1.0)
    values = resolve(settings={"backbone": "small"}).plan.single_configuration
    assert values.initial_weights == "pretrained"
    assert values.encoder_tuning == "lora"


@pytest.fixture
def without_published(root: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    """Leave the published configurations out of the plan; return it as it was with them."""
    monkeypatch.setattr("samnet.training.dry_run.measure_step", lambda *facts: 0.5)
    dataset = PlannedDataset.find("501")
    plan = dataset.plan
    own = {name: plan.configurations[name] for name in standard_names()}
    reduced = replace(plan, configurations=own)
    replace(reduced, planned_key=decisions_key(reduced)).save(dataset.folder.plan_file)
    return plan


def test_published_configuration_is_planned_by_its_first_run_and_stays_in_the_plan(
    without_published: Plan,
) -> None:
    run = resolve(name="samed")
    assert run.plan.single_configuration == without_published.configuration("samed")
    written = PlannedDataset.find("501").plan
    assert sorted(written.configurations) == sorted([*standard_names(), "samed"])
    assert written.configuration("samed") == without_published.configuration("samed")
    assert written.planned_key == decisions_key(written)
    with pytest.raises(UserError, match=r"no configuration 'samet'.* on request it gets autosam"):
        resolve(name="samet")


def test_run_of_a_published_configuration_resumes_after_the_plan_was_replaced(
    without_published: Plan,
) -> None:
    """By the same command: the configuration is planned again, with the same values."""
    dataset = PlannedDataset.find("501")
    reduced = dataset.folder.plan_file.read_text()
    first = resolve(name="autosam")
    first.plan.save(first.folder.plan_file)
    RunRecord(first.request).save(first.folder)
    first.folder.checkpoint(LAST).touch()
    dataset.folder.plan_file.write_text(reduced)
    again = resolve(name="autosam")
    assert again.request == first.request
    assert not again.is_finished


def test_run_that_continues_needs_no_plan_of_the_data_set_for_its_configuration(
    without_published: Plan,
) -> None:
    dataset = PlannedDataset.find("501")
    reduced = dataset.folder.plan_file.read_text()
    first = resolve(name="samed")
    first.plan.save(first.folder.plan_file)
    RunRecord(first.request).save(first.folder)
    dataset.folder.plan_file.write_text(reduced)
    assert resolve(name="samed", resume=True).request == first.request
    assert dataset.folder.plan_file.read_text() == reduced
