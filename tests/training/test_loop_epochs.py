"""What a trainer keeps of an epoch, and which values of its plan a step goes by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from builders.numerics import SINGLE
from builders.runs import fixed_dice, load_last_weights, read_rows

from samnet.models.model_folder import BEST, LAST
from samnet.models.network import load_weights
from samnet.training.checkpoint import read_progress
from samnet.training.history import History
from samnet.training.loop import Trainer
from samnet.training.loss import segmentation_loss
from samnet.training.schedule import PLATEAU_EPOCHS, Plateau
from samnet.training.step import TrainingStep
from samnet.training.validation import MAX_CASES

MakeTrainer = Callable[..., Trainer]


@pytest.fixture(autouse=True)
def no_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw no curves, which takes most of the time of so short a training."""
    monkeypatch.setattr(History, "draw", lambda history: None)


def test_first_of_equally_good_weights_are_the_best(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(steps=4, hooks={"validator": fixed_dice(0.5)})
    trainer.run()
    assert (trainer.progress.best_epoch, trainer.progress.best_dice) == (1, 0.5)
    best = load_weights(trainer.folder.checkpoint(BEST))
    last = load_last_weights(trainer.folder)
    assert not all(torch.equal(best[name], last[name]) for name in last)


def test_training_that_ends_within_an_epoch_saves_its_last_state(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(steps=5, steps_per_epoch=2)
    trainer.run()
    progress = read_progress(trainer.folder.checkpoint(LAST))
    assert (progress.step, progress.epoch, progress.loss_count) == (5, 3, 0)


def test_validations_take_a_part_of_many_cases(make_trainer: MakeTrainer) -> None:
    seen: list[int] = []

    def count(network: Any, configuration: Any, cases: list, *rest: Any, **options: Any) -> Any:
        seen.append(len(cases))
        return np.zeros(2)

    made = make_trainer(steps=2)
    task = replace(made.task, validation_cases=[*made.task.validation_cases] * (MAX_CASES + 3))
    Trainer(made.network, task, made.folder, made.device, validator=count).run()
    assert seen == [MAX_CASES]


def test_plateau_lowers_the_rate_after_epochs_without_a_lower_loss(
    make_trainer: MakeTrainer,
) -> None:
    """Ten epochs have not lowered the loss, and none can any more."""
    trainer = make_trainer(schedule="plateau", steps=2, steps_per_epoch=1, warmup_steps=0)
    trainer.progress.plateau = Plateau(best_loss=0.0, epochs_since=PLATEAU_EPOCHS)
    trainer.run()
    rates = [row["learning_rate"] for row in read_rows(trainer.folder)]
    assert rates == pytest.approx([1e-3, 1e-4])


@pytest.mark.parametrize("form", ["samed", "autosam"])
def test_step_goes_by_the_planned_loss_and_leaves_unlabelled_pixels_out(
    make_trainer: MakeTrainer, form: str
) -> None:
    weights = {"cross_entropy_weight": 0.5, "dice_weight": 0.3}
    trainer = make_trainer(loss=form, **weights)
    scheme = replace(trainer.task.label_scheme, ignore_label=3)
    assert isinstance(trainer.steps, TrainingStep)
    trainer.steps.task = replace(trainer.task, label_scheme=scheme)
    images, size = torch.rand(2, 3, 32, 32), 32 // trainer.network.stride
    target = torch.randint(0, 4, (2, size, size))
    with torch.no_grad():
        logits = trainer.network.train()(images)
    expected = segmentation_loss(logits, target, form=form, ignore=3, **weights)
    assert trainer.step(images, target) == pytest.approx(expected.item(), rel=SINGLE)
