"""A mean teacher labels slices that have no labels (arXiv 1703.01780).

The teacher is the network with its averaged weights. It sees a slice hardly changed. The student,
the network in training, sees the same slice with strong changes, and learns the probabilities of
the teacher (the two views are those of FixMatch, arXiv 2001.07685, and UniMatch, arXiv 2208.09910).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from samnet.planning.planned_step import unlabelled_rows
from samnet.training.distributed import Distributed
from samnet.training.sampling import SliceSamples
from samnet.training.slice_reader import SampleSpecification
from samnet.training.task import TrainingTask
from samnet.training.unlabelled.samples import UnlabelledSamples, mix_pairs
from samnet.training.unlabelled.soft_labels import likely_labels, soft_labels, soft_loss
from samnet.training.weight_average import WeightAverage

Predict = Callable[[Tensor], Tensor]
RAMP_SHARE = 0.4  # of the training, in which the weight rises to its full value
_SURE = "unlabelled_sure"  # in checkpoints
_TRUTH_SLICES = 24  # of validation cases, on which the truth of sure pixels is measured


def ramp(share_done: float) -> float:
    """Return the share of the full weight: `exp(-5 (1 - t)^2)`, as Laine & Aila (arXiv 1610.02242).

    Args:
        share_done: The share of the training that is done. t is 1 from `RAMP_SHARE` on.
    """
    t = min(1.0, share_done / RAMP_SHARE)
    return math.exp(-5 * (1 - t) ** 2)


def build_consistency(
    task: TrainingTask,
    average: WeightAverage,
    distributed: Distributed,
    device: torch.device,
    stride: int,
    share_done: Callable[[], float],
) -> Consistency | None:
    """Return what adds slices without labels to a run; None for a run on labelled slices alone.

    Args:
        task: What to train on.
        average: The teacher's weights.
        distributed: The processes that train together.
        device: Where the network is.
        stride: Input pixels for each pixel of a target.
        share_done: Tells the share of the training that is done.
    """
    if not task.unlabelled_cases:
        return None
    return Consistency(task, average, distributed, device, stride, share_done)


class Consistency:
    """Adds slices without labels to the batches of a run.

    Attributes:
        task: What to train on.
        average: The teacher's weights.
        share_done: Tells the share of the training that is done.
    """

    def __init__(
        self,
        task: TrainingTask,
        average: WeightAverage,
        distributed: Distributed,
        device: torch.device,
        stride: int,
        share_done: Callable[[], float],
    ) -> None:
        """Prepare for a run.

        Args:
            task: What to train on, with cases without labels.
            average: The teacher's weights.
            distributed: The processes that train together.
            device: Where the network is.
            stride: Input pixels for each pixel of a target.
            share_done: Tells the share of the training that is done.
        """
        self.task, self.average, self.share_done = task, average, share_done
        self._distributed, self._device, self._stride = distributed, device, stride
        self._has_regions = task.label_scheme.regions is not None
        self._whole = unlabelled_rows(task.configuration)
        self._rows = distributed.share_batch(self._whole)
        self._sure = torch.zeros(2, device=device)  # sum of the shares of steps, number of steps
        self._batches: Iterator[Any] = iter(())

    @property
    def rows(self) -> int:
        """Slices without labels that this process has in a step."""
        return len(self._rows)

    @contextmanager
    def batches(self, step: int, worker_setup: Callable[[int], None]) -> Generator[None]:
        """Bring samples while the context lasts.

        Args:
            step: The steps done so far.
            worker_setup: Called in each worker process with its number.
        """
        samples = UnlabelledSamples(self.task.unlabelled_cases, self._specification())
        whole, last_step = self._whole, self.task.configuration.steps
        numbers: list[int] = []
        for first in range(step * whole, last_step * whole, whole):
            numbers += [first + row for row in self._rows]
        loader: DataLoader = DataLoader(
            samples,
            batch_size=self.rows,
            sampler=numbers,
            num_workers=self.task.workers,
            pin_memory=self._device.type == "cuda",
            worker_init_fn=worker_setup,
        )
        self._batches = iter(loader)
        try:
            yield
        finally:
            # Ends its worker processes: the program would wait for them at its end.
            self._batches = iter(())

    def join(self, images: Tensor, loss_of: Predict, predict: Predict) -> tuple[Tensor, Predict]:
        """Add the student's slices of a step to a batch.

        Args:
            images: The labelled images `(B, C, S, S)`.
            loss_of: Returns the loss of their logits.
            predict: Returns the logits of images with the network's weights.

        Returns:
            The images of both, and a function that returns the loss of their logits.
        """
        weak, strong, boxes = next(self._batches)
        logits = self._teach(weak.to(self._device, non_blocking=True), predict)
        self._count(likely_labels(logits, self._has_regions)[1])
        labels = mix_pairs(soft_labels(logits, self._has_regions), boxes)
        student = mix_pairs(strong.to(self._device, non_blocking=True), boxes, self._stride)
        weight = self.task.configuration.unlabelled_weight * ramp(self.share_done())
        labelled = len(images)

        def loss_of_both(logits: Tensor) -> Tensor:
            gather = self._distributed.gather_batch
            unlabelled = soft_loss(gather(logits[labelled:]), gather(labels), self._has_regions)
            return loss_of(logits[:labelled]) + weight * unlabelled

        return torch.cat([images.to(self._device, non_blocking=True), student]), loss_of_both

    def _teach(self, images: Tensor, predict: Predict) -> Tensor:
        with torch.no_grad(), self.average.in_network():
            return predict(images)

    def _count(self, is_sure: Tensor) -> None:
        share = is_sure.float().mean().reshape(1)
        self._sure[0] += self._distributed.gather_batch(share).mean()
        self._sure[1] += 1

    def finish_epoch(self, predict: Predict) -> dict[str, float | None]:
        """Return what is recorded of an epoch, and begin the next one.

        Args:
            predict: Returns the logits of images with the network's weights.

        Returns:
            `sure_share`: the share of the pixels without labels that the teacher was sure of (a
            probability of 0.95 or more).
            `sure_truth`: the share of the pixels of which it is sure that are true, on slices of
            the validation cases; None where there are no such pixels.
        """
        total, steps = self._sure.tolist()
        self._sure.zero_()
        share = round(total / steps, 4) if steps else None
        return {"sure_share": share, "sure_truth": self._truth(predict)}

    def _truth(self, predict: Predict) -> float | None:
        """Return the share of sure pixels that are true, always on the same slices."""
        samples = SliceSamples(self.task.validation_cases, self._specification("none"))
        true = sure = 0
        for first in range(0, _TRUTH_SLICES, max(1, self.rows)):
            numbers = range(first, min(first + max(1, self.rows), _TRUTH_SLICES))
            drawn = [samples[number] for number in numbers]
            target = torch.stack([each[1] for each in drawn]).to(self._device)
            images = torch.stack([each[0] for each in drawn]).to(self._device)
            labels, is_sure = likely_labels(self._teach(images, predict), self._has_regions)
            ignore = self.task.label_scheme.ignore_label
            counted = is_sure if ignore is None else is_sure & (target != ignore)
            true += int(((labels == target) & counted).sum())
            sure += int(counted.sum())
        return round(true / sure, 4) if sure else None

    def _specification(self, augmentation: str | None = None) -> SampleSpecification:
        task, configuration = self.task, self.task.configuration
        if augmentation is not None:
            configuration = replace(configuration, augmentation=augmentation, structure_copying=0.0)
        return SampleSpecification(configuration, task.label_scheme, self._stride, task.seed)

    def state(self) -> dict[str, Tensor]:
        """Return what a checkpoint keeps: tensors by name."""
        return {_SURE: self._sure}

    @torch.no_grad()
    def load_state(self, tensors: dict[str, Tensor]) -> None:
        """Resume from a checkpoint; one of a run without such slices changes nothing.

        Args:
            tensors: All tensors of the checkpoint by name.
        """
        if _SURE in tensors:
            self._sure.copy_(tensors[_SURE])
