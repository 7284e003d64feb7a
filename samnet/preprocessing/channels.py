"""How a data set's channels become the channels of the network's input."""

from __future__ import annotations

import numpy as np


def num_input_channels(layout: str, num_channels: int) -> int:
    """Channels of the composed image: three, but for `stem`, where the network itself brings many to three."""
    return num_channels if layout == "stem" else 3


def slice_indices(layout: str, index: int, num_slices: int) -> list[int]:
    """The slices that an image of slice `index` is made of; at the ends the outermost stands in for its neighbour."""
    if layout != "neighbours":
        return [index]
    return [max(index - 1, 0), index, min(index + 1, num_slices - 1)]


def compose_channels(slices: np.ndarray, layout: str) -> np.ndarray:
    """Slices `(N, C, H, W)` chosen by `slice_indices` to an image `(C', H, W)`."""
    if layout == "neighbours":
        return slices[:, 0]
    image = slices[0]
    if layout == "repeat":
        return np.repeat(image, 3, axis=0)
    if layout == "pair_mean":
        return np.concatenate([image, image.mean(axis=0, keepdims=True)])
    return image
