"""What the outputs of a network stand for: how logits become probabilities, and probabilities labels."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from samnet.dataset.label_scheme import Regions

Window = tuple[slice, slice, slice]
# An output's number, where in a block of voxels (Z, Y, X) it is known, and its probabilities there.
Piece = tuple[int, Window, Tensor]
_ROUNDING = 1e-5  # probabilities may differ by so much for the order in which sums are made


class Outputs(ABC):
    """Either classes or regions, see `outputs_for`."""

    @abstractmethod
    def probabilities(self, logits: Tensor) -> Tensor:
        """Of every output, from logits `(B, K, h, w)`."""

    @abstractmethod
    def may_decide(self, lowest: Tensor, highest: Tensor, count: int = 1) -> Tensor:
        """Which outputs can decide a label, from bounds of their probabilities `(K, ...)`; as booleans `(K, ...)`.

        count: of equally trusted predictions that have been added up.
        """

    @abstractmethod
    def label_map(
        self,
        pieces: Iterable[Piece],
        shape: tuple[int, ...],
        num_outputs: int,
        device: torch.device,
        count: int = 1,
    ) -> np.ndarray:
        """Labels `(Z, Y, X)` from the probabilities of the outputs, in their order, each at least where it may decide.

        shape: of the labels. count: of equally trusted predictions that have been added up in the probabilities.
        """

    @abstractmethod
    def highest_label(self, num_outputs: int) -> int:
        """That a label map may hold."""

    def label_type(self, num_outputs: int) -> type:
        """The smallest type that holds the labels."""
        return np.uint8 if self.highest_label(num_outputs) < 256 else np.uint16

    def _no_labels(self, shape: tuple[int, ...], num_outputs: int, device: torch.device) -> Tensor:
        """Zeros; torch computes with few types of 16 bits, so that more labels than 8 bits hold take 32."""
        narrow = self.highest_label(num_outputs) < 256
        return torch.zeros(shape, dtype=torch.uint8 if narrow else torch.int32, device=device)


class ClassOutputs(Outputs):
    """Classes that exclude each other, background first."""

    def probabilities(self, logits: Tensor) -> Tensor:
        return logits.softmax(dim=1)

    def may_decide(self, lowest: Tensor, highest: Tensor, count: int = 1) -> Tensor:
        """Some class is nowhere below the largest of the lowest; one that stays below that never wins."""
        return highest >= lowest.amax(0) - _ROUNDING * count

    def label_map(
        self,
        pieces: Iterable[Piece],
        shape: tuple[int, ...],
        num_outputs: int,
        device: torch.device,
        count: int = 1,
    ) -> np.ndarray:
        """The class of the largest probability at each place, the first of equal ones."""
        best = torch.full(shape, -1.0, device=device)
        winners = self._no_labels(shape, num_outputs, device)
        for value, place, candidate in pieces:
            so_far = best[place]
            winners[place].masked_fill_(candidate > so_far, value)
            torch.maximum(so_far, candidate, out=so_far)
        return winners.cpu().numpy()

    def highest_label(self, num_outputs: int) -> int:
        return num_outputs - 1


class RegionOutputs(Outputs):
    """Regions, of which several may hold at one place, as in nnU-Net v2."""

    def __init__(self, regions: Regions) -> None:
        self.class_order = regions.class_order

    def probabilities(self, logits: Tensor) -> Tensor:
        return logits.sigmoid()

    def may_decide(self, lowest: Tensor, highest: Tensor, count: int = 1) -> Tensor:
        """A region that stays below a half is never drawn."""
        return highest > (0.5 - _ROUNDING) * count

    def label_map(
        self,
        pieces: Iterable[Piece],
        shape: tuple[int, ...],
        num_outputs: int,
        device: torch.device,
        count: int = 1,
    ) -> np.ndarray:
        """Background, and the label of each region over it where its probability is above a half, in their order."""
        labels = self._no_labels(shape, num_outputs, device)
        for region, place, total in pieces:
            labels[place].masked_fill_(total > 0.5 * count, self.class_order[region])
        return labels.cpu().numpy()

    def highest_label(self, num_outputs: int) -> int:
        return max(self.class_order)


def outputs_for(regions: Regions | None) -> Outputs:
    """regions: of the data set; None where it has classes that exclude each other."""
    return ClassOutputs() if regions is None else RegionOutputs(regions)
