"""A structure that is copied into the slices of a sample, and pasting it there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Patch:
    """What a structure changes in one slice.

    Attributes:
        rows: The rows of the slice that it covers.
        columns: The columns of the slice that it covers.
        labels: Labels `(h, w)` of the structure; 0 around it, where labels stay unchanged.
        image: Raw intensities `(C, h, w)` on the scale of the slice.
        weight: The part `(h, w)` of these intensities in the result: 1 within the structure; it
            falls to 0 around it.
    """

    rows: slice
    columns: slice
    labels: np.ndarray
    image: np.ndarray
    weight: np.ndarray


@dataclass(frozen=True)
class CopiedStructure:
    """A structure of one slice that is copied into another one and its neighbours.

    Attributes:
        source: Case, axis and slice that it comes from.
        value: The label for which it was drawn.
        patches: What it changes, by the number of the slice.
    """

    source: tuple[int, int, int]
    value: int
    patches: dict[int, Patch]

    def paste_labels(self, index: int, labels: np.ndarray) -> np.ndarray:
        """Paste the structure's labels.

        Args:
            index: The number of the slice.
            labels: Its labels `(H, W)`.

        Returns:
            The changed labels; the same array where nothing changes.
        """
        patch = self.patches.get(index)
        if patch is None:
            return labels
        changed = labels.copy()
        part = changed[patch.rows, patch.columns]
        np.copyto(part, patch.labels, where=patch.labels != 0, casting="unsafe")
        return changed

    def paste_image(self, indices: Sequence[int], raw: np.ndarray) -> np.ndarray:
        """Paste the structure's intensities.

        Args:
            indices: The numbers of the slices.
            raw: Their raw intensities `(N, C, H, W)`.

        Returns:
            The changed intensities in the same type; the same array where nothing changes.
        """
        if not any(index in self.patches for index in indices):
            return raw
        changed = raw.copy()
        for index, image in zip(indices, changed, strict=True):
            if index in self.patches:
                _paste(self.patches[index], image)
        return changed


def _paste(patch: Patch, image: np.ndarray) -> None:
    """Paste a patch into a slice `(C, H, W)`, in place."""
    part = image[:, patch.rows, patch.columns]
    before = part.astype(np.float32)
    mixed = before + patch.weight * (patch.image - before)
    if image.dtype.kind in "iu":
        limits = np.iinfo(image.dtype)
        mixed = np.rint(mixed).clip(limits.min, limits.max)
    np.copyto(part, mixed, where=np.broadcast_to(patch.weight > 0, part.shape), casting="unsafe")
