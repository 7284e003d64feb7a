"""Measurements of training steps are made once, and again when they may have changed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from builders.disk import forbid_writing
from builders.tiny import make_configuration

from samnet.core.files import read_json
from samnet.planning.planned_step import PlannedStep
from samnet.planning.step_estimate import estimate_step
from samnet.training import kept_measurements
from samnet.training.kept_measurements import KeptMeasurements

STEP = PlannedStep(make_configuration(batch_size=4), 1, 3, False, "cpu")


def changed(**values: object) -> PlannedStep:
    """Return the step with other values of its configuration."""
    return replace(STEP, configuration=replace(STEP.configuration, **values))


class Meter:
    """Stands in for `measure_step`: counts its calls; a step takes as many GiB as images."""

    def __init__(self) -> None:
        self.steps: list[PlannedStep] = []

    def __call__(self, step: PlannedStep) -> float:
        self.steps.append(step)
        return step.configuration.batch_size + 0.1


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "step_memory.json"


def test_a_step_is_measured_once_also_by_later_commands(file: Path) -> None:
    meter = Meter()
    for _ in range(2):
        measure = KeptMeasurements(file, meter)
        assert measure(STEP) == measure(STEP) == 4.1
    assert meter.steps == [STEP]


def test_what_changes_memory_is_measured_apart_and_nothing_else(file: Path) -> None:
    meter = Meter()
    measure = KeptMeasurements(file, meter)
    measure(STEP)
    assert measure(changed(batch_size=8)) == 8.1
    for other in (
        {"num_channels": 2},
        {"num_outputs": 4},
        {"has_regions": True},
        {"device": "cuda"},
    ):
        measure(replace(STEP, **other))
    assert len(meter.steps) == 6
    KeptMeasurements(file, meter)(changed(learning_rate=0.5))
    assert len(meter.steps) == 6


@pytest.mark.parametrize("package", ["samnet", "torch"])
def test_another_version_measures_again(
    package: str, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    meter = Meter()
    KeptMeasurements(file, meter)(STEP)
    if package == "samnet":
        monkeypatch.setattr(kept_measurements, "__version__", "99.0")
    else:
        monkeypatch.setattr("importlib.metadata.version", lambda name: "99.0")
    KeptMeasurements(file, meter)(STEP)
    assert len(meter.steps) == 2
    assert read_json(file)["versions"][package] == "99.0"


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"versions": 1}', "null", "half {"])
def test_a_damaged_file_counts_as_empty(content: str, file: Path) -> None:
    file.write_text(content)
    meter = Meter()
    assert KeptMeasurements(file, meter)(STEP) == 4.1
    assert len(meter.steps) == 1
    assert len(json.loads(file.read_text())["gib_by_step"]) == 1


def test_damaged_figures_are_measured_again(file: Path) -> None:
    meter = Meter()
    KeptMeasurements(file, meter)(STEP)
    file.write_text(file.read_text().replace("4.1", '"much"'))
    assert KeptMeasurements(file, meter)(STEP) == 4.1
    assert len(meter.steps) == 2


def test_measurements_that_cannot_be_kept_are_used(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    meter = Meter()
    forbid_writing(monkeypatch)
    measure = KeptMeasurements(file, meter)
    assert measure(STEP) == measure(STEP) == 4.1
    assert len(meter.steps) == 1
    assert not file.exists()


def test_what_is_kept_needs_no_estimate(file: Path) -> None:
    measure = KeptMeasurements(file, Meter())
    estimate = measure.estimate(STEP)
    assert estimate == estimate_step(STEP)
    assert not file.exists()
    measure(STEP)
    assert KeptMeasurements(file, Meter()).estimate(STEP) is None
    assert measure.estimate(changed(batch_size=8)) > estimate
