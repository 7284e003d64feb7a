"""The composition of the network's input channels from the channels of a data set."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def num_input_channels(layout: str, num_channels: int) -> int:
    """Return the number of channels of a composed image.

    Args:
        layout: The `channel_layout` of the configuration.
        num_channels: Number of image channels of the data set.

    Returns:
        Three, except for `stem`: there the network itself reduces the data set's channels to three.
    """
    return num_channels if layout == "stem" else 3


def slice_indices(layout: str, index: int, num_slices: int) -> list[int]:
    """Return the slices from which the image of one slice is composed.

    Args:
        layout: The `channel_layout` of the configuration.
        index: Number of the slice.
        num_slices: Number of slices of the case.

    Returns:
        Slice numbers. At both ends the outermost slice takes the place of the missing neighbour.
    """
    if layout != "neighbours":
        return [index]
    return [max(index - 1, 0), index, min(index + 1, num_slices - 1)]


def compose_channels(slices: np.ndarray, layout: str) -> np.ndarray:
    """Compose an image from slices.

    Args:
        slices: Slices `(N, C, H, W)` chosen by `slice_indices`.
        layout: The `channel_layout` of the configuration.

    Returns:
        The image `(C', H, W)` with C' = `num_input_channels`.
    """
    if layout == "neighbours":
        return slices[:, 0]
    image = slices[0]
    if layout == "repeat":
        return np.repeat(image, 3, axis=0)
    if layout == "pair_mean":
        return np.concatenate([image, image.mean(axis=0, keepdims=True)])
    return image


def compose_images(slices: Tensor, indices: Sequence[Sequence[int]], layout: str) -> Tensor:
    """Compose the images of several slices at once, on the device that the slices are on.

    Args:
        slices: Slices `(N, C, H, W)`.
        indices: For each image its slices among the N, as of `slice_indices`.
        layout: The `channel_layout` of the configuration.

    Returns:
        The images `(B, C', H, W)`, as `compose_channels` composes them.
    """
    chosen = torch.tensor(indices, device=slices.device)
    if layout == "neighbours":
        return slices[chosen, 0]
    images = slices[chosen[:, 0]]
    if layout == "repeat":
        return images.repeat_interleave(3, dim=1)
    if layout == "pair_mean":
        return torch.cat([images, images.mean(dim=1, keepdim=True)], dim=1)
    return images
