"""The warning of classes of which nothing is found any more."""

from __future__ import annotations

import json
import logging
import signal
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from builders.runs import after_step, load_last_weights, send_signal

from samnet.core.signals import Interrupted
from samnet.training.collapse import COLLAPSED
from samnet.training.history import History
from samnet.training.loop import Trainer
from samnet.training.step import TrainingStep

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
    """It has collapsed until it is found three times in a row."""
    found = [0.1, 0.0, 0.0, 0.0, 0.2, 0.0, 0.2, 0.2, 0.2, 0.0]
    dice = [(0.5, value) for value in found]
    trainer = make_trainer(steps=10, steps_per_epoch=1, learning_rate=3e-3, hooks=scores(*dice))
    trainer.run()
    [message] = warnings_of(caplog)
    assert "'two' has collapsed: at step 4," in message
    assert "--lr 0.001 --restart" in message
    named = [row.get(COLLAPSED) for row in rows_of(trainer)]
    assert named == [*[None] * 3, *[["two"]] * 5, None, None]


def test_class_has_a_chance_before_it_is_warned_of(
    make_trainer: MakeTrainer, caplog: pytest.LogCaptureFixture
) -> None:
    """It was never found, and a fifth of the 20 steps is over after the fourth."""
    trainer = make_trainer(steps=20, steps_per_epoch=1, hooks=scores(*[(0.5, 0.0)] * 20))
    trainer.run()
    [message] = warnings_of(caplog)
    assert "'two' has collapsed: at step 4," in message
    assert "3 times in a row. Where its labels are right, give it more steps" in message
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


COLLAPSES = [(0.5, value) for value in (0.1, 0.0, 0.0, 0.0, 0.1, 0.2, 0.3, 0.4)]


def weighted(trainer: Trainer) -> list[dict[int, float]]:
    """Run the training; return what the pixels of outputs weighed by themselves in each step."""
    assert isinstance(trainer.steps, TrainingStep)
    steps, found = trainer.steps, []
    trainer.on_step = lambda number, loss: found.append(steps.collapsed)
    trainer.run()
    return found


def test_own_pixels_of_a_collapsed_class_count_until_it_is_found(
    make_trainer: MakeTrainer,
) -> None:
    found = [*[0.1] * 3, *[0.0] * 5, 0.1, 0.0, *[0.1] * 3, *[0.0] * 3, 0.1]
    dice = [(0.5, value) for value in found]
    trainer = make_trainer(steps=17, steps_per_epoch=1, collapse_weight=0.25, hooks=scores(*dice))
    assert weighted(trainer) == [*[{}] * 6, *[{2: 0.25}] * 7, *[{}] * 3, {2: 0.25}]


def test_warning_says_what_is_done_about_the_class(
    make_trainer: MakeTrainer, caplog: pytest.LogCaptureFixture
) -> None:
    values: dict[str, Any] = {"steps": 8, "steps_per_epoch": 1, "collapse_weight": 0.3}
    make_trainer(hooks=scores(*COLLAPSES), **values).run()
    [message] = warnings_of(caplog)
    assert "the loss of its own pixels is added (collapse_weight 0.3)" in message
    assert "If that is not enough, --lr" in message


def test_epoch_without_a_validation_changes_no_class(make_trainer: MakeTrainer) -> None:
    unknown = (NAN, NAN)
    dice = [*COLLAPSES[:4], unknown, unknown, *COLLAPSES[4:6], unknown, *COLLAPSES[6:]]
    trainer = make_trainer(steps=11, steps_per_epoch=1, collapse_weight=0.2, hooks=scores(*dice))
    assert weighted(trainer) == [*[{}] * 4, *[{2: 0.2}] * 6, {}]


def test_resumed_run_brings_a_class_back_in_the_same_way(make_trainer: MakeTrainer) -> None:
    planned: dict[str, Any] = {"steps": 8, "steps_per_epoch": 1, "collapse_weight": 0.2}
    whole = make_trainer("whole", hooks=scores(*COLLAPSES), **planned)
    whole.run()
    stop = after_step(5, partial(send_signal, signal.SIGTERM))
    stopped = make_trainer("parts", hooks=scores(*COLLAPSES) | {"on_step": stop}, **planned)
    with pytest.raises(Interrupted):
        stopped.run()
    make_trainer("parts", hooks=scores(*COLLAPSES[4:]), **planned).run()
    weights, resumed = (load_last_weights(trainer.folder) for trainer in (whole, stopped))
    assert all(torch.equal(weights[name], resumed[name]) for name in weights)


@pytest.mark.parametrize(("weight", "differs"), [(0.2, True), (0.0, False)])
def test_weight_0_changes_nothing_of_a_training(
    make_trainer: MakeTrainer, weight: float, differs: bool
) -> None:
    """A class that collapses for three steps, and one that never does."""
    found = []
    for name, dice in [("collapses", COLLAPSES), ("does_not", [(0.5, 0.5)] * 8)]:
        trainer = make_trainer(
            f"{name}_{weight}",
            steps=8,
            steps_per_epoch=1,
            collapse_weight=weight,
            hooks=scores(*dice),
        )
        trainer.run()
        found.append(trainer.network.adapter())
    assert differs != all(torch.equal(found[0][name], found[1][name]) for name in found[0])
