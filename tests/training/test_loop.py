"""What a trainer does undisturbed; `test_interruption.py` has what stops it."""

from __future__ import annotations

import math
import multiprocessing
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from builders.numerics import SINGLE, assert_close_to_norm
from builders.runs import (
    Stopped,
    after_step,
    fixed_dice,
    load_last_weights,
    read_rows,
    stop,
)

from samnet.core.errors import SamnetError
from samnet.models.model_folder import BEST, FINAL, LAST, RunFolder
from samnet.models.network import load_weights
from samnet.preprocessing.storage import StoredCase
from samnet.training.checkpoint import read_progress
from samnet.training.loop import Trainer
from samnet.training.loss import segmentation_loss

MakeTrainer = Callable[..., Trainer]


def test_training_lowers_the_loss_and_raises_the_dice(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(steps=45, steps_per_epoch=15, augmentation="none", learning_rate=3e-3)
    trainer.run()
    rows = read_rows(trainer.folder)
    assert rows[2]["loss"] < 0.5 * rows[0]["loss"]
    assert rows[2]["mean_dice"] > 0.7


def test_training_leaves_metrics_curves_and_checkpoints(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(steps=5, steps_per_epoch=2)
    trainer.run()
    folder = trainer.folder
    rows = read_rows(folder)
    assert [(row["epoch"], row["step"]) for row in rows] == [(1, 2), (2, 4), (3, 5)]
    for row in rows:
        assert set(row["dice"]) == {"one", "two"}
        assert row["validated_on"] == "held-out cases"
        assert math.isfinite(row["loss"])
    assert folder.progress_file.read_bytes().startswith(b"\x89PNG")
    checkpoints = {folder.checkpoint(kind) for kind in (FINAL, BEST, LAST)}
    assert set(folder.path.iterdir()) == checkpoints | {folder.metrics_file, folder.progress_file}


def test_on_step_is_told_every_step_and_its_loss(make_trainer: MakeTrainer) -> None:
    seen: list[tuple[int, float]] = []
    trainer = make_trainer(
        steps=4, steps_per_epoch=2, hooks={"on_step": lambda *step: seen.append(step)}
    )
    trainer.run()
    assert [step for step, _ in seen] == [1, 2, 3, 4]
    losses = [loss for _, loss in seen]
    expected = [np.mean(losses[:2]), np.mean(losses[2:])]
    assert [row["loss"] for row in read_rows(trainer.folder)] == pytest.approx(expected)


class SlowCase(StoredCase):
    """A case whose slices take half a second to read."""

    def image_slices(self, axis: int, indices: list[int]) -> np.ndarray:
        time.sleep(0.5)
        return super().image_slices(axis, indices)


def test_waiting_for_slow_samples_is_recorded(make_trainer: MakeTrainer, case: StoredCase) -> None:
    slow = SlowCase(case.folder, case.record)
    trainer = make_trainer(steps=2, steps_per_epoch=1, trained=slow)
    trainer.run()
    assert all(row["waiting_share"] > 0.5 for row in read_rows(trainer.folder))


def test_slow_steps_are_not_recorded_as_waiting(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(steps=2, steps_per_epoch=1)
    trainer.network.register_forward_pre_hook(lambda network, inputs: time.sleep(0.5))
    trainer.run()
    assert all(0 < row["waiting_share"] < 0.5 for row in read_rows(trainer.folder))


@pytest.mark.parametrize(
    ("share", "is_shown"), [(0.34, True), (0.05, False)], ids=["long waiting", "short waiting"]
)
def test_long_waiting_for_samples_is_shown_next_to_the_loss(
    make_trainer: MakeTrainer, share: float, is_shown: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer = make_trainer(hooks={"on_step": after_step(1, stop)})
    trainer.history.rows.append({"mean_dice": None, "waiting_share": share})
    with pytest.raises(Stopped):
        trainer.run()
    printed = capsys.readouterr().err
    assert "loss " in printed
    assert ("waiting for samples 34%" in printed) == is_shown


def test_training_in_a_thread(make_trainer: MakeTrainer) -> None:
    """In a notebook or a server, Python does not let threads handle signals."""
    trainer = make_trainer(steps=2)
    thread = threading.Thread(target=trainer.run)
    thread.start()
    thread.join()
    assert trainer.folder.is_finished


def same_weights(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    assert one.keys() == other.keys()
    return all(torch.equal(one[name], other[name]) for name in one)


def checkpoint_bytes(folder: RunFolder, kind: str) -> bytes:
    return folder.checkpoint(kind).read_bytes()


def test_early_stop_takes_the_best_weights_and_leaves_no_process(make_trainer: MakeTrainer) -> None:
    hooks = {"validator": fixed_dice(0.3, 0.6, 0.5)}
    trainer = make_trainer(steps=1000, patience=2, workers=1, hooks=hooks)
    trainer.run()
    folder = trainer.folder
    assert multiprocessing.active_children() == []
    assert [row["mean_dice"] for row in read_rows(folder)] == [0.3, 0.6, 0.5, 0.5]
    assert checkpoint_bytes(folder, FINAL) == checkpoint_bytes(folder, BEST)
    assert not same_weights(load_last_weights(folder), load_weights(folder.checkpoint(FINAL)))

    # As if it had been killed just before the end: no further step is trained.
    folder.checkpoint(FINAL).unlink()
    make_trainer(steps=1000, patience=2).run()
    assert len(read_rows(folder)) == 4
    assert checkpoint_bytes(folder, FINAL) == checkpoint_bytes(folder, BEST)


def test_last_weights_are_final_without_held_out_cases(make_trainer: MakeTrainer) -> None:
    hooks = {"validator": fixed_dice(0.6, 0.5)}
    trainer = make_trainer(held_out=False, patience=1, hooks=hooks)
    trainer.run()
    last_row = read_rows(trainer.folder)[-1]
    assert last_row["step"] == trainer.task.configuration.steps
    assert last_row["validated_on"] == "training cases"
    assert not trainer.folder.checkpoint(BEST).exists()
    final = load_weights(trainer.folder.checkpoint(FINAL))
    assert same_weights(load_last_weights(trainer.folder), final)


@pytest.mark.parametrize(
    ("dice", "recorded"), [(math.nan, None), (0.0, 0.0)], ids=["no class in any case", "Dice of 0"]
)
def test_training_ends_well_without_a_meaningful_validation(
    make_trainer: MakeTrainer, dice: float, recorded: float | None
) -> None:
    trainer = make_trainer(steps=2, hooks={"validator": fixed_dice(dice)})
    trainer.run()
    assert read_rows(trainer.folder)[0]["mean_dice"] == recorded
    assert trainer.folder.is_finished


def test_time_limit_ends_training_after_one_step_at_least_and_counts_over_sessions(
    make_trainer: MakeTrainer,
) -> None:
    trainer = make_trainer(steps=1000, max_seconds=1e-9)
    trainer.run()
    assert read_rows(trainer.folder)[-1]["step"] == 1
    seconds = read_progress(trainer.folder.checkpoint(LAST)).seconds
    assert seconds > 0
    longer = make_trainer(steps=1000, max_seconds=seconds + 0.2)
    longer.run()
    assert read_rows(longer.folder)[-1]["step"] > 1
    assert read_progress(longer.folder.checkpoint(LAST)).seconds >= seconds + 0.2


def test_learning_rate_follows_the_schedule(make_trainer: MakeTrainer) -> None:
    values = {"steps": 12, "steps_per_epoch": 4, "warmup_steps": 4, "learning_rate": 0.01}
    trainer = make_trainer(**values)
    trainer.run()
    expected = [0.01, 0.01 * (1 - 3 / 8) ** 0.9, 0.01 * (1 - 7 / 8) ** 0.9]
    rates = [row["learning_rate"] for row in read_rows(trainer.folder)]
    assert rates == pytest.approx(expected)


@pytest.mark.parametrize("gradient_clip", [0.0, 0.01])
def test_step_limits_the_norm_of_all_gradients_together(
    make_trainer: MakeTrainer, gradient_clip: float
) -> None:
    """Below the limit, and without one, the gradients are those of the loss."""
    trainer = make_trainer(gradient_clip=gradient_clip)
    images, size = torch.rand(2, 3, 32, 32), 32 // trainer.network.stride
    target = torch.randint(0, 3, (2, size, size))
    trained = [weight for weight in trainer.network.parameters() if weight.requires_grad]
    loss = segmentation_loss(
        trainer.network.train()(images), target, cross_entropy_weight=0.2, dice_weight=0.8
    )
    expected = torch.cat([part.flatten() for part in torch.autograd.grad(loss, trained)])
    assert expected.norm() > 0.1
    value = trainer.step(images, target)
    assert value == pytest.approx(loss.item(), rel=1e-6)
    found = torch.cat([weight.grad.flatten() for weight in trained if weight.grad is not None])
    if gradient_clip:
        expected *= gradient_clip / expected.norm()
    assert_close_to_norm(found, expected, SINGLE)


def test_plateau_by_pass_lowers_the_rate_within_an_epoch(make_trainer: MakeTrainer) -> None:
    """The case has 4 slices: a step of 4 is a pass. With so small a rate the loss stays."""
    trainer = make_trainer(
        schedule="plateau_by_pass",
        slice_order="passes",
        foreground_share=0.0,
        augmentation="none",
        batch_size=4,
        steps=24,
        steps_per_epoch=24,
        learning_rate=1e-12,
        warmup_steps=0,
    )
    factors = []
    trainer.on_step = lambda step, loss: factors.append(trainer.progress.plateau.factor)
    trainer.run()
    # The eleventh pass is the first that counts; eleven more do not lower its loss.
    assert factors == [1.0] * 21 + [pytest.approx(0.1)] * 3
    [row] = read_rows(trainer.folder)
    assert row["learning_rate"] == pytest.approx(1e-13)


def test_divergence_is_reported_with_a_remedy(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(learning_rate=0.03)

    def diverge(network: torch.nn.Module, inputs: Any, logits: torch.Tensor) -> torch.Tensor:
        is_fourth_step = network.training and trainer.progress.step == 3
        return logits * math.nan if is_fourth_step else logits

    trainer.network.register_forward_hook(diverge)
    message = r"loss is nan at step 3: .*diverged.*--lr 0\.01 --restart"
    with pytest.raises(SamnetError, match=message):
        trainer.run()
    assert not trainer.folder.is_finished
    # The run could still be resumed.
    last = load_last_weights(trainer.folder)
    assert all(value.isfinite().all() for value in last.values())


@pytest.mark.parametrize("gradient_clip", [0.0, 1.0])
def test_gradients_that_are_not_finite_change_no_weight(
    make_trainer: MakeTrainer, gradient_clip: float
) -> None:
    """The loss of the step is finite, so only the gradients tell."""
    trainer = make_trainer(gradient_clip=gradient_clip, save_seconds=0)

    def diverge(network: torch.nn.Module, inputs: Any, logits: torch.Tensor) -> torch.Tensor:
        if network.training and trainer.progress.step == 1:
            logits.register_hook(lambda gradient: gradient * math.nan)
        return logits

    trainer.network.register_forward_hook(diverge)
    message = r"the norm of the gradients is nan at step 1: .*diverged.*--restart"
    with pytest.raises(SamnetError, match=message):
        trainer.run()
    current = trainer.network.adapter()
    last = load_last_weights(trainer.folder)
    assert all(value.isfinite().all() for value in current.values())
    assert all(torch.equal(current[name], value) for name, value in last.items())


def test_a_loss_that_is_not_finite_changes_no_weight(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer()
    trainer.network.register_forward_hook(lambda network, inputs, logits: logits * math.nan)
    before = {name: value.clone() for name, value in trainer.network.adapter().items()}
    with pytest.raises(SamnetError, match="the loss is nan at step 0"):
        trainer.run()
    after = trainer.network.adapter()
    trained = {name for name, _ in trainer.network.named_parameters()}
    assert all(torch.equal(before[name], after[name]) for name in trained & set(after))


def test_weights_that_are_not_finite_are_never_written(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(steps=2, steps_per_epoch=2)

    def spoil(step: int, loss: float) -> None:
        if step == 2:
            next(iter(trainer.network.adapter().values())).fill_(math.nan)

    trainer.on_step = spoil
    with pytest.raises(SamnetError, match=r"weights in .* are not finite at step 2"):
        trainer.run()
    assert not any(trainer.folder.checkpoint(kind).is_file() for kind in (LAST, BEST, FINAL))


def test_state_is_saved_by_time(make_trainer: MakeTrainer) -> None:
    steps = {"steps": 4, "steps_per_epoch": 4}

    def saved_steps(name: str, **options: Any) -> list[int]:
        """Return the steps after which the last checkpoint holds that step."""
        saved: list[int] = []
        trainer = make_trainer(name, **steps, **options)
        last = trainer.folder.checkpoint(LAST)

        def on_step(step: int, loss: float) -> None:
            if last.is_file() and read_progress(last).step == step:
                saved.append(step)

        trainer.on_step = on_step
        trainer.run()
        assert read_progress(last).step == 4
        return saved

    assert saved_steps("often", save_seconds=0) == [1, 2, 3, 4]
    assert saved_steps("seldom") == []


def test_time_limit_does_not_depend_on_the_clock_of_the_machine(
    make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock that is set changes neither the limit nor the learning rate that falls with time."""

    def set_clock() -> None:
        monkeypatch.setattr(time, "time", lambda: 0.0)

    trainer = make_trainer(max_seconds=1e6, hooks={"on_step": after_step(1, set_clock)})
    trainer.run()
    last_row = read_rows(trainer.folder)[-1]
    assert last_row["step"] == 6
    assert 0 < last_row["seconds"] < 1000
