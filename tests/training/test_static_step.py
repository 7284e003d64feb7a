"""Steps on fixed buffers: their weights and losses are those of ordinary steps."""

from __future__ import annotations

import gc
import logging
import math
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from builders.numerics import SINGLE, relative_error
from builders.recorder import Recorder
from torch import Tensor
from torch_timing import OperatorCount

from samnet.core.errors import SamnetError
from samnet.training.distributed import SINGLE_PROCESS, Distributed
from samnet.training.embeddings.samples import EmbeddedInputs
from samnet.training.loop import Trainer
from samnet.training.optimizer import OPTIMIZERS
from samnet.training.static_step import WARM_UP_STEPS, StaticStep, may_be_static
from samnet.training.step import Inputs, TrainingStep

MakeTrainer = Callable[..., Trainer]
Batch = tuple[Inputs, Tensor]
LORA = {"encoder_tuning": "lora", "lora_targets": ("q", "v", "projection", "mlp")}
# The rate is a number in single precision on the device; Adam's square roots enlarge rounding.
CLOSE = 100 * SINGLE


def make_step(trainer: Trainer) -> TrainingStep:
    """Return the ordinary steps of a trainer on the CPU."""
    assert isinstance(trainer.steps, TrainingStep)
    return trainer.steps


def draw_batches(count: int, rows: int = 2) -> list[Batch]:
    generator = torch.Generator().manual_seed(0)
    return [
        (
            torch.rand(rows, 3, 32, 32, generator=generator),
            torch.randint(0, 3, (rows, 16, 16), generator=generator),
        )
        for _ in range(count)
    ]


def weights_of(trainer: Trainer) -> Tensor:
    trained = [weight for weight in trainer.network.parameters() if weight.requires_grad]
    return torch.cat([weight.detach().flatten() for weight in trained])


def run_steps(steps: TrainingStep | StaticStep, batches: list[Batch]) -> list[float]:
    losses = []
    for number, (inputs, target) in enumerate(batches):
        steps.make(inputs, target, 1e-3 * (1 + number % 3), number)
        losses += steps.losses() if number % 4 == 3 else []
    return losses + steps.losses()


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("values", [{}, LORA], ids=["full", "lora"])
def test_twenty_static_steps_give_the_weights_and_losses_of_ordinary_ones(
    make_trainer: MakeTrainer, optimizer: str, values: dict[str, Any]
) -> None:
    batches, recorder = draw_batches(20), Recorder()
    ordinary = make_trainer("a", optimizer=optimizer, **values)
    static = make_trainer("b", optimizer=optimizer, **values)
    before = weights_of(ordinary)
    expected = run_steps(make_step(ordinary), batches)
    found = run_steps(StaticStep(make_step(static), recorder), batches)
    assert (recorder.recorded, recorder.replayed) == (1, 20 - WARM_UP_STEPS)
    assert found == pytest.approx(expected, rel=CLOSE)
    assert len(set(found)) == 20
    moved = weights_of(ordinary) - before
    assert relative_error(weights_of(static) - before, moved) < CLOSE


def test_a_last_batch_of_another_size_is_an_ordinary_step(make_trainer: MakeTrainer) -> None:
    batches, recorder = draw_batches(6) + draw_batches(1, rows=1) + draw_batches(2), Recorder()
    ordinary, static = make_trainer("a"), make_trainer("b")
    expected = run_steps(make_step(ordinary), batches)
    assert run_steps(StaticStep(make_step(static), recorder), batches) == pytest.approx(
        expected, rel=CLOSE
    )
    assert recorder.replayed == len(batches) - WARM_UP_STEPS - 1


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_step_that_is_not_finite_changes_nothing_and_is_named_when_losses_are_read(
    make_trainer: MakeTrainer, bad: float
) -> None:
    batches, trainer = draw_batches(8), make_trainer()
    steps = StaticStep(make_step(trainer), Recorder())
    for number in range(5):
        steps.make(*batches[number], 1e-3, number)
    assert len(steps.losses()) == 5
    before = weights_of(trainer)
    broken = torch.full_like(batches[5][0], bad)
    steps.make(broken, batches[5][1], 1e-3, 5)
    steps.make(*batches[6], 1e-3, 6)
    assert torch.equal(weights_of(trainer), before)
    with pytest.raises(SamnetError, match=r"at step 5: the training has diverged"):
        steps.losses()


