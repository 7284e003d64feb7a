"""Training runs that learn from slices without labels, too."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from builders.runs import after_step, fixed_dice, read_rows, send_signal

from samnet.core.signals import Interrupted
from samnet.models.model_folder import FINAL
from samnet.models.network import load_weights
from samnet.preprocessing.storage import StoredCase
from samnet.training.loop import Trainer
from samnet.training.static_step import may_be_static
from samnet.training.step import TrainingStep
from samnet.training.unlabelled.consistency import RAMP_SHARE, ramp

MakeTrainer = Callable[..., Trainer]
VALUES: dict[str, Any] = {
    "unlabelled_weight": 1.0,
    "weight_average": 0.9,
    "steps": 4,
    "steps_per_epoch": 2,
    "held_out": False,
}
NEW_KEYS = ("sure_share", "sure_truth")


@pytest.fixture
def make(make_trainer: MakeTrainer, without_labels: StoredCase) -> MakeTrainer:
    """Return a function that makes a trainer with a case without labels."""

    def make_with_case(name: str, hooks: dict[str, Callable] | None = None, **values: Any) -> Any:
        quick = {"validator": fixed_dice(0.1), **(hooks or {})}
        cases = [without_labels]
        return make_trainer(name, unlabelled_cases=cases, hooks=quick, **(VALUES | values))

    return make_with_case


def final_weights(trainer: Trainer) -> torch.Tensor:
    weights = load_weights(trainer.folder.checkpoint(FINAL))
    return torch.cat([weights[name].flatten() for name in sorted(weights)])


@pytest.mark.parametrize("values", [{}, {"encoder_tuning": "lora"}], ids=["full", "lora"])
def test_stopped_run_resumes_to_the_same_weights_and_numbers(
    make: MakeTrainer, values: dict[str, Any]
) -> None:
    undisturbed = make("undisturbed", **values)
    undisturbed.run()
    stop = partial(send_signal, signal.SIGTERM)
    stopped = make("run", hooks={"on_step": after_step(3, stop)}, **values)
    with pytest.raises(Interrupted):
        stopped.run()
    resumed = make("run", **values)
    resumed.run()
    assert torch.equal(final_weights(resumed), final_weights(undisturbed))
    for key in ("loss", *NEW_KEYS):
        numbers = [row[key] for row in read_rows(resumed.folder)]
        assert numbers == [row[key] for row in read_rows(undisturbed.folder)]


def test_weight_and_slices_change_what_is_learnt(make: MakeTrainer) -> None:
    found = {}
    for weight in (0.5, 2.0):
        trainer = make(f"of {weight}", unlabelled_weight=weight, steps=4)
        trainer.run()
        found[weight] = final_weights(trainer)
    assert not torch.equal(found[0.5], found[2.0])


def test_run_without_such_cases_records_nothing_of_them(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(hooks={"validator": fixed_dice(0.1)}, steps=1)
    trainer.run()
    assert not set(NEW_KEYS) & set(read_rows(trainer.folder)[0])


def test_truth_is_the_share_of_sure_pixels_that_are_true(make: MakeTrainer) -> None:
    trainer = make("run", steps=2)
    consistency = trainer.consistency
    right = torch.tensor([9.0, 0.0, 0.0])[:, None, None]

    def all_background(images: torch.Tensor) -> torch.Tensor:
        return right.expand(len(images), 3, 16, 16)

    truth = consistency.finish_epoch(all_background)["sure_truth"]
    assert 0.3 < truth < 0.95  # a part of the slices of the validation case is labelled
    assert consistency.finish_epoch(lambda images: 0 * all_background(images))["sure_truth"] is None


def test_steps_with_such_slices_are_not_recorded(make: MakeTrainer) -> None:
    step = make("run").steps
    assert isinstance(step, TrainingStep)
    step.device = torch.device("cuda")
    assert not may_be_static(step)
    step.consistency = None
    assert may_be_static(step)


def test_weight_rises_over_the_first_part_of_a_run() -> None:
    values = [ramp(share / 10) for share in range(11)]
    assert values == sorted(values)
    assert values[0] < 0.01
    assert ramp(RAMP_SHARE) == ramp(1.0) == 1.0


def test_memory_that_runs_out_divides_both_kinds_of_slices(make: MakeTrainer) -> None:
    whole, divided = make("whole", steps=2), make("divided", steps=2)
    divided.steps.gradients.part = 1
    for trainer in (whole, divided):
        trainer.run()
    assert divided.steps.gradients.rows == 4
    difference = final_weights(whole) - final_weights(divided)
    assert difference.norm() < 1e-3 * final_weights(whole).norm()


def test_worker_processes_end_with_the_training(make: MakeTrainer) -> None:
    # The program would wait for them at its end, where steps are left because the time is over.
    others = set(multiprocessing.active_children())
    trainer = make("run", steps=1000, max_seconds=1, workers=1)
    trainer.run()
    assert trainer.progress.step < 1000
    assert set(multiprocessing.active_children()) <= others
