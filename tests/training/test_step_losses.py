"""When the losses of steps are read, and what becomes of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from samnet.training import step_losses
from samnet.training.checkpoint import Progress
from samnet.training.loop import Trainer
from samnet.training.step_losses import READ_SECONDS, StepLosses

MakeTrainer = Callable[..., Trainer]


@dataclass
class Steps:
    """Steps of a device that works by itself."""

    reads_at_once: bool = False
    unread: list[float] = field(default_factory=list)

    def losses(self) -> list[float]:
        losses, self.unread = self.unread, []
        return losses


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return a list with the time, which stands still."""
    now = [100.0]
    monkeypatch.setattr(step_losses.time, "monotonic", lambda: now[0])
    return now


def make_steps(steps: Steps, progress: Progress, losses: StepLosses, count: int) -> list[float]:
    """Make steps, and return the last loss that was read after each."""
    seen = []
    for _ in range(count):
        steps.unread.append(float(progress.step + 1))
        progress.step += 1
        losses.read_if_needed()
        seen.append(losses.last)
    return seen


def test_losses_of_a_device_are_read_after_a_while(
    make_trainer: MakeTrainer, clock: list[float]
) -> None:
    steps, progress, reported = Steps(), Progress(step=10), []
    losses = StepLosses(steps, make_trainer().task, progress)
    assert all(math.isnan(value) for value in make_steps(steps, progress, losses, 2))
    assert progress.loss_sum == 0
    clock[0] += READ_SECONDS + 0.01
    assert make_steps(steps, progress, losses, 2) == [13, 13]
    assert progress.loss_sum == 11 + 12 + 13
    losses.read()
    assert progress.loss_sum == 11 + 12 + 13 + 14
    losses.report(lambda number, loss: reported.append((number, loss)))
    losses.report(lambda number, loss: reported.append((number, loss)))
    assert reported == [(11, 11), (12, 12), (13, 13), (14, 14)]


@pytest.mark.parametrize(
    ("reads_at_once", "schedule"), [(True, "polynomial"), (False, "plateau_by_pass")]
)
@pytest.mark.usefixtures("clock")
def test_losses_are_read_after_each_step_where_they_are_known_or_needed(
    make_trainer: MakeTrainer, reads_at_once: bool, schedule: str
) -> None:
    steps, progress = Steps(reads_at_once), Progress()
    losses = StepLosses(steps, make_trainer(schedule=schedule).task, progress)
    assert make_steps(steps, progress, losses, 3) == [1, 2, 3]


def test_plateau_by_pass_learns_the_step_of_each_loss(make_trainer: MakeTrainer) -> None:
    """Passes of two steps; from the eleventh pass on the loss of their last step counts."""
    task = make_trainer(schedule="plateau_by_pass", batch_size=2).task
    assert task.num_slices == 4
    steps, progress = Steps(), Progress(step=23)
    steps.unread = [5.0, 3.0, 4.0]  # of steps 21 to 23
    StepLosses(steps, task, progress).read()
    assert progress.plateau.best_loss == 3.0  # of step 22
    progress = Progress(step=23)
    steps.unread = [5.0, 3.0]
    StepLosses(steps, task, progress).read()
    assert progress.plateau.best_loss == 5.0  # of step 22; step 23 ends no pass
