"""Gradients without an operator for each weight: those of the ordinary backward pass."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch_timing import count_operators

from samnet.training.gradients import set_gradients


def draw(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.randn(*shape, dtype=torch.float64))


def sum_of_two(weights: list[nn.Parameter]) -> Tensor:
    """Both have one tensor as gradient."""
    return (weights[0] + weights[1]).square().sum()


def transposed(weights: list[nn.Parameter]) -> Tensor:
    """The gradient of the first lies transposed in memory."""
    factors = torch.arange(12.0, dtype=torch.float64).view(4, 3)
    return (weights[0].t() * factors).sum() + weights[1].square().sum()


def expanded(weights: list[nn.Parameter]) -> Tensor:
    """Every value of the gradients is the same place in memory."""
    return weights[0].sum() + weights[1].sum()


def parts_of_one(weights: list[nn.Parameter]) -> Tensor:
    """The gradients are parts of one tensor."""
    return torch.cat(tuple(weights)).square().sum()


@pytest.mark.parametrize("loss_of", [sum_of_two, transposed, expanded, parts_of_one])
def test_gradients_are_those_of_the_backward_pass_and_can_be_changed_in_place(
    loss_of: Callable[[list[nn.Parameter]], Tensor],
) -> None:
    weights = [draw(3, 4), draw(3, 4)]
    loss_of(weights).backward()
    expected = [weight.grad.clone() for weight in weights if weight.grad is not None]
    set_gradients(loss_of(weights), weights)
    for weight, gradient in zip(weights, expected, strict=True):
        assert weight.grad is not None
        assert torch.equal(weight.grad, gradient)
        assert weight.grad.stride() == weight.stride()
        weight.grad.mul_(2)
    for weight, gradient in zip(weights, expected, strict=True):
        assert weight.grad is not None
        assert torch.equal(weight.grad, 2 * gradient)


def test_weights_that_the_loss_does_not_depend_on_have_no_gradient() -> None:
    used, unused = draw(3), draw(3)
    unused.grad = torch.ones_like(unused)
    set_gradients(used.square().sum(), [used, unused])
    assert used.grad is not None
    assert unused.grad is None


def test_gradients_take_no_operator_for_each_weight() -> None:
    weights = [draw(3) for _ in range(20)]
    fewer, more = (torch.cat(tuple(some)).square().sum() for some in (weights[:10], weights))
    difference = count_operators(lambda: set_gradients(more, weights))
    difference -= count_operators(lambda: set_gradients(fewer, weights[:10]))
    assert difference == 10  # each is a part of the gradient of what they are joined to
