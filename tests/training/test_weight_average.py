"""The average of the trained weights: what it is, and that it is validated, kept and resumed."""

from __future__ import annotations

import signal
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from builders.numerics import SINGLE, relative_error
from builders.recorder import Recorder
from builders.runs import after_step, fixed_dice, load_last_weights, send_signal
from torch import Tensor, nn

from samnet.core.signals import Interrupted
from samnet.inference.load import load_trained
from samnet.models.model_folder import BEST, FINAL, LAST
from samnet.models.network import load_weights
from samnet.training.loop import Trainer
from samnet.training.static_step import StaticStep
from samnet.training.step import TrainingStep
from samnet.training.weight_average import WeightAverage

MakeTrainer = Callable[..., Trainer]
AVERAGED: dict[str, Any] = {"weight_average": 0.9, "steps": 4, "steps_per_epoch": 2}
LORA = {"encoder_tuning": "lora"}


def test_average_forgets_the_start_and_then_spans_what_the_decay_says() -> None:
    layer = nn.Linear(1, 1, bias=False).double()
    average = WeightAverage(layer, 0.5)
    expected = layer.weight.item()
    for number, kept in enumerate([1 / 10, 2 / 11, 3 / 12, 4 / 13, 5 / 14, 6 / 15, 7 / 16, 8 / 17]):
        layer.weight.data.fill_(number**2)
        average.add_step()
        expected = kept * expected + (1 - kept) * number**2
    for number in range(8, 20):
        layer.weight.data.fill_(number**2)
        average.add_step()
        expected = 0.5 * expected + 0.5 * number**2
    assert float(average.weights["weight"]) == pytest.approx(expected, rel=1e-9)


def test_frozen_weights_are_not_averaged() -> None:
    layer = nn.Linear(2, 1)
    layer.bias.requires_grad_(False)
    assert list(WeightAverage(layer, 0.9).weights) == ["weight"]
    assert not WeightAverage(layer, 0.0).weights


def test_network_has_the_average_and_then_its_own_weights_bit_by_bit_in_the_same_memory() -> None:
    layer = nn.Linear(3, 2)
    average = WeightAverage(layer, 0.9)
    own, address = 0.1 * torch.arange(6.0).reshape(2, 3), layer.weight.data_ptr()
    layer.weight.data.copy_(own)
    averaged = average.weights["weight"].clone()
    with average.in_network():
        assert torch.equal(layer.weight, averaged)
    assert torch.equal(layer.weight, own)
    assert torch.equal(average.weights["weight"], averaged)
    assert layer.weight.data_ptr() == address


def trained_names(trainer: Trainer) -> list[str]:
    return [name for name, weight in trainer.network.named_parameters() if weight.requires_grad]


@pytest.mark.parametrize(
    ("held_out", "values"),
    [(True, {}), (True, LORA), (False, {"encoder_tuning": "frozen", "head": "linear"})],
    ids=["full", "lora", "frozen"],
)
def test_average_is_validated_and_kept(
    make_trainer: MakeTrainer, held_out: bool, values: dict[str, Any]
) -> None:
    validated: list[dict[str, Tensor]] = []

    def validator(network: Any, *_: Any, **__: Any) -> np.ndarray:
        validated.append({name: value.clone() for name, value in network.adapter().items()})
        return np.full(2, len(validated) / 10)

    hooks = {"validator": validator}
    values = AVERAGED | values
    trainer = make_trainer(held_out=held_out, hooks=hooks, **values)
    trainer.run()
    last = load_last_weights(trainer.folder)
    kinds = (FINAL, BEST) if held_out else (FINAL,)
    kept = [load_weights(trainer.folder.checkpoint(kind)) for kind in kinds]
    for weights in (*kept, load_trained(trainer.folder, LAST)):
        assert set(weights) == set(last)
        for name, value in weights.items():
            assert torch.equal(value, validated[-1][name])
    assert any(not torch.equal(last[name], kept[0][name]) for name in trained_names(trainer))


@pytest.mark.parametrize("values", [{}, LORA], ids=["full", "lora"])
def test_stopped_run_resumes_to_the_same_average(
    make_trainer: MakeTrainer, values: dict[str, Any]
) -> None:
    values = AVERAGED | {"held_out": False} | values
    quick = {"validator": fixed_dice(0.1)}
    undisturbed = make_trainer("undisturbed", hooks=quick, **values)
    undisturbed.run()
    stop = partial(send_signal, signal.SIGTERM)
    stopped = make_trainer(hooks=quick | {"on_step": after_step(3, stop)}, **values)
    with pytest.raises(Interrupted):
        stopped.run()
    resumed = make_trainer(hooks=quick, **values)
    assert resumed.average.steps == 3
    resumed.run()
    one, other = (run.folder.checkpoint(FINAL).read_bytes() for run in (resumed, undisturbed))
    assert one == other


def test_steps_are_those_of_a_run_without_an_average(make_trainer: MakeTrainer) -> None:
    quick = {"validator": fixed_dice(0.1)}
    with_average = make_trainer("a", hooks=quick, **AVERAGED)
    without = make_trainer("b", hooks=quick, **(AVERAGED | {"weight_average": 0.0}))
    for trainer in (with_average, without):
        trainer.run()
    one, other = (load_last_weights(trainer.folder) for trainer in (with_average, without))
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_run_without_an_average_is_prolonged_with_one_that_begins_at_its_weights(
    make_trainer: MakeTrainer,
) -> None:
    quick = {"validator": fixed_dice(0.1, 0.1)}
    make_trainer(hooks=quick, steps=2, steps_per_epoch=2).run()
    longer = make_trainer(hooks=quick, **AVERAGED)
    own = dict(longer.network.named_parameters())
    assert all(torch.equal(value, own[name]) for name, value in longer.average.weights.items())
    longer.run()
    assert longer.average.steps == 2


def test_static_steps_average_as_ordinary_ones_do(make_trainer: MakeTrainer) -> None:
    found = []
    for name in ("ordinary", "static"):
        trainer = make_trainer(name, weight_average=0.9)
        step = trainer.steps
        assert isinstance(step, TrainingStep)
        steps = step if name == "ordinary" else StaticStep(step, Recorder())
        generator = torch.Generator().manual_seed(0)
        for number in range(8):
            images = torch.rand(2, 3, 32, 32, generator=generator)
            steps.make(images, torch.full((2, 16, 16), number % 3), 1e-3, number)
        steps.losses()
        assert trainer.average.steps == 8
        found.append(torch.cat([value.flatten() for value in trainer.average.weights.values()]))
    assert relative_error(found[1], found[0]) < 100 * SINGLE
