"""Tests of how long a training run is said to take."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import pytest

from samnet.training.distributed import SINGLE_PROCESS
from samnet.training.forecast import Forecast
from samnet.training.loop import Trainer
from samnet.training.time_limit import MARGIN, TimeLimit

MakeTrainer = Callable[..., Trainer]
STEPS = 10_000


class Clock:
    """A clock that a test sets."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)


@pytest.fixture
def clock(make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Return a clock that stands still, after what is built has used the real one."""
    return Clock(monkeypatch)


def make_forecast(
    make_trainer: MakeTrainer, *, max_seconds: float | None = None, **times: float
) -> Forecast:
    """Return the forecast of 10,000 steps with a validation after each 1,000."""
    trainer = make_trainer(steps=STEPS, steps_per_epoch=1_000, max_seconds=max_seconds, times=times)
    limit = TimeLimit(trainer.task, 0.0, SINGLE_PROCESS)
    return Forecast(trainer.task.configuration, limit)


@pytest.mark.parametrize(
    ("step_seconds", "max_seconds", "said"),
    [(2.0, None, "about 5.5 h"), (0.1, None, ""), (2.0, 1800.0, ""), (2.0, 7300.0, "about 2 h")],
)
def test_long_training_is_announced_once(
    make_trainer: MakeTrainer,
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
    step_seconds: float,
    max_seconds: float | None,
    said: str,
) -> None:
    announced = make_forecast(make_trainer, max_seconds=max_seconds)
    with caplog.at_level(logging.INFO, "samnet"):
        for step in range(1, 201):
            clock.now += step_seconds
            announced.count_step(step, clock.now)
    assert len(caplog.records) == (1 if said else 0)
    assert said in caplog.text


def test_announcement_counts_validations_and_final_prediction(
    make_trainer: MakeTrainer, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """1,000 s of steps, 10 validations of 600 s and a prediction of 3,800 s are 3 h."""
    announced = make_forecast(
        make_trainer, validation_seconds=600 * MARGIN, prediction_seconds=3800 * MARGIN
    )
    with caplog.at_level(logging.INFO, "samnet"):
        for step in range(1, 100):
            clock.now += 0.1
            announced.count_step(step, clock.now)
    assert "about 3 h more" in caplog.text


def test_what_is_left_follows_from_steps_and_validations(
    make_trainer: MakeTrainer, clock: Clock
) -> None:
    forecast = make_forecast(make_trainer, validation_seconds=60.0 * MARGIN)
    clock.now = 500.0  # the first step waits for the first samples
    assert forecast.training_left(0, 0.0) is None
    for step in range(1, 1_001):
        forecast.count_step(step, clock.now)
        clock.now += 0.5
    assert forecast.training_left(1_000, clock.now) == pytest.approx(4_500 + 9 * 60, rel=0.01)
    clock.now += 100
    forecast.count_validation(100.0)
    assert forecast.training_left(1_000, clock.now) == pytest.approx(4_500 + 9 * 100, rel=0.01)


def test_what_is_left_ends_with_the_time_limit(make_trainer: MakeTrainer, clock: Clock) -> None:
    forecast = make_forecast(make_trainer, max_seconds=100.0)
    for step in range(1, 21):
        clock.now += 1.0
        forecast.count_step(step, clock.now)
    assert forecast.training_left(20, 20.0) == pytest.approx(80.0)
