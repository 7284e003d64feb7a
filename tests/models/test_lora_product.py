"""The product of a linear layer with low-rank updates: its types, gradients and operators."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from builders.numerics import DOUBLE, assert_gradients_close, relative_error
from torch import Tensor
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from samnet.models.lora_product import lora_product
from samnet.models.precision import as_if_autocast

PARTS = [(0,), (1,), (0, 2), (0, 1, 2)]


def draw(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, dtype=dtype, requires_grad=True)


def arguments(parts: tuple[int, ...], dtype: torch.dtype = torch.float64) -> dict[str, Any]:
    """Return weight, bias and pairs of a layer from 8 to 3 parts of 4, of rank 2."""
    return {
        "weight": draw(12, 8, dtype=dtype).detach(),
        "bias": draw(12, dtype=dtype).detach(),
        "down": [draw(2, 8, dtype=dtype) for _ in parts],
        "up": [draw(4, 2, dtype=dtype) for _ in parts],
        "parts": parts,
        "scale": 0.5,
    }


def formula(x: Tensor, layer: dict[str, Any]) -> Tensor:
    update = torch.zeros_like(layer["weight"])
    for part, down, up in zip(layer["parts"], layer["down"], layer["up"], strict=True):
        padding = (0, 0, 4 * part, 8 - 4 * part)
        update = update + functional.pad(layer["scale"] * up @ down, padding)
    return functional.linear(x, layer["weight"] + update, layer["bias"])


@pytest.mark.parametrize("parts", PARTS)
@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_product_and_gradients_are_those_of_the_formula(
    parts: tuple[int, ...], scale: float
) -> None:
    layer, x, weights = arguments(parts) | {"scale": scale}, draw(2, 3, 5, 8), draw(2, 3, 5, 12)
    trained = [x, *layer["down"], *layer["up"]]
    y, expected = lora_product(x, **layer), formula(x, layer)
    assert relative_error(y, expected) < DOUBLE
    found = torch.autograd.grad((y * weights).sum(), trained)
    assert_gradients_close(found, torch.autograd.grad((expected * weights).sum(), trained))


def test_input_without_gradient_gets_none_and_the_pairs_get_theirs() -> None:
    layer, x = arguments((0, 2)), draw(5, 8)
    pairs = [*layer["down"], *layer["up"]]
    expected = torch.autograd.grad(lora_product(x, **layer).square().sum(), pairs)
    found = torch.autograd.grad(lora_product(x.detach(), **layer).square().sum(), pairs)
    assert_gradients_close(found, expected)


def test_layer_without_bias_is_taken() -> None:
    layer, x = arguments((1,)) | {"bias": None}, draw(5, 8)
    assert relative_error(lora_product(x, **layer), formula(x, layer)) < DOUBLE


@pytest.mark.parametrize("parts", PARTS)
def test_gradients_in_an_autocast_have_the_types_of_their_parameters(
    parts: tuple[int, ...],
) -> None:
    layer, x = arguments(parts, torch.float32), draw(64, 8, dtype=torch.float32)
    trained = [x, *layer["down"], *layer["up"]]
    with torch.autocast("cpu", torch.bfloat16):
        y = lora_product(x, **layer)
    assert y.dtype == torch.bfloat16
    found = torch.autograd.grad(y.float().square().sum(), trained)
    assert all(gradient.dtype == torch.float32 for gradient in found)
    expected = torch.autograd.grad(formula(x, layer).square().sum(), trained)
    for gradient, other in zip(found, expected, strict=True):
        assert relative_error(gradient, other) < 0.03  # bfloat16 rounds to 1 / 256


def test_double_precision_stays_in_an_autocast() -> None:
    layer, x = arguments((0,)), draw(5, 8)
    with torch.autocast("cpu", torch.bfloat16):
        assert relative_error(lora_product(x, **layer), formula(x, layer)) < DOUBLE


def test_tensors_without_values_take_the_assumed_type() -> None:
    layer, x = arguments((0, 2), torch.float32), draw(5, 8, dtype=torch.float32)
    with torch.device("meta"):
        layer = {name: to_meta(value) for name, value in layer.items()}
    assert lora_product(x.to("meta"), **layer).dtype == torch.float32
    with as_if_autocast(torch.bfloat16):
        assert lora_product(x.to("meta"), **layer).dtype == torch.bfloat16


def to_meta(value: Any) -> Any:
    if isinstance(value, list):
        return [tensor.to("meta") for tensor in value]
    return value.to("meta") if isinstance(value, Tensor) else value


class Operators(TorchDispatchMode):
    """Lists the names of the operators that are dispatched while it is active."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        self.names.append(function._schema.name.removeprefix("aten::"))
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("parts", PARTS)
def test_updates_are_neither_padded_nor_added_with_their_zeros(parts: tuple[int, ...]) -> None:
    """All parts are updated by one product, however many there are."""
    layer, x = arguments(parts) | {"scale": 1.0}, draw(2, 5, 8)
    with Operators() as operators:
        lora_product(x, **layer).sum().backward()
    assert not {"constant_pad_nd", "new_zeros", "zeros", "mul", "add"} & set(operators.names)
    kinds = ("mm", "addmm", "addmm_", "bmm", "baddbmm_")
    products = [name for name in operators.names if name in kinds]
    assert len(products) == 3 + 5  # forward and backward


@pytest.mark.parametrize("parts", [(2, 0), (0, 1, 3), (1, 1)])
def test_parts_that_are_not_evenly_spaced_are_refused(parts: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="evenly spaced"):
        lora_product(draw(5, 8), **arguments(parts))
