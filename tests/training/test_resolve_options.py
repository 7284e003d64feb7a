"""Options of a request that choose cases, or change the plan by more than a value."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from builders.tiny import SHORT, use_folders

from samnet.models.model_folder import LAST
from samnet.planning.planned_dataset import PlannedDataset
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


def resolve(fold: str = "all", *, world_size: int = 1, **options: Any) -> ResolvedRun:
    dataset = PlannedDataset.find("501")
    return resolve_run(dataset, "lora", fold, TrainingOptions(**options), world_size)


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
