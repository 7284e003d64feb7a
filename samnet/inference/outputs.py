"""What the outputs of a network stand for: how logits become probabilities, and probabilities labels."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from samnet.dataset.labels import Regions


class Outputs(ABC):
    """Either classes or regions, see `outputs_for`."""

    @abstractmethod
    def probabilities(self, logits: Tensor) -> Tensor:
        """Of every output, from logits `(B, K, h, w)`."""

    @abstractmethod
    def label_map(self, sums: Iterable[Tensor], count: int = 1) -> np.ndarray:
        """Labels from the probabilities of the K outputs, all of one shape, which are looked at one after the other.

        count: of equally trusted predictions that have been added up in `sums`.
        """

    @abstractmethod
    def highest_label(self, num_outputs: int) -> int:
        """That a label map may hold."""


class ClassOutputs(Outputs):
    """Classes that exclude each other, background first."""

    def probabilities(self, logits: Tensor) -> Tensor:
        return logits.softmax(dim=1)

    def label_map(self, sums: Iterable[Tensor], count: int = 1) -> np.ndarray:
        """The class of the largest probability at each place, the first of equal ones."""
        best: Tensor | None = None
        for value, candidate in enumerate(sums):
            if best is None:
                best, winners = candidate, torch.zeros(candidate.shape, dtype=torch.int32, device=candidate.device)
            else:
                winners.masked_fill_(candidate > best, value)
                best = torch.maximum(best, candidate)
        return winners.cpu().numpy()

    def highest_label(self, num_outputs: int) -> int:
        return num_outputs - 1


class RegionOutputs(Outputs):
    """Regions, of which several may hold at one place, as in nnU-Net v2."""

    def __init__(self, regions: Regions) -> None:
        self.class_order = regions.class_order

    def probabilities(self, logits: Tensor) -> Tensor:
        return logits.sigmoid()

    def label_map(self, sums: Iterable[Tensor], count: int = 1) -> np.ndarray:
        """Background, and the label of each region over it where its probability is above a half, in their order."""
        labels: Tensor | None = None
        for label, total in zip(self.class_order, sums, strict=True):
            if labels is None:
                labels = torch.zeros(total.shape, dtype=torch.int32, device=total.device)
            labels.masked_fill_(total > 0.5 * count, label)
        assert labels is not None
        return labels.cpu().numpy()

    def highest_label(self, num_outputs: int) -> int:
        return max(self.class_order)


def outputs_for(regions: Regions | None) -> Outputs:
    """regions: of the data set; None where it has classes that exclude each other."""
    return ClassOutputs() if regions is None else RegionOutputs(regions)
