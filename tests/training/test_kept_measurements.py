"""Measurements of training steps are made once, and again when they may have changed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from builders.disk import forbid_writing
from builders.tiny import make_configuration

from samnet.core.files import read_json
from samnet.plan.configuration import Configuration
from samnet.planning.step_estimate import estimate_step
from samnet.training import kept_measurements
from samnet.training.kept_measurements import KeptMeasurements

STEP = (1, 3, False, "cpu")


class Meter:
    """Stands in for `measure_step`: counts its calls; a step takes as many GiB as images."""

    def __init__(self) -> None:
        self.steps: list[tuple] = []

    def __call__(self, configuration: Configuration, *rest: object) -> float:
        self.steps.append((configuration, *rest))
        return configuration.batch_size + 0.1


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "step_memory.json"


def test_a_step_is_measured_once_also_by_later_commands(file: Path) -> None:
    meter, configuration = Meter(), make_configuration(batch_size=4)
    for _ in range(2):
        measure = KeptMeasurements(file, meter)
        assert measure(configuration, *STEP) == measure(configuration, *STEP) == 4.1
    assert meter.steps == [(configuration, *STEP)]


def test_what_changes_memory_is_measured_apart_and_nothing_else(file: Path) -> None:
    meter, configuration = Meter(), make_configuration(batch_size=4)
    measure = KeptMeasurements(file, meter)
    measure(configuration, *STEP)
    assert measure(replace(configuration, batch_size=8), *STEP) == 8.1
    for other in (
        (2, 3, False, "cpu"),
        (1, 4, False, "cpu"),
        (1, 3, True, "cpu"),
        (1, 3, False, "cuda"),
    ):
        measure(configuration, *other)
    assert len(meter.steps) == 6
    KeptMeasurements(file, meter)(replace(configuration, learning_rate=0.5), *STEP)
    assert len(meter.steps) == 6


@pytest.mark.parametrize("package", ["samnet", "torch"])
def test_another_version_measures_again(
    package: str, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    meter, configuration = Meter(), make_configuration(batch_size=4)
    KeptMeasurements(file, meter)(configuration, *STEP)
    if package == "samnet":
        monkeypatch.setattr(kept_measurements, "__version__", "99.0")
    else:
        monkeypatch.setattr("importlib.metadata.version", lambda name: "99.0")
    KeptMeasurements(file, meter)(configuration, *STEP)
    assert len(meter.steps) == 2
    assert read_json(file)["versions"][package] == "99.0"


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"versions": 1}', "null", "half {"])
def test_a_damaged_file_counts_as_empty(content: str, file: Path) -> None:
    file.write_text(content)
    meter = Meter()
    assert KeptMeasurements(file, meter)(make_configuration(batch_size=4), *STEP) == 4.1
    assert len(meter.steps) == 1
    assert len(json.loads(file.read_text())["gib_by_step"]) == 1


def test_damaged_figures_are_measured_again(file: Path) -> None:
    meter, configuration = Meter(), make_configuration(batch_size=4)
    KeptMeasurements(file, meter)(configuration, *STEP)
    file.write_text(file.read_text().replace("4.1", '"much"'))
    assert KeptMeasurements(file, meter)(configuration, *STEP) == 4.1
    assert len(meter.steps) == 2


def test_measurements_that_cannot_be_kept_are_used(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    meter, configuration = Meter(), make_configuration(batch_size=4)
    forbid_writing(monkeypatch)
    measure = KeptMeasurements(file, meter)
    assert measure(configuration, *STEP) == measure(configuration, *STEP) == 4.1
    assert len(meter.steps) == 1
    assert not file.exists()


def test_what_is_kept_needs_no_estimate(file: Path) -> None:
    measure, configuration = KeptMeasurements(file, Meter()), make_configuration(batch_size=4)
    estimate = measure.estimate(configuration, *STEP)
    assert estimate == estimate_step(configuration, 3)
    assert not file.exists()
    measure(configuration, *STEP)
    assert KeptMeasurements(file, Meter()).estimate(configuration, *STEP) is None
    assert measure.estimate(replace(configuration, batch_size=8), *STEP) > estimate
