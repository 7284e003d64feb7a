"""The warning of classes of which nothing is found any more."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from samnet.training.collapse import COLLAPSED
from samnet.training.history import History
from samnet.training.loop import Trainer

MakeTrainer = Callable[..., Trainer]
NAN = float("nan")


@pytest.fixture(autouse=True)
def no_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw no curves, which takes most of the time of so short a training."""
    monkeypatch.setattr(History, "draw", lambda history: None)


def scores(*dice: tuple[float, float]) -> dict[str, Any]:
    """Return a hook with which the validations have these Dice of the classes one and two."""
    results: Iterator[tuple[float, float]] = iter(dice)
    return {"validator": lambda *arguments, **options: np.array(next(results))}


def rows_of(trainer: Trainer) -> list[dict[str, Any]]:
    return [json.loads(line) for line in trainer.folder.metrics_file.read_text().splitlines()]


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if "has collapsed" in record.message]


def test_class_that_is_not_found_any_more_is_warned_of_once(
    make_trainer: MakeTrainer, caplog: pytest.LogCaptureFixture
) -> None:
    dice = [(0.5, 0.1), (0.5, 0.0), (0.6, 0.0), (0.6, 0.0), (0.7, 0.0), (0.7, 0.2)]
    trainer = make_trainer(steps=6, steps_per_epoch=1, learning_rate=3e-3, hooks=scores(*dice))
    trainer.run()
    [message] = warnings_of(caplog)
    assert "'two' has collapsed: at step 4," in message
    assert "--lr 0.001 --restart" in message
    found = [row.get(COLLAPSED) for row in rows_of(trainer)]
    assert found == [None, None, None, ["two"], ["two"], None]


def test_class_has_a_chance_before_it_is_warned_of(
    make_trainer: MakeTrainer, caplog: pytest.LogCaptureFixture
) -> None:
    """It was never found, and a fifth of the 20 steps is over after the fourth."""
    trainer = make_trainer(steps=20, steps_per_epoch=1, hooks=scores(*[(0.5, 0.0)] * 20))
    trainer.run()
    [message] = warnings_of(caplog)
    assert "'two' has collapsed: at step 4," in message
    assert "3 times in a row. --lr 0.0003 --restart trains at a lower rate; or, " in message
    assert "--set foreground_share=0.9" in message
    assert [COLLAPSED in row for row in rows_of(trainer)] == [False] * 3 + [True] * 17


def test_resumed_run_does_not_warn_again(
    make_trainer: MakeTrainer, caplog: pytest.LogCaptureFixture
) -> None:
    dice = [(0.5, 0.0)] * 4
    make_trainer(steps=4, steps_per_epoch=1, hooks=scores(*dice)).run()
    assert len(warnings_of(caplog)) == 1
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        resumed = make_trainer(steps=6, steps_per_epoch=1, hooks=scores(*dice[:2]))
        resumed.run()
    assert not warnings_of(caplog)
    assert [row.get(COLLAPSED) for row in rows_of(resumed)][2:] == [["two"]] * 4


def test_class_that_no_validation_case_shows_does_not_collapse(
    make_trainer: MakeTrainer, caplog: pytest.LogCaptureFixture
) -> None:
    """Its Dice is 0 where something is predicted."""
    made = make_trainer(steps=4)
    shown = made.task.validation_cases[0].record.class_slices["0"]
    assert shown.pop("2")
    trainer = make_trainer(steps=4, steps_per_epoch=1, hooks=scores(*[(0.5, 0.0)] * 4))
    trainer.run()
    assert not warnings_of(caplog)


@pytest.mark.parametrize("dice", [(0.5, NAN), (0.5, 1e-4)])
def test_class_that_is_found_or_not_scored_does_not_collapse(
    make_trainer: MakeTrainer, caplog: pytest.LogCaptureFixture, dice: tuple[float, float]
) -> None:
    make_trainer(steps=4, steps_per_epoch=1, hooks=scores(*[dice] * 4)).run()
    assert not warnings_of(caplog)
