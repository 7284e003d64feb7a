"""clDice, a score of tubes such as vessels: how much of either centreline lies in the other tube.

The centrelines are the skeletons of scikit-image, by the algorithm of Lee (3D) or Zhang (2D).
"""

from __future__ import annotations

import numpy as np

from samnet.core.components import label_components

CLDICE = "clDice"


def centreline_dice(prediction: np.ndarray, reference: np.ndarray) -> float:
    """Compute the centreline Dice of two masks (arXiv 2003.07311).

    It is the harmonic mean of the share of the prediction's centreline in the reference and the
    share of the reference's centreline in the prediction.

    Args:
        prediction: Booleans `(Z, Y, X)` or `(Y, X)`.
        reference: Booleans of the same shape.

    Returns:
        The score, 0 to 1; 0 where one of the masks is empty, NaN where both are.
    """
    is_predicted, is_true = bool(prediction.any()), bool(reference.any())
    if not is_predicted or not is_true:
        return 0.0 if is_predicted or is_true else float("nan")
    precision = reference[centreline(prediction)].mean()
    sensitivity = prediction[centreline(reference)].mean()
    if precision + sensitivity == 0:
        return 0.0
    return float(2 * precision * sensitivity / (precision + sensitivity))


def centreline(mask: np.ndarray) -> np.ndarray:
    """Return the centreline of a mask. Every connected component has a part of it.

    scikit-image's thinning in 3D deletes straight tubes whose widths are even (its issue 3757).
    Such components are thinned again without their last layer along each axis, which makes their
    widths odd. One of which still nothing is left is kept whole.

    Args:
        mask: Booleans `(Z, Y, X)` or `(Y, X)`.

    Returns:
        Booleans of the same shape.
    """
    from skimage.morphology import skeletonize  # slow to load, and needed on request only

    skeleton = skeletonize(mask).astype(bool)
    lost = _components_without(mask, skeleton)
    if not lost.any():
        return skeleton
    thinned = skeletonize(_without_last_layers(lost)).astype(bool)
    return skeleton | thinned | _components_without(lost, thinned)


def _components_without(mask: np.ndarray, skeleton: np.ndarray) -> np.ndarray:
    """Return the components of a mask in which no voxel of a skeleton lies."""
    labelled, count = label_components(mask)
    is_lost = np.ones(count + 1, dtype=bool)
    is_lost[0] = False
    is_lost[labelled[skeleton]] = False
    return is_lost[labelled]


def _without_last_layers(mask: np.ndarray) -> np.ndarray:
    """Remove the voxels of a mask that have no neighbour in it behind them along some axis."""
    thinner = mask
    for axis in range(mask.ndim):
        behind = np.zeros_like(thinner)
        source, target = [slice(None)] * mask.ndim, [slice(None)] * mask.ndim
        source[axis], target[axis] = slice(1, None), slice(None, -1)
        behind[tuple(target)] = thinner[tuple(source)]
        thinner = thinner & behind
    return thinner
