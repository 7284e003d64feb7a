"""How a trainer counts its time, and what it does with it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from builders.runs import Stopped, after_step, fixed_dice, read_rows, stop

from samnet.models.model_folder import LAST
from samnet.preprocessing.storage import StoredCase
from samnet.training.checkpoint import read_progress
from samnet.training.history import History
from samnet.training.loop import Trainer
from samnet.training.schedule import planned_rate

MakeTrainer = Callable[..., Trainer]
Pass = Callable[[float], None]


@pytest.fixture(autouse=True)
def no_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw no curves, which takes most of the time of so short a training."""
    monkeypatch.setattr(History, "draw", lambda history: None)


@pytest.fixture
def let_pass(monkeypatch: pytest.MonkeyPatch) -> Pass:
    """Return a function that lets time pass at once."""
    passed, real = [0.0], time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: real() + passed[0])

    def add(seconds: float) -> None:
        passed[0] += seconds

    return add


def slow_validator(let_pass: Pass, seconds: float) -> Callable[..., np.ndarray]:
    """Return a validator that takes so long."""

    def validate(*arguments: Any, **options: Any) -> np.ndarray:
        let_pass(seconds)
        return fixed_dice(0.5)()

    return validate


def saved_seconds(trainer: Trainer) -> float:
    return read_progress(trainer.folder.checkpoint(LAST)).seconds


def test_seconds_of_earlier_sessions_and_of_validations_count(
    make_trainer: MakeTrainer, let_pass: Pass
) -> None:
    hooks = {"validator": slow_validator(let_pass, 10_000.0)}
    first = make_trainer(steps=2, hooks=hooks)
    first.progress.seconds = 100_000.0
    first.run()
    assert 110_000 <= saved_seconds(first) < 111_000
    second = make_trainer(steps=4, hooks=hooks)
    second.run()
    assert 120_000 <= saved_seconds(second) < 121_000
    assert [row["validation_seconds"] // 10_000 for row in read_rows(second.folder)] == [1, 1]


def test_rate_falls_with_the_time_that_is_left_for_the_training(make_trainer: MakeTrainer) -> None:
    """Of 100 s, 40 s are kept for the prediction: after 30 s half of the time is over."""
    times = {"prediction_seconds": 40.0}
    trainer = make_trainer(max_seconds=100.0, times=times, warmup_steps=0, steps=1000)
    trainer.progress.seconds = 30.0
    size = 32 // trainer.network.stride
    trainer.step(torch.rand(2, 3, 32, 32), torch.randint(0, 3, (2, size, size)))
    [group] = trainer._optimizer.param_groups
    expected = planned_rate(trainer.task.configuration, 0, 30.0, 60.0)
    assert group["lr"] == pytest.approx(expected)


def test_quick_validation_gives_its_time_back_to_the_training(
    make_trainer: MakeTrainer, let_pass: Pass
) -> None:
    """Of 1,000 s, 330 s are kept for predictions that turn out to take half as long."""
    times = {
        "ends_at": time.monotonic() + 1000.0,
        "validation_seconds": 30.0,
        "prediction_seconds": 300.0,
    }
    hooks = {"validator": slow_validator(let_pass, 10.0)}
    changes = {"steps": 100, "steps_per_epoch": 4}
    trainer = make_trainer(max_seconds=1000.0, times=times, hooks=hooks, **changes)
    trainer.network.register_forward_pre_hook(lambda network, inputs: let_pass(140.0))
    trainer.run()
    assert read_rows(trainer.folder)[-1]["step"] == 6


def test_long_training_is_announced_by_its_steps_and_validations(
    make_trainer: MakeTrainer, let_pass: Pass, caplog: pytest.LogCaptureFixture
) -> None:
    hooks = {
        "validator": slow_validator(let_pass, 2000.0),
        "on_step": after_step(8, stop),
    }
    trainer = make_trainer(steps=1000, steps_per_epoch=2, hooks=hooks)
    trainer.network.register_forward_pre_hook(lambda network, inputs: let_pass(100.0))
    with caplog.at_level(logging.INFO), pytest.raises(Stopped):
        trainer.run()
    assert caplog.text.count("at 1e+02 s a step and 2e+03 s a validation") == 1


class TimedCase(StoredCase):
    """A case whose slices take 100 s to read."""

    let_pass: Pass

    def image_slices(self, axis: int, indices: list[int]) -> np.ndarray:
        self.let_pass(100.0)
        return super().image_slices(axis, indices)


def test_waiting_for_samples_is_counted_anew_in_every_epoch(
    make_trainer: MakeTrainer, case: StoredCase, let_pass: Pass
) -> None:
    timed = type("Timed", (TimedCase,), {"let_pass": staticmethod(let_pass)})(
        case.folder, case.record
    )
    trainer = make_trainer(steps=3, steps_per_epoch=1, trained=timed)
    trainer.run()
    waited = [row["waiting_seconds"] for row in read_rows(trainer.folder)]
    assert waited == [pytest.approx(waited[0], rel=0.1)] * 3
    assert waited[0] >= 200
