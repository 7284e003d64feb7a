"""Changes of the intensities of many images at once.

Each kind of change is applied to the images that it was drawn for, in the order of
`IntensityDraws`. The functions compute what those of `samnet.training.intensity_changes` compute
for one image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields

import numpy as np
import torch
from torch import Tensor

from samnet.training.device_batches.parcel import Parcel
from samnet.training.device_batches.smooth_fields import FieldSpreader, pack_coarse_values
from samnet.training.intensity_changes import RANGE_MARGIN, lose_resolution
from samnet.training.intensity_draws import (
    BLUR,
    CURVE_VALUES,
    UNEVENNESS_WAVES,
    IntensityDraws,
)
from samnet.training.smooth_fields import num_coarse_values

_KINDS = tuple(field.name for field in fields(IntensityDraws))
_MOST_COARSE_VALUES = num_coarse_values(UNEVENNESS_WAVES[1])
_BLUR_END = 4  # standard deviations at which scipy's Gaussian ends
_BLUR_REACH = int(_BLUR_END * BLUR[1] + 0.5)  # pixels


def pack_changes(draws: Sequence[IntensityDraws | None]) -> dict[str, np.ndarray]:
    """Pack the changes of a batch.

    Args:
        draws: The changes of each image; None for none.

    Returns:
        For each kind that was drawn, `KIND_rows` `(n,)`, the images that it changes, and `KIND`
        `(n, ...)`, its parameters; for `unevenness` also `unevenness_counts` of coarse values.
    """
    arrays = {}
    for kind in _KINDS:
        rows = [row for row, one in enumerate(draws) if getattr(one, kind, None) is not None]
        if rows:
            values = [getattr(draws[row], kind) for row in rows]
            arrays[f"{kind}_rows"] = np.array(rows)
            arrays |= _pack_kind(kind, values)
    return arrays


def _pack_kind(kind: str, values: list) -> dict[str, np.ndarray]:
    if kind == "unevenness":
        coarse, counts = pack_coarse_values(
            [one.strength * one.coarse[None] for one in values], _MOST_COARSE_VALUES
        )
        return {kind: coarse, f"{kind}_counts": counts}
    if kind == "blur":
        return {kind: np.stack([_gaussian(deviation) for deviation in values])}
    if kind == "low_resolution":
        return {kind: np.array(values)}
    return {kind: np.array(values, np.float32)}


def _gaussian(deviation: float) -> np.ndarray:
    """Return the weights of a Gaussian by distance in pixels; the last one is 0."""
    distances = np.arange(_BLUR_REACH + 2)
    weights = np.exp(-0.5 * (distances / deviation) ** 2)
    weights[int(_BLUR_END * deviation + 0.5) + 1 :] = 0
    return (weights / (2 * weights.sum() - weights[0])).astype(np.float32)


class IntensityChanger:
    """Changes the intensities of batches."""

    def __init__(self, size: int, device: torch.device) -> None:
        """Prepare the tables.

        Args:
            size: Edge of the images in pixels.
            device: Where they are changed.
        """
        self._size, self._device = size, device
        self._fields = FieldSpreader(_MOST_COARSE_VALUES, size, device)
        self._distances = _mirrored_distances(size).clamp_(max=_BLUR_REACH + 1).to(device)
        self._resolutions: dict[int, Tensor] = {}

    def apply(self, images: Tensor, here: Parcel, there: Parcel) -> Tensor:
        """Change the images of a batch.

        Args:
            images: `(B, C, S, S)`, values from 0 to 1. They are overwritten.
            here: What was drawn, in the memory of the CPU.
            there: The same on the device.

        Returns:
            The changed images `(B, C, S, S)`, values from 0 to 1.
        """
        functions: dict[str, Callable[[Tensor, Parcel, Parcel], Tensor]] = {
            "curve": _along_curve,
            "unevenness": self._unevenly,
            "noise": _with_noise,
            "blur": self._blurred,
            "brightness": _with_brightness,
            "contrast": _with_contrast,
            "low_resolution": self._with_less_resolution,
            "gamma": _to_power,
        }
        for kind in _KINDS:
            if kind in here:
                rows = there[f"{kind}_rows"]
                changed = functions[kind](images.index_select(0, rows), here, there)
                images.index_copy_(0, rows, changed)
        return images.clamp_(0, 1)

    def _unevenly(self, images: Tensor, here: Parcel, there: Parcel) -> Tensor:
        fields = self._fields.spread(there["unevenness"], there["unevenness_counts"])
        return (images * fields.exp_()).clamp_(0, 1)

    def _blurred(self, images: Tensor, here: Parcel, there: Parcel) -> Tensor:
        weights = there["blur"][:, self._distances].sum(1)
        return _along_both_axes(weights, images)

    def _with_less_resolution(self, images: Tensor, here: Parcel, there: Parcel) -> Tensor:
        matrices = [self._resolution(pixels) for pixels in here["low_resolution"].tolist()]
        return _along_both_axes(torch.stack(matrices), images)

    def _resolution(self, pixels: int) -> Tensor:
        """Return the loss of resolution along one axis as a matrix `(S, S)`."""
        if pixels not in self._resolutions:
            # It is linear in the values: what becomes of a single 1 is a column of the matrix.
            matrix = lose_resolution(np.eye(self._size), pixels, self._size)
            self._resolutions[pixels] = torch.from_numpy(matrix).to(self._device)
        return self._resolutions[pixels]


def _mirrored_distances(size: int) -> Tensor:
    """Return `(3, S, S)`: the distance of each pixel to each pixel and to its two mirror images.

    An image is continued by its mirror image beyond each edge.
    """
    pixel = torch.arange(size)
    to, of = pixel[:, None], pixel[None]
    return torch.stack([(to - of).abs(), to + of + 1, 2 * size - 1 - to - of])


def _along_both_axes(matrices: Tensor, images: Tensor) -> Tensor:
    """Apply matrices `(n, S, S)` to the rows and columns of images `(n, C, S, S)`."""
    return matrices[:, None] @ images @ matrices[:, None].mT


def _column(values: Tensor) -> Tensor:
    return values[:, None, None, None]


def _along_curve(images: Tensor, here: Parcel, there: Parcel) -> Tensor:
    positions = (images * (CURVE_VALUES - 1) + 0.5).long().clamp_(0, CURVE_VALUES - 1)
    return there["curve"].gather(1, positions.flatten(1)).view_as(images)


def _with_noise(images: Tensor, here: Parcel, there: Parcel) -> Tensor:
    return images + there["noise"]


def _with_brightness(images: Tensor, here: Parcel, there: Parcel) -> Tensor:
    return images * _column(there["brightness"])


def _with_contrast(images: Tensor, here: Parcel, there: Parcel) -> Tensor:
    mean = images.mean((-2, -1), keepdim=True)
    moved = (images - mean) * _column(there["contrast"]) + mean
    lowest, highest = images.amin((-2, -1), keepdim=True), images.amax((-2, -1), keepdim=True)
    return moved.clamp_(lowest, highest)


def _to_power(images: Tensor, here: Parcel, there: Parcel) -> Tensor:
    lowest = images.amin((1, 2, 3), keepdim=True)
    extent = images.amax((1, 2, 3), keepdim=True) - lowest
    share = (images - lowest) / (extent + RANGE_MARGIN)
    return share.pow(_column(there["gamma"])) * extent + lowest
