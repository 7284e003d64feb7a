"""Tests of rules that hold for any input: how many inputs are tried, and which."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy


def for_any_input(max_examples: int = 50, simplify: bool = True) -> Callable[[Any], Any]:
    """Return the decorator of a test of a rule.

    It tries the same inputs each time, on any machine and however slow that is.

    Args:
        max_examples: How many inputs are tried.
        simplify: Whether to look for the simplest input that fails, which tries hundreds of
            inputs. Not for tests that write and read files for each input.

    Returns:
        The decorator.
    """
    phases = [Phase.explicit, Phase.generate, *([Phase.shrink] if simplify else [])]
    return settings(
        max_examples=max_examples,
        phases=phases,
        derandomize=True,
        deadline=None,
        database=None,
        report_multiple_bugs=simplify,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    )


@st.composite
def affines(draw: st.DrawFn, max_shear: float = 0.0) -> np.ndarray:
    """Draw an affine of any orientation, rotation, spacing and origin.

    Args:
        draw: Draws its numbers.
        max_shear: Largest tangent of the angle by which an axis is off its right angle.

    Returns:
        4 x 4, from `(x, y, z)` indices to mm.
    """
    quaternion = np.array([2 + draw(st.floats(-1, 1)), *(draw(st.floats(-1, 1)) for _ in range(3))])
    w, x, y, z = quaternion / np.linalg.norm(quaternion)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    rotation = np.eye(3) + 2 * w * cross + 2 * cross @ cross
    order = draw(st.permutations(range(3)))
    signs = [draw(st.sampled_from((-1, 1))) for _ in range(3)]
    spacing = [draw(st.floats(0.2, 8)) for _ in range(3)]
    shear = np.eye(3)
    if max_shear:
        shear[0, 1] = draw(st.floats(-max_shear, max_shear))
    affine = np.eye(4)
    affine[:3, :3] = rotation @ shear @ (np.eye(3)[:, order] * signs * spacing)
    affine[:3, 3] = [draw(st.floats(-500, 500)) for _ in range(3)]
    return affine


def shapes(largest: int = 7) -> SearchStrategy[tuple[int, int, int]]:
    """Return a strategy that draws the shape `(Z, Y, X)` of a small volume.

    Args:
        largest: The largest edge in voxels.

    Returns:
        The strategy.
    """
    edge = st.integers(1, largest)
    return st.tuples(edge, edge, edge)
