"""The targets of many samples at once.

A point of a target lies between four pixels. Their labels and weights decide alone which class has
the largest share, or whether a region has more than half: so nothing is computed for classes that
are not there, as it would be if a mask of every class were interpolated.
"""

from __future__ import annotations

import torch
from torch import Tensor

from samnet.dataset.label_scheme import LabelScheme
from samnet.training.device_batches.placing import within_slice

_NO_LABEL = 2**31 - 1
_NUM_VALUES = 2**16  # label maps have at most 16 bits


class TargetMaker:
    """Makes the targets of batches, as `place_labels` and `place_regions` do for one slice."""

    def __init__(self, label_scheme: LabelScheme, device: torch.device) -> None:
        """Prepare the tables.

        Args:
            label_scheme: The classes or regions of the targets.
            device: Where they are made.
        """
        self._ignore_label = label_scheme.ignore_label
        self._members: Tensor | None = None
        if label_scheme.regions is not None:
            label_sets = list(label_scheme.label_sets)
            if self._ignore_label is not None:
                label_sets.append((self._ignore_label,))
            members = torch.zeros(_NUM_VALUES, len(label_sets))
            for number, values in enumerate(label_sets):
                members[list(values), number] = 1
            self._members = members.to(device)

    def make(self, labels: Tensor, grids: Tensor, sizes: Tensor, nearest: Tensor | None) -> Tensor:
        """Make the targets of a batch.

        Args:
            labels: Labels `(B, Hp, Wp)` of slices of different sizes, continued to one size.
            grids: `(B, n, n, 2)`, for the slices without what continues them.
            sizes: Rows and columns of the slices, `(B, 2)`.
            nearest: `(B,)`, whether a slice has too many classes to be interpolated; None where
                none has.

        Returns:
            Classes `(B, n, n)`, or a mask of each region `(B, R, n, n)`.
        """
        positions = ((grids + 1) * (sizes.flip(1) / 2)[:, None, None] - 0.5).flip(-1)
        values, weights = _neighbours(labels, positions, sizes)
        weights = weights * within_slice(grids)
        if self._members is not None:
            return self._regions(values, weights, self._members)
        classes = _largest_share(values, weights)
        if nearest is not None:
            classes = torch.where(
                nearest[:, None, None], _nearest(labels, positions, sizes), classes
            )
        return classes

    def _regions(self, values: Tensor, weights: Tensor, members: Tensor) -> Tensor:
        shares = torch.zeros(*values.shape[1:], members.shape[1], device=values.device)
        for value, weight in zip(values, weights, strict=True):
            shares += weight[..., None] * members[value]
        shares = shares.movedim(-1, 1)
        if self._ignore_label is None:
            return (shares > 0.5).int()
        unknown = shares[:, -1:]
        target = (shares[:, :-1] > 0.5 * (1 - unknown)).int()
        return target.masked_fill_(unknown > 0.5, self._ignore_label)


def _neighbours(labels: Tensor, positions: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
    """Return labels and weights of the four pixels around each position, `(4, B, n, n)` each.

    Args:
        labels: `(B, Hp, Wp)`.
        positions: `(B, n, n, 2)`, rows and columns; whole numbers are the centres of pixels.
        sizes: Rows and columns of the slices, `(B, 2)`.
    """
    last = (sizes - 1)[:, None, None]
    positions = positions.clamp(min=0).minimum(last)
    before = positions.floor()
    share_after = positions - before
    after = (before + 1).minimum(last)
    values, weights = [], []
    for rows, row_weights in ((before, 1 - share_after), (after, share_after)):
        for columns, column_weights in ((before, 1 - share_after), (after, share_after)):
            values.append(_labels_at(labels, rows[..., 0].long(), columns[..., 1].long()))
            weights.append(row_weights[..., 0] * column_weights[..., 1])
    return torch.stack(values), torch.stack(weights)


def _labels_at(labels: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return the labels `(B, n, n)` of `(B, Hp, Wp)` at rows and columns `(B, n, n)`."""
    positions = rows * labels.shape[2] + columns
    return labels.flatten(1).gather(1, positions.flatten(1)).view_as(rows).long()


def _largest_share(values: Tensor, weights: Tensor) -> Tensor:
    """Return the label with the largest sum of weights, the lowest of several.

    Where all weights are 0, it is the background.
    """
    shares = torch.zeros_like(weights)
    for value, weight in zip(values, weights, strict=True):
        shares += weight * (values == value)
    largest = shares.amax(0)
    winners = values.masked_fill(shares < largest, _NO_LABEL).amin(0)
    return winners * (largest > 0)


def _nearest(labels: Tensor, positions: Tensor, sizes: Tensor) -> Tensor:
    """Return the label of the pixel nearest to each position; background outside the slice."""
    pixels = positions.round().long()
    is_within = ((pixels >= 0) & (pixels < sizes[:, None, None])).all(-1)
    inner = pixels.clamp(min=0).minimum((sizes - 1)[:, None, None])
    return _labels_at(labels, inner[..., 0], inner[..., 1]) * is_within
