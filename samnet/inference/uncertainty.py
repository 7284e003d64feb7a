"""Maps of where a prediction is uncertain, on a volume's own voxels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import reduce

import numpy as np
import torch
from torch import Tensor

from samnet.inference.outputs import Outputs, Subvolume
from samnet.inference.reconstruction import ViewMaps, cut

PART_BYTES = 32 * 2**20  # of one output in the part that is computed at a time


def fill_uncertainty(
    outputs: Outputs, views: Sequence[ViewMaps], uncertainty: np.ndarray, start: int = 0
) -> None:
    """Compute the uncertainty of some slices in percent, few at a time.

    Unlike for labels, every output is resampled everywhere.

    Args:
        outputs: What the outputs stand for.
        views: Maps of slices across one or more axes.
        uncertainty: Percentages `(Z, Y, X)` of these slices, to be filled.
        start: The first of these slices among those of the views.
    """
    num_slices, height, width = uncertainty.shape
    for slices in cut(slice(0, num_slices), PART_BYTES // (4 * height * width)):
        along = slice(start + slices.start, start + slices.stop)
        part = (along, slice(0, height), slice(0, width))
        percent = 100 * outputs.doubt(_means(views, part))
        uncertainty[slices] = percent.round().to(torch.uint8).cpu().numpy()


def _means(views: Sequence[ViewMaps], part: Subvolume) -> Iterator[Tensor]:
    """Yield the probabilities of each output in a part of the volume, averaged over the views."""
    for output in range(len(views[0].maps)):
        total = reduce(torch.add, (view.values(output, part) for view in views))
        yield total / len(views)
