"""What a teacher's output stands for as a label: where it is sure, by class."""

from __future__ import annotations

import torch
from torch import Tensor

from samnet.training.distributed import Distributed

SURE = 0.95  # as FixMatch (arXiv 2001.07685)
LEAST_SURE = 0.5
UNSURE = -1  # the value of a pixel without a pseudo-label
_MOMENTUM = 0.99


class PseudoLabels:
    """Turns logits of the teacher into labels of the pixels where it is sure.

    A class of which the teacher is less sure than of others, such as a small one, would hardly ever
    be above one threshold for all. So the threshold of a class is lower by the ratio of the mean
    confidence in it to that in the surest class (FreeMatch, arXiv 2205.07246; by class also
    FlexMatch, arXiv 2110.08263). Regions have a threshold each.

    Attributes:
        confidence: The running mean of the confidence in each class or region, `(K,)`.
        has_regions: Whether the outputs are regions.
    """

    def __init__(self, num_outputs: int, has_regions: bool, device: torch.device) -> None:
        """Begin as if the teacher were equally sure of all classes.

        Args:
            num_outputs: Classes with the background, or regions.
            has_regions: Whether the outputs are regions.
            device: Where the logits are.
        """
        self.has_regions = has_regions
        self.confidence = torch.ones(num_outputs, device=device)

    @property
    def thresholds(self) -> Tensor:
        """How sure the teacher has to be of each class or region, `(K,)`."""
        return (SURE * self.confidence / self.confidence.max()).clamp_min(LEAST_SURE)

    def label(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Return the labels of logits, and where they are sure.

        Args:
            logits: `(B, K, H, W)`.

        Returns:
            Classes `(B, H, W)`, or regions `(B, K, H, W)` of 0 and 1; and whether the teacher is
            sure of them, of the same shape.
        """
        labels, confidence = self._decide(logits)
        if self.has_regions:
            return labels, confidence >= self.thresholds[:, None, None]
        return labels, confidence >= self.thresholds[labels]

    def learn(self, logits: Tensor, distributed: Distributed) -> None:
        """Take the confidence of a batch into the running means.

        Args:
            logits: `(B, K, H, W)`, of this process.
            distributed: The processes that have the other rows of the batch.
        """
        labels, confidence = self._decide(logits)
        num_outputs = len(self.confidence)
        if self.has_regions:
            sums = confidence.sum((0, 2, 3))
            counts = torch.full_like(sums, labels[:, 0].numel())
        else:
            one_hot = torch.nn.functional.one_hot(labels.flatten(), num_outputs).to(logits.dtype)
            sums, counts = confidence.flatten() @ one_hot, one_hot.sum(0)
        sums, counts = distributed.gather_batch(torch.stack([sums, counts])[None]).sum(0)
        means = torch.where(counts > 0, sums / counts.clamp_min(1), self.confidence)
        self.confidence.lerp_(means, 1 - _MOMENTUM)

    def _decide(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        if self.has_regions:
            probability = logits.sigmoid()
            return (probability > 0.5).long(), torch.maximum(probability, 1 - probability)
        confidence, labels = logits.softmax(1).max(1)
        return labels, confidence
