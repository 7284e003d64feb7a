"""A class that lies around everything else, as background does: a mask that was saved inverted."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

# Of structures that reach the border of an image, as a liver in a part of a CT does, none covers
# most of it: the median of the faces allows for a structure that extends beyond the outer slices.
_BORDER_SHARE = 0.9
_VOLUME_SHARE = 0.5
_SHORTEST_AXIS = 3  # both ends of a shorter one are all of it


def find_border_label(labels: np.ndarray, counts: Mapping[int, int]) -> int | None:
    """Find a label that covers most of an image and of its border, while background lies within.

    Args:
        labels: Labels `(Z, Y, X)`; 0 is background.
        counts: Label -> its number of voxels.

    Returns:
        The label; None where there is none, or no background either.
    """
    most = max(counts, key=counts.__getitem__)
    if most == 0 or 0 not in counts or counts[most] < _VOLUME_SHARE * labels.size:
        return None
    shares = []
    for axis, length in enumerate(labels.shape):
        if length >= _SHORTEST_AXIS:
            for end in (0, length - 1):
                shares.append(float((labels.take(end, axis) == most).mean()))
    return most if shares and np.median(shares) >= _BORDER_SHARE else None
