"""A frozen encoder at work on the views of many slices."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from samnet.core.errors import SamnetError
from samnet.models.network import SegmentationNetwork
from samnet.models.precision import autocast, used_precision
from samnet.training.embeddings.choice import Block
from samnet.training.embeddings.views import SliceView, SliceViews


class SliceEncoder:
    """The frozen part of a network at work.

    workers: processes that prepare images, each begun with `worker_setup`.
    """

    def __init__(
        self,
        network: SegmentationNetwork,
        device: torch.device,
        *,
        workers: int = 0,
        worker_setup: Callable[[int], None] | None = None,
    ) -> None:
        self.network, self.device = network, device
        self.workers, self.worker_setup = workers, worker_setup

    def precision(self, views: SliceViews) -> str:
        return used_precision(views.configuration.precision, self.device)

    @torch.no_grad()
    def encode(
        self, views: SliceViews, blocks: Sequence[Block]
    ) -> Iterator[tuple[SliceView, np.ndarray]]:
        """All slices of all blocks in their order: how each was shown, and its embedding `(256, G, G)`."""
        case_index = {case.identifier: index for index, case in enumerate(views.cases)}
        wanted = [
            (case_index[block.identifier], block.axis, index, block.number)
            for block in blocks
            for index in block.slices
        ]
        # Batches end with their block: its content does not depend on what else was left to encode.
        batches = _in_batches(
            [len(block.slices) for block in blocks],
            self._batch_size(views.configuration.input_size),
        )
        loader: DataLoader = DataLoader(
            _ViewImages(views, wanted),
            batch_sampler=list(batches),
            num_workers=self.workers,
            worker_init_fn=self.worker_setup,
            collate_fn=_collate,
            pin_memory=self.device.type == "cuda",
        )
        for shown, images in loader:
            with autocast(views.configuration.precision, self.device):
                embeddings = self.network.embed(images.to(self.device, non_blocking=True))
            rows = embeddings.half().cpu().numpy()
            if not np.isfinite(rows).all():
                raise SamnetError("an embedding exceeds half precision; train with --no-cache")
            yield from zip(shown, rows, strict=True)

    def _batch_size(self, input_size: int) -> int:
        images = (4 if self.device.type == "cuda" else 1) * 1024**2 // input_size**2
        return max(1, min(32, images))


class _ViewImages(Dataset):
    """Views and their images, in the order of a list of (case, axis, slice, number)."""

    def __init__(self, views: SliceViews, wanted: list[tuple[int, int, int, int]]) -> None:
        self.views, self.wanted = views, wanted

    def __getitem__(self, position: int) -> tuple[SliceView, Tensor]:
        case_index, axis, _, _ = self.wanted[position]
        view = self.views.draw_view(*self.wanted[position])
        return view, self.views.image(case_index, axis, view)

    def __len__(self) -> int:
        return len(self.wanted)


def _collate(batch: list[tuple[SliceView, Tensor]]) -> tuple[list[SliceView], Tensor]:
    shown, images = zip(*batch, strict=True)
    return list(shown), torch.stack(images)


def _in_batches(lengths: list[int], size: int) -> Iterator[list[int]]:
    """Positions from 0 on in batches of at most `size`, none of which spans two of the stretches of these lengths."""
    start = 0
    for length in lengths:
        for first in range(start, start + length, size):
            yield list(range(first, min(first + size, start + length)))
        start += length
