"""Linear layers with their own backward pass: results, gradients, types and operators."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from builders.numerics import assert_close_to_norm, assert_gradients_close, relative_error
from torch import Tensor, nn
from torch_timing import count_operators

from samnet.models.linear_product import CompactLinear, compact_linears, parallel_linear


def draw(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, dtype=dtype, requires_grad=True)


def compact(x: Tensor, layers: list[nn.Linear]) -> Tensor:
    return CompactLinear(layers[0])(x)


def parallel(x: Tensor, layers: list[nn.Linear]) -> Tensor:
    return parallel_linear(x, layers)


def one_by_one(x: Tensor, layers: list[nn.Linear]) -> Tensor:
    return torch.stack([layer(part) for layer, part in zip(layers, x, strict=True)])


def first(x: Tensor, layers: list[nn.Linear]) -> Tensor:
    return layers[0](x)


Form = Callable[[Tensor, list[nn.Linear]], Tensor]
FORMS = [
    pytest.param(compact, first, (5, 4), id="matrix"),
    pytest.param(compact, first, (2, 3, 4), id="tokens"),
    pytest.param(parallel, one_by_one, (3, 5, 4), id="parallel"),
]


def make_layers(dtype: torch.dtype = torch.float64) -> list[nn.Linear]:
    return [nn.Linear(4, 6, dtype=dtype) for _ in range(3)]


def trained_of(layers: list[nn.Linear], form: Form) -> list[Tensor]:
    used = layers if form is parallel else layers[:1]
    return [weight for layer in used for weight in layer.parameters()]


@pytest.mark.parametrize(("form", "expected_form", "shape"), FORMS)
def test_results_and_gradients_are_those_of_linear_layers(
    form: Form, expected_form: Form, shape: tuple[int, ...]
) -> None:
    layers, x = make_layers(), draw(*shape)
    trained = [x, *trained_of(layers, form)]
    found, expected = form(x, layers), expected_form(x, layers)
    assert_close_to_norm(found, expected)
    weights = torch.randn_like(expected)
    assert_gradients_close(
        torch.autograd.grad((found * weights).sum(), trained),
        torch.autograd.grad((expected * weights).sum(), trained),
    )
    assert torch.autograd.gradcheck(lambda given: form(given, layers), x)


@pytest.mark.parametrize(("form", "expected_form", "shape"), FORMS)
def test_gradients_in_an_autocast_have_the_types_of_their_parameters(
    form: Form, expected_form: Form, shape: tuple[int, ...]
) -> None:
    layers, x = make_layers(torch.float32), draw(*shape, dtype=torch.float32)
    trained = [x, *trained_of(layers, form)]
    with torch.autocast("cpu", torch.bfloat16):
        y = form(x, layers)
    assert y.dtype == torch.bfloat16
    found = torch.autograd.grad(y.float().square().sum(), trained)
    expected = torch.autograd.grad(expected_form(x, layers).square().sum(), trained)
    for gradient, other in zip(found, expected, strict=True):
        assert gradient.dtype == torch.float32
        assert relative_error(gradient, other) < 0.03  # bfloat16 rounds to 1 / 256


@pytest.mark.parametrize(("form", "expected_form", "shape"), FORMS)
def test_frozen_layers_leave_the_gradient_of_their_input_and_keep_no_input(
    form: Form, expected_form: Form, shape: tuple[int, ...]
) -> None:
    layers, x = make_layers(), draw(*shape)
    for layer in layers:
        layer.requires_grad_(False)
    kept: list[tuple[int, ...]] = []

    def note(tensor: Tensor) -> Tensor:
        kept.append(tuple(tensor.shape))
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        y = form(x, layers)
    assert set(kept) == {(6, 4)}  # the weights alone
    [found] = torch.autograd.grad(y.square().sum(), x)
    [expected] = torch.autograd.grad(expected_form(x, layers).square().sum(), x)
    assert_gradients_close([found], [expected])


def test_an_input_without_gradient_gets_none() -> None:
    layers, x = make_layers(), draw(3, 5, 4).detach()
    for form in (compact, parallel):
        trained = trained_of(layers, form)
        found = torch.autograd.grad(form(x, layers).sum(), trained)
        assert all(gradient is not None for gradient in found)


def test_layers_are_replaced_under_their_names_and_take_fewer_operators() -> None:
    module = nn.Sequential(nn.Linear(4, 6), nn.Sequential(nn.Linear(6, 4, bias=False)))
    names, x = list(module.state_dict()), draw(2, 3, 4, dtype=torch.float32)
    expected = module(x)
    before = count_operators(lambda: module(x).sum().backward())
    compact_linears(module)
    assert list(module.state_dict()) == names
    assert isinstance(module[0], CompactLinear)
    assert_close_to_norm(module(x), expected)
    assert count_operators(lambda: module(x).sum().backward()) < before


def test_operators_of_parallel_layers_do_not_grow_with_their_number() -> None:
    def count(number: int) -> int:
        layers, x = [nn.Linear(4, 6) for _ in range(number)], torch.randn(number, 5, 4)
        return count_operators(lambda: parallel_linear(x, layers))

    assert count(2) == count(20)
