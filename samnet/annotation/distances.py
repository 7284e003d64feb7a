"""Distances between cases, and the orders in which cases cover all others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

NOTHING = -1  # in place of the number of a case: nothing is labelled or chosen yet


@dataclass(frozen=True)
class Step:
    """A case that is chosen.

    Attributes:
        index: Its number among the unlabelled cases.
        score: What it was chosen by.
        nearest: The number of the nearest labelled or chosen case, of all cases with the labelled
            ones first; `NOTHING` without one.
        distance: The distance from there, in typical distances of neighbours.
        num_nearer: How many unlabelled cases, itself included, are nearer to it than to any
            labelled or chosen case.
    """

    index: int
    score: float
    nearest: int
    distance: float
    num_nearer: int


def compute_distances(features: Sequence[np.ndarray]) -> np.ndarray:
    """Compute the distances between cases.

    Args:
        features: The numbers `(F,)` of each of N cases.

    Returns:
        Euclidean distances `(N, N)`, divided by the median distance of a case from its nearest
        neighbour.
    """
    table = np.array(features, float)
    distances = np.zeros((len(table), len(table)))
    for row, numbers in zip(distances, table, strict=True):
        row[:] = np.sqrt(((table - numbers) ** 2).sum(1))
    others = distances + np.diag(np.full(len(table), np.inf))
    nearest = others.min(1, initial=np.inf)
    typical = float(np.median(nearest[np.isfinite(nearest)])) if len(table) > 1 else 0.0
    return distances / typical if typical > 0 else distances


def order_greedily(
    distances: np.ndarray,
    num_labelled: int,
    score: Callable[[np.ndarray, np.ndarray], np.ndarray],
) -> list[Step]:
    """Choose one unlabelled case after the other, each by what is labelled and chosen before it.

    So the first n of them are not n times the same. While nothing is labelled or chosen, the case
    in the middle of all others is chosen.

    Args:
        distances: Distances `(N, N)` of all cases, the labelled ones first.
        num_labelled: Their number.
        score: Returns the score `(U,)` of each unlabelled case, the highest of which is chosen,
            from the distances `(U, U)` between them, and the distance `(U,)` of each from its
            nearest labelled or chosen case.

    Returns:
        A step for each unlabelled case, in the order of the choice.
    """
    between = distances[num_labelled:, num_labelled:]
    count = len(between)
    to_labelled = distances[num_labelled:, :num_labelled]
    nearest = np.full(count, NOTHING)
    gap = np.full(count, np.inf)
    if num_labelled and count:
        nearest = to_labelled.argmin(1)
        gap = to_labelled.min(1)
    is_open = np.ones(count, bool)
    steps = []
    for _ in range(count):
        is_first = not np.isfinite(gap).any()
        scores = -between.mean(1) if is_first else score(between, gap)
        index = int(np.where(is_open, scores, -np.inf).argmax())
        nearer = between[:, index] < gap
        num_nearer = int((nearer & is_open).sum())
        steps.append(
            Step(index, float(scores[index]), int(nearest[index]), float(gap[index]), num_nearer)
        )
        gap = np.minimum(gap, between[:, index])
        nearest = np.where(nearer, num_labelled + index, nearest)
        is_open[index] = False
    return steps


def farthest(between: np.ndarray, gap: np.ndarray) -> np.ndarray:
    """Score cases by their distance from what is labelled or chosen (greedy k-centre).

    Args:
        between: As for `order_greedily`.
        gap: As for `order_greedily`.

    Returns:
        The scores `(U,)`.
    """
    return gap


def most_covering(between: np.ndarray, gap: np.ndarray) -> np.ndarray:
    """Score cases by how much nearer all others come to what is chosen (facility location).

    Args:
        between: As for `order_greedily`.
        gap: As for `order_greedily`.

    Returns:
        By how much the mean distance falls, `(U,)`.
    """
    return np.maximum(gap[:, None] - between, 0).mean(0)
