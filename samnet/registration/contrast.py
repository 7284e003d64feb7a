"""Whether labels that were taken over fit their new image: how much of their contrast they keep.

Where the structure is not at the place that registration finds, or is not there at all, as a lesion
of another patient, what is labelled looks like what lies around it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

_RING = 2  # voxels around a structure that it is compared with


def contrasts(grey: np.ndarray, labels: np.ndarray) -> dict[int, float]:
    """Return how each label differs from its surroundings (Cohen's d).

    Args:
        grey: Intensities `(Z, Y, X)`.
        labels: Labels `(Z, Y, X)`.

    Returns:
        Label -> the mean within less the mean of a ring around it, in standard deviations.
    """
    from scipy import ndimage

    found = {}
    for value, box in enumerate(ndimage.find_objects(labels), 1):
        if box is None:
            continue
        near = tuple(slice(max(0, part.start - _RING), part.stop + _RING) for part in box)
        inside = labels[near] == value
        # A label map of one slice has no neighbours along Z, which changes nothing here.
        around = ndimage.binary_dilation(inside, iterations=_RING) & ~inside
        if around.any():
            found[value] = _difference(grey[near][inside], grey[near][around])
    return found


def kept_contrast(
    original: Sequence[Mapping[int, float]], taken: Sequence[Mapping[int, float]]
) -> float:
    """Return the share of their contrast that labels keep in images that have taken them over.

    Args:
        original: The contrasts of each labelled image.
        taken: Those of each image that has taken labels over. A label that it lacks has none.

    Returns:
        1 where the median contrast is that of the labelled images; 0 where there is none, or an
        opposite one. Labels count by their contrast in the labelled images.
    """
    kept = whole = 0.0
    for value in {value for image in original for value in image}:
        before = float(np.mean([image[value] for image in original if value in image]))
        after = float(np.median([image.get(value, 0.0) for image in taken])) if taken else 0.0
        kept += after if before > 0 else -after
        whole += abs(before)
    return max(0.0, kept / whole) if whole else 0.0


def _difference(inside: np.ndarray, around: np.ndarray) -> float:
    spread = np.sqrt((inside.var(dtype=float) + around.var(dtype=float)) / 2)
    difference = inside.mean(dtype=float) - around.mean(dtype=float)
    return float(difference / max(spread, 1e-6))
