"""Training runs on stacks of slices: they learn, and fall back and resume as others do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from builders.numerics import SINGLE, assert_close_to_norm
from builders.recorder import Recorder
from builders.runs import Stopped, after_step, load_last_weights, read_rows, stop
from torch import Tensor

from samnet.models.network import load_weights
from samnet.training.loop import Trainer
from samnet.training.loss import segmentation_loss
from samnet.training.static_step import WARM_UP_STEPS, StaticStep

MakeTrainer = Callable[..., Trainer]
STACKS = {"depth": 3, "depth_blocks": "all", "batch_size": 2}
TUNINGS = [{"encoder_tuning": "full"}, {"encoder_tuning": "lora", "head": "mask_decoder"}]


def batch(rows: int = 2, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(rows, 3, 3, 32, 32, generator=generator)
    return images, torch.randint(0, 3, (rows, 3, 16, 16), generator=generator)


@pytest.mark.parametrize("changes", TUNINGS, ids=["full", "lora"])
def test_training_changes_adapters_and_validates_on_whole_volumes(
    make_trainer: MakeTrainer, changes: dict[str, Any]
) -> None:
    trainer = make_trainer(steps=2, steps_per_epoch=2, **STACKS, **changes)
    shapes = []
    trainer.network.register_forward_pre_hook(
        lambda network, inputs: shapes.append(tuple(inputs[0].shape))
    )
    trainer.run()
    assert shapes == [(2, 3, 3, 32, 32)] * 2
    assert len(read_rows(trainer.folder)) == 1
    weights = load_last_weights(trainer.folder)
    assert weights["encoder.slice_adapters.1.up.weight"].any()


def test_stacks_teach_what_slices_teach(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(
        steps=30, steps_per_epoch=15, augmentation="none", learning_rate=3e-3, **STACKS
    )
    trainer.run()
    rows = read_rows(trainer.folder)
    assert rows[1]["loss"] < 0.6 * rows[0]["loss"]
    assert rows[1]["mean_dice"] > 0.7


def test_interrupted_run_ends_with_the_same_weights(make_trainer: MakeTrainer) -> None:
    whole = make_trainer("whole", steps=4, steps_per_epoch=2, **STACKS)
    whole.run()
    part = make_trainer(
        "part", steps=4, steps_per_epoch=2, hooks={"on_step": after_step(3, stop)}, **STACKS
    )
    with pytest.raises(Stopped):
        part.run()
    rest = make_trainer("part", steps=4, steps_per_epoch=2, **STACKS)
    assert rest.progress.step == 2
    rest.run()
    [one, other] = [load_weights(run.folder.checkpoint("final")) for run in (whole, rest)]
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("regions", [False, True], ids=["classes", "regions"])
def test_loss_of_stacks_is_that_of_all_their_slices(regions: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 4, 8, 8, generator=generator)
    shape = logits.shape if regions else (2, 3, 8, 8)
    target = torch.randint(0, 2 if regions else 4, shape, generator=generator)
    weights = {"cross_entropy_weight": 0.2, "dice_weight": 0.8}
    found = segmentation_loss(logits, target, **weights)
    expected = segmentation_loss(logits.flatten(0, 1), target.flatten(0, 1), **weights)
    assert torch.equal(found, expected)


def test_batches_of_stacks_are_divided_where_memory_runs_out(make_trainer: MakeTrainer) -> None:
    """Whole stacks at a time, with the gradients of the whole batch."""
    losses, weights = [], []
    for name, part in (("whole", 2), ("divided", 1)):
        trainer = make_trainer(name, **STACKS)
        trainer.steps.gradients.part = part
        losses.append(trainer.step(*batch()))
        weights.append(torch.cat([weight.flatten() for weight in trainer.steps.trained]))
    assert losses[0] == pytest.approx(losses[1], rel=100 * SINGLE)
    assert_close_to_norm(weights[1], weights[0], 1e-5)


def test_steps_with_stacks_can_be_recorded(make_trainer: MakeTrainer) -> None:
    recorder = Recorder()
    ordinary, static = make_trainer("a", **STACKS), make_trainer("b", **STACKS)
    steps = StaticStep(static.steps, recorder)
    found = []
    for number in range(6):
        steps.make(*batch(seed=number), 1e-3, number)
        ordinary.steps.make(*batch(seed=number), 1e-3, number)
        found += steps.losses()
    assert recorder.replayed == 6 - WARM_UP_STEPS
    assert found == pytest.approx(ordinary.steps.losses(), rel=100 * SINGLE)
