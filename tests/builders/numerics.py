"""Comparisons of numbers that hold on any CPU.

Kernels of different CPUs sum in different orders. The rounding error of an element is then as
large as the summed terms make it, however small the element is. So no tolerance for single elements
fits both an element near 0 and a large one. Here the norm of the difference is compared with the
norm of the expected tensor. In double precision rounding contributes about 1e-15 to it: a tolerance
of 1e-10 lies far above rounding, and far below any real fault.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from samnet.models.sam_modules import PositionEmbeddingRandom

Module = TypeVar("Module", bound=nn.Module)
# Largest relative error of the same numbers in another order: about 1e5 and 1e2 times the rounding.
DOUBLE = 1e-10
SINGLE = 1e-5
# Of probabilities in single precision: far above their rounding, and below any real difference.
MARGIN = 1e-5
# Some gradients are 0 by the formula, such as that of the bias of keys, and consist of rounding
# errors. Their difference is compared with this share of the norm of all gradients.
_SMALLEST_SHARE = 1e-4


def relative_error(found: Tensor | np.ndarray, expected: Tensor | np.ndarray) -> float:
    """Return the norm of the difference of two tensors, divided by the norm of the expected one.

    Args:
        found: Any tensor or array.
        expected: One of the same shape.

    Returns:
        The error; infinite if the expected tensor is 0 and the found one is not.
    """
    found = torch.as_tensor(found).detach().double()
    expected = torch.as_tensor(expected).detach().double()
    assert found.shape == expected.shape
    difference, norm = float((found - expected).norm()), float(expected.norm())
    if norm == 0:
        return 0.0 if difference == 0 else float("inf")
    return difference / norm


def assert_close_to_norm(
    found: Tensor | np.ndarray, expected: Tensor | np.ndarray, tolerance: float = DOUBLE
) -> None:
    """Fail unless the relative error of a tensor is at most a tolerance.

    Args:
        found: Any tensor or array.
        expected: One of the same shape.
        tolerance: Largest `relative_error`.
    """
    error = relative_error(found, expected)
    assert error <= tolerance, f"the relative error is {error:.2g}, more than {tolerance:.2g}"


def assert_gradients_close(
    found: Sequence[Tensor], expected: Sequence[Tensor], tolerance: float = DOUBLE
) -> None:
    """Fail unless each of several gradients has a relative error of at most a tolerance.

    Args:
        found: Gradients of one value by several tensors.
        expected: Gradients of the same shapes.
        tolerance: Largest norm of a difference, divided by the norm of the expected gradient or, if
            this is larger, by 1e-4 of the norm of all of them.
    """
    smallest = _SMALLEST_SHARE * _norm(expected)
    for number, (gradient, other) in enumerate(zip(found, expected, strict=True)):
        assert gradient.shape == other.shape
        limit = tolerance * max(_norm([other]), smallest)
        difference = _norm([gradient - other])
        assert difference <= limit, f"gradient {number} is {difference:.2g} off, over {limit:.2g}"


def assert_same_winners(
    labels: np.ndarray, values: Tensor, margin: float = MARGIN, clear_share: float = 0.999
) -> None:
    """Fail unless labels are those of the largest of several values.

    Voxels where the two largest values are within rounding of each other are left out: there the
    order of summation decides which is larger.

    Args:
        labels: `(Z, Y, X)`, counted from 0 in the order of the values.
        values: Probabilities, or sums of them, `(K, Z, Y, X)`.
        margin: Difference of the two largest values from which on a voxel counts.
        clear_share: Smallest share of the voxels that have to count.
    """
    first, second = values.topk(2, dim=0).values
    clear = (first - second > margin).numpy()
    assert clear.mean() > clear_share
    assert np.array_equal(labels[clear], values.argmax(0).numpy()[clear])


def _norm(tensors: Iterable[Tensor]) -> float:
    squares = [float(tensor.detach().double().square().sum()) for tensor in tensors]
    return float(np.sqrt(sum(squares)))


def to_double(module: Module) -> Module:
    """Convert a module to double precision, in place.

    SAM's position encoding stays in single precision, in which it computes its coordinates. So the
    positions have the same values before and after.

    Args:
        module: Any network or part of one.

    Returns:
        The module.
    """
    module.double()
    for part in module.modules():
        if isinstance(part, PositionEmbeddingRandom):
            part.float()
    return module
