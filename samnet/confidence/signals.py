"""Numbers by class that tell how sure networks are of one predicted case.

They come from what there is anyway: the probabilities of the networks, at the resolution of their
outputs, the label map and the image.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from samnet.confidence.structures import StructureMeasure
from samnet.dataset.label_scheme import LabelScheme


@dataclass(frozen=True)
class MapSums:
    """Sums over the maps of a case, for N networks and the K foreground classes or regions.

    A member is the prediction of one network for one mirrored input. The mean of a network is that
    over its members.

    Attributes:
        total: Sum of the means, `(N, K)`.
        squares: Sum of the squares of the means, `(N, K)`.
        member_squares: Sum of the squares of the members, `(N, K)`.
        inside: Number of pixels that the means decide for a class, `(N, K)`.
        inside_total: Sum of the means there, `(N, K)`.
        overall_squares: Sum of the squares of the mean over all networks, `(K,)`.
        num_mirrors: Members of a network.
    """

    total: np.ndarray
    squares: np.ndarray
    member_squares: np.ndarray
    inside: np.ndarray
    inside_total: np.ndarray
    overall_squares: np.ndarray
    num_mirrors: int


@dataclass(frozen=True)
class ClassSignals:
    """How sure networks are of one class of a case. None where a signal does not exist.

    Attributes:
        overlap: Dice that is expected if the probabilities are right: twice their sum inside the
            predicted structure, by the sum of all of them and the size of the structure (soft Dice
            confidence, arXiv 2402.10665).
        probability: Mean probability inside the predicted structure.
        mirrors: Mean soft Dice of two mirrored predictions; None without mirrors.
        networks: Mean soft Dice of two networks; None for a single one. As the mean pairwise Dice
            of arXiv 2406.03323, but of probabilities.
        size: Size of the structure, in mm3, or in pixels where no spacing is known.
        largest: Share of its largest connected part.
        slices: Mean Dice of its cuts with neighbouring slices; None in a single slice.
        contrast: Difference of intensities across its border, by the standard deviation of the
            image, of the channel where that is largest.
        spread: Standard deviation of intensities inside, by that of the image, of the same channel.
    """

    overlap: float | None
    probability: float | None
    mirrors: float | None
    networks: float | None
    size: float
    largest: float | None
    slices: float | None
    contrast: float | None
    spread: float | None


def measure_signals(
    sums: MapSums,
    labels: np.ndarray,
    image: np.ndarray,
    spacing: Sequence[float],
    slicing_axis: int,
    label_scheme: LabelScheme,
) -> dict[str, ClassSignals]:
    """Compute the signals of a case.

    What a single network tells is computed for each network and averaged, so that it means the same
    for one network as for several.

    Args:
        sums: Sums over the maps of the case.
        labels: The predicted label map `(Z, Y, X)`.
        image: The image `(C, Z, Y, X)`.
        spacing: Distance of voxel centres along `(Z, Y, X)`.
        slicing_axis: The axis across which slices lie.
        label_scheme: What the values of the label map stand for.

    Returns:
        Name of a class or region -> its signals.
    """
    overlap = _ratio(2 * sums.inside_total, sums.inside + sums.total)
    probability = _ratio(sums.inside_total, sums.inside)
    mirrors = soft_agreement(sums.squares, sums.member_squares, sums.num_mirrors)
    networks = soft_agreement(sums.overall_squares, sums.squares.sum(0), len(sums.squares))
    measure = StructureMeasure(labels, image, slicing_axis, float(np.prod(spacing)))
    structures = measure.signals(label_scheme.label_sets)
    signals = {}
    for index, name in enumerate(label_scheme.class_names):
        signals[name] = ClassSignals(
            overlap=_mean(overlap[:, index]),
            probability=_mean(probability[:, index]),
            mirrors=_mean(mirrors[:, index]),
            networks=_mean(networks[index]),
            **structures[index],
        )
    return signals


def soft_agreement(squares_of_mean: np.ndarray, squares: np.ndarray, count: int) -> np.ndarray:
    """Compute the soft Dice of all pairs of predictions from two sums.

    The soft Dice of two predictions p and q is 2 sum(p q) / (sum(p p) + sum(q q)). Numerator and
    denominator are summed over all pairs.

    Args:
        squares_of_mean: Sum of the squares of the mean of the predictions, of any shape.
        squares: Sum of the squares of all predictions, of the same shape.
        count: Number of predictions.

    Returns:
        The agreement in the same shape, from 0 to 1; NaN for a single prediction.
    """
    if count < 2:
        return np.full(np.shape(squares), np.nan)
    return np.clip(_ratio(count**2 * squares_of_mean - squares, (count - 1) * squares), 0, 1)


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    undefined = np.full(np.shape(numerator), np.nan)
    return np.divide(numerator, denominator, out=undefined, where=np.asarray(denominator) > 0)


def _mean(values: np.ndarray) -> float | None:
    """Return the mean of what is known; None where nothing is."""
    known = np.asarray(values)[np.isfinite(values)]
    mean = float(known.mean()) if known.size else math.nan
    return None if math.isnan(mean) else mean