def test_a_step_that_cannot_be_recorded_is_launched_as_before(
    make_trainer: MakeTrainer, caplog: pytest.LogCaptureFixture
) -> None:
    batches = draw_batches(6)
    recorder = Recorder(RuntimeError("operation not permitted when stream is capturing\nmore"))
    ordinary, static = make_trainer("a"), make_trainer("b")
    expected = run_steps(make_step(ordinary), batches)
    assert run_steps(StaticStep(make_step(static), recorder), batches) == expected
    assert torch.equal(weights_of(static), weights_of(ordinary))
    assert recorder.recorded == 1
    [message] = [record.message for record in caplog.records if "CUDA graph" in record.message]
    assert message.endswith("(operation not permitted when stream is capturing)")


def test_memory_of_a_recording_is_released_and_the_next_step_recorded_again(
    make_trainer: MakeTrainer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    batches, recorder = draw_batches(10), Recorder()
    ordinary, trainer = make_trainer("a"), make_trainer("b")
    expected = run_steps(make_step(ordinary), batches)
    steps = StaticStep(make_step(trainer), recorder)
    steps.release_memory()
    found = run_steps(steps, batches[:6])
    gone = weakref.ref(recorder.works[0])
    recorder.works.clear()
    steps.release_memory()
    gc.collect()
    assert gone() is None
    assert all(weight.grad is None for weight in trainer.network.parameters())
    assert found + run_steps(steps, batches[6:]) == pytest.approx(expected, rel=CLOSE)
    assert (recorder.recorded, recorder.replayed) == (2, 10 - WARM_UP_STEPS)
    assert caplog.text.count("are replayed from a CUDA graph") == 1


def test_memory_is_released_before_a_validation(
    make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []

    def validator(*_: Any, **__: Any) -> np.ndarray:
        events.append("validation")
        return np.zeros(2)

    trainer = make_trainer(hooks={"validator": validator}, steps=1)
    monkeypatch.setattr(trainer.steps, "release_memory", lambda: events.append("release"))
    trainer.run()
    assert events == ["release", "validation"]


def test_other_errors_while_recording_are_raised(make_trainer: MakeTrainer) -> None:
    steps = StaticStep(make_step(make_trainer()), Recorder(ValueError("a fault")))
    with pytest.raises(ValueError, match="a fault"):
        run_steps(steps, draw_batches(WARM_UP_STEPS + 1))


def test_nothing_is_replayed_after_memory_has_run_out(make_trainer: MakeTrainer) -> None:
    batches, recorder, trainer = draw_batches(8), Recorder(), make_trainer()
    step = make_step(trainer)
    steps = StaticStep(step, recorder)
    run_steps(steps, batches[:5])
    step.gradients.part = 1
    run_steps(steps, batches[5:])
    assert recorder.replayed == 5 - WARM_UP_STEPS


def test_a_replayed_step_dispatches_a_handful_of_operators(make_trainer: MakeTrainer) -> None:
    batches = draw_batches(WARM_UP_STEPS + 2)
    steps = StaticStep(make_step(make_trainer()), record=lambda work: lambda: None)
    run_steps(steps, batches[:-1])
    with OperatorCount() as count:
        steps.make(*batches[-1], 1e-3, len(batches) - 1)
    # The copies of images and target, the rate, and the values of the step to their place.
    assert count.total <= 6


def test_stored_embeddings_take_static_steps_where_a_batch_has_all_of_them(
    make_trainer: MakeTrainer,
) -> None:
    values: dict[str, Any] = {"encoder_tuning": "frozen", "head": "linear"}
    images = [torch.rand(2, 3, 32, 32) for _ in range(7)]
    found = {}
    for name in ("ordinary", "static"):
        trainer, recorder = make_trainer(name, **values), Recorder()
        step = make_step(trainer)
        steps = step if name == "ordinary" else StaticStep(step, recorder)
        batches: list[Batch] = []
        for number, image in enumerate(images):
            known = trainer.network.embed(image).detach().half()
            count = 1 if number == 4 else 2
            rest = None if count == 2 else image[count:]
            inputs = EmbeddedInputs(torch.arange(2) < count, known[:count], rest)
            target = torch.full((2, *logits_shape(trainer, image)), number % 3)
            batches.append((inputs, target))
        found[name] = run_steps(steps, batches)
    assert recorder.replayed == len(images) - WARM_UP_STEPS - 1
    assert found["static"] == pytest.approx(found["ordinary"], rel=CLOSE)


def logits_shape(trainer: Trainer, image: Tensor) -> torch.Size:
    return trainer.network(image).shape[2:]


def test_only_one_process_with_a_fused_optimizer_on_cuda_takes_static_steps(
    make_trainer: MakeTrainer,
) -> None:
    step = make_step(make_trainer())
    assert not may_be_static(step)
    step.device = torch.device("cuda")
    assert may_be_static(step)
    step.distributed = Distributed(0, 2, step.device)
    assert not may_be_static(step)
    step.distributed = SINGLE_PROCESS
    step.optimizer = torch.optim.SGD(step.trained)
    assert not may_be_static(step)
