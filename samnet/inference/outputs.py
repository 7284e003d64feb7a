"""What the outputs of a network stand for: logits to probabilities, and probabilities to labels."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from functools import reduce

import numpy as np
import torch
from torch import Tensor

from samnet.dataset.label_scheme import LabelScheme, Regions

Subvolume = tuple[slice, slice, slice]
# An output's number, where in a block of voxels (Z, Y, X) it is known, and its probabilities there.
Piece = tuple[int, Subvolume, Tensor]
_ROUNDING = 1e-5  # probabilities may differ by so much for the order in which sums are computed


class Outputs(ABC):
    """Either classes or regions, see `outputs_for`."""

    @abstractmethod
    def probabilities(self, logits: Tensor) -> Tensor:
        """Turn logits into probabilities.

        Args:
            logits: `(B, K, h, w)` of K outputs.

        Returns:
            Probabilities of the same shape.
        """

    @property
    @abstractmethod
    def first_foreground(self) -> int:
        """The number of the first output that is not the background."""

    @abstractmethod
    def decided_sums(self, probabilities: Tensor) -> tuple[Tensor, Tensor]:
        """Count the pixels that maps decide for each output, and add up its probabilities there.

        Args:
            probabilities: `(B, K, h, w)` of K outputs.

        Returns:
            Number of pixels, and sum of the probabilities, both `(K,)`.
        """

    @abstractmethod
    def doubt(self, probabilities: Iterable[Tensor]) -> Tensor:
        """Return how far the decision is from certain, 0 where it is.

        Args:
            probabilities: Those of each output in turn, of any shape.

        Returns:
            Values from 0 to 1 in the same shape.
        """

    @abstractmethod
    def may_decide(self, lowest: Tensor, highest: Tensor, count: float = 1) -> Tensor:
        """Tell which outputs can decide a label.

        Args:
            lowest: Lower bounds of their probabilities `(K, ...)`.
            highest: Upper bounds of the same shape.
            count: The weights of the predictions that have been added up, in all.

        Returns:
            Booleans of the same shape.
        """

    @abstractmethod
    def label_map(
        self,
        pieces: Iterable[Piece],
        shape: tuple[int, ...],
        num_outputs: int,
        device: torch.device,
        count: float = 1,
    ) -> np.ndarray:
        """Turn probabilities into labels.

        Args:
            pieces: Probabilities of the outputs, in their order, each at least where it may decide.
            shape: Shape `(Z, Y, X)` of the labels.
            num_outputs: Number of outputs.
            device: Where to compute.
            count: The weights of the predictions that have been added up, in all.

        Returns:
            Labels `(Z, Y, X)`.
        """

    @abstractmethod
    def probability_outside(self, output: int) -> float:
        """Return the probability of an output where nothing was predicted, as outside the crop.

        Args:
            output: Its number.

        Returns:
            0 or 1.
        """

    @abstractmethod
    def highest_label(self, num_outputs: int) -> int:
        """Return the highest value that a label map may hold.

        Args:
            num_outputs: Number of outputs.

        Returns:
            The value.
        """

    def label_type(self, num_outputs: int) -> type:
        """Return the smallest numpy type that holds the labels.

        Args:
            num_outputs: Number of outputs.

        Returns:
            `uint8` or `uint16`.
        """
        return np.uint8 if self.highest_label(num_outputs) < 256 else np.uint16

    def _no_labels(self, shape: tuple[int, ...], num_outputs: int, device: torch.device) -> Tensor:
        # torch computes with few types of 16 bits: labels that 8 bits do not hold take 32.
        is_narrow = self.highest_label(num_outputs) < 256
        dtype = torch.uint8 if is_narrow else torch.int32
        return torch.zeros(shape, dtype=dtype, device=device)


class ClassOutputs(Outputs):
    """Classes that exclude each other, background first."""

    def probabilities(self, logits: Tensor) -> Tensor:
        """Apply the softmax over the classes."""
        return logits.softmax(dim=1)

    @property
    def first_foreground(self) -> int:
        """The first class after the background."""
        return 1

    def decided_sums(self, probabilities: Tensor) -> tuple[Tensor, Tensor]:
        """Decide for the class of the largest probability."""
        best, winners = (values.flatten() for values in probabilities.max(dim=1))
        sums = best.new_zeros(2, probabilities.shape[1])
        sums[0].index_add_(0, winners, torch.ones_like(best))
        sums[1].index_add_(0, winners, best)
        return sums[0], sums[1]

    def doubt(self, probabilities: Iterable[Tensor]) -> Tensor:
        """Return 1 minus the largest probability."""
        return (1 - reduce(torch.maximum, probabilities)).clamp(0, 1)

    def may_decide(self, lowest: Tensor, highest: Tensor, count: float = 1) -> Tensor:
        """Leave out classes that stay below the largest of the lower bounds: they never win."""
        return highest >= lowest.amax(0) - _ROUNDING * count

    def label_map(
        self,
        pieces: Iterable[Piece],
        shape: tuple[int, ...],
        num_outputs: int,
        device: torch.device,
        count: float = 1,
    ) -> np.ndarray:
        """Take the class of the largest probability at each voxel, the first of equal ones."""
        best = torch.full(shape, -1.0, device=device)
        winners = self._no_labels(shape, num_outputs, device)
        for value, place, candidate in pieces:
            so_far = best[place]
            winners[place].masked_fill_(candidate > so_far, value)
            torch.maximum(so_far, candidate, out=so_far)
        return winners.cpu().numpy()

    def probability_outside(self, output: int) -> float:
        """Return 1 for the background."""
        return float(output == 0)

    def highest_label(self, num_outputs: int) -> int:
        """Return the last class."""
        return num_outputs - 1


class RegionOutputs(Outputs):
    """Regions, of which several may hold at one voxel, as in nnU-Net v2.

    Attributes:
        class_order: The label that is written for each region, later ones over earlier ones.
    """

    def __init__(self, regions: Regions) -> None:
        """Take the order in which regions are written.

        Args:
            regions: The regions of the outputs.
        """
        self.class_order = regions.class_order

    def probabilities(self, logits: Tensor) -> Tensor:
        """Apply the sigmoid to each region."""
        return logits.sigmoid()

    @property
    def first_foreground(self) -> int:
        """The first region; there is no background."""
        return 0

    def decided_sums(self, probabilities: Tensor) -> tuple[Tensor, Tensor]:
        """Decide for every region whose probability is above a half."""
        is_inside = probabilities > 0.5
        inside_total = torch.where(is_inside, probabilities, 0).sum((0, 2, 3))
        return is_inside.sum((0, 2, 3)).to(probabilities.dtype), inside_total

    def doubt(self, probabilities: Iterable[Tensor]) -> Tensor:
        """Return that of the most doubtful region: its probability, or 1 minus it if smaller."""
        of_regions = (torch.minimum(region, 1 - region) for region in probabilities)
        return reduce(torch.maximum, of_regions).clamp(0, 1)

    def may_decide(self, lowest: Tensor, highest: Tensor, count: float = 1) -> Tensor:
        """Leave out regions that stay below a half: they are never drawn."""
        return highest > (0.5 - _ROUNDING) * count

    def label_map(
        self,
        pieces: Iterable[Piece],
        shape: tuple[int, ...],
        num_outputs: int,
        device: torch.device,
        count: float = 1,
    ) -> np.ndarray:
        """Draw the label of each region where its probability is above a half, in their order."""
        labels = self._no_labels(shape, num_outputs, device)
        for region, place, total in pieces:
            labels[place].masked_fill_(total > 0.5 * count, self.class_order[region])
        return labels.cpu().numpy()

    def probability_outside(self, output: int) -> float:
        """Return 0: no region holds there."""
        return 0.0

    def highest_label(self, num_outputs: int) -> int:
        """Return the highest label that is written for a region."""
        return max(self.class_order)


def outputs_for(label_scheme: LabelScheme) -> Outputs:
    """Return what the outputs of a network stand for.

    Args:
        label_scheme: The classes or regions it was trained on.

    Returns:
        The conversion of its logits.
    """
    regions = label_scheme.regions
    return ClassOutputs() if regions is None else RegionOutputs(regions)
