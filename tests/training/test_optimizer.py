"""The optimisers that a plan can name."""

from __future__ import annotations

import pytest
import torch
from builders.numerics import DOUBLE
from builders.tiny import make_configuration
from torch import nn

from samnet.plan.configuration import PLAN_KEYS
from samnet.training.optimizer import OPTIMIZERS, allocate_state, build_optimizer


def test_every_optimizer_of_the_plan_can_be_built() -> None:
    assert set(PLAN_KEYS["optimizer"].choices()) == set(OPTIMIZERS)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_only_trained_weights_are_updated(name: str) -> None:
    network = nn.Linear(2, 2)
    network.bias.requires_grad_(False)
    before = [weight.detach().clone() for weight in (network.weight, network.bias)]
    values = make_configuration(optimizer=name, learning_rate=0.1)
    optimizer = build_optimizer(network, values, torch.device("cpu"))
    network(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    assert not torch.equal(network.weight, before[0])
    assert torch.equal(network.bias, before[1])


def test_sgd_steps_by_momentum_and_weight_decay() -> None:
    """v = 0.9 v + (gradient + decay w), w = w - rate v, with the loss w w / 2."""
    network = nn.Linear(1, 1, bias=False).double()
    values = make_configuration(optimizer="sgd", learning_rate=0.1, weight_decay=0.5)
    optimizer = build_optimizer(network, values, torch.device("cpu"))
    expected, speed = network.weight.item(), 0.0
    for _ in range(3):
        optimizer.zero_grad()
        (network.weight**2 / 2).sum().backward()
        optimizer.step()
        speed = 0.9 * speed + expected + 0.5 * expected
        expected -= 0.1 * speed
        assert network.weight.item() == pytest.approx(expected, rel=DOUBLE)


@pytest.mark.parametrize("name", ["adamw", "adam"])
def test_optimizer_has_the_planned_values_and_the_trained_weights_alone(name: str) -> None:
    network = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    network[0].requires_grad_(False)
    configuration = make_configuration(optimizer=name, learning_rate=0.02, weight_decay=0.3)
    optimizer = build_optimizer(network, configuration, torch.device("cpu"))
    [group] = optimizer.param_groups
    assert type(optimizer).__name__.lower() == name
    assert (group["lr"], group["weight_decay"]) == (0.02, 0.3)
    assert group["betas"] == (0.9, 0.999)  # SAMed's and AutoSAM's
    assert [id(weight) for weight in group["params"]] == [
        id(part) for part in network[1].parameters()
    ]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_steps_are_the_same_whether_the_state_was_allocated_before(name: str) -> None:
    weights = []
    for is_allocated in (False, True):
        torch.manual_seed(0)
        network = nn.Linear(3, 2).double()
        values = make_configuration(optimizer=name, learning_rate=0.1, weight_decay=0.5)
        optimizer = build_optimizer(network, values, torch.device("cpu"))
        if is_allocated:
            before = network.weight.detach().clone()
            allocate_state(optimizer)
            assert torch.equal(network.weight, before)
            assert len(optimizer.state) == 2
        for _ in range(3):
            optimizer.zero_grad()
            (network(torch.ones(1, 3).double()) ** 2).sum().backward()
            optimizer.step()
        weights.append(network.weight)
    torch.testing.assert_close(weights[0], weights[1], rtol=DOUBLE, atol=0)
