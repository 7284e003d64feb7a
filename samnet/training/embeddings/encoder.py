"""A frozen encoder at work on the variants of many slices."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from samnet.core.errors import SamnetError
from samnet.models.network import SegmentationNetwork
from samnet.models.out_of_memory import compute_in_less_memory
from samnet.models.precision import autocast, used_precision, weights_cast
from samnet.training.embeddings.choice import Block
from samnet.training.embeddings.variants import SliceVariant, VariantReader

log = logging.getLogger(__name__)
_MAX_BATCH = 32


class SliceEncoder:
    """The frozen part of a network at work."""

    def __init__(
        self,
        network: SegmentationNetwork,
        device: torch.device,
        *,
        workers: int = 0,
        worker_setup: Callable[[int], None] | None = None,
    ) -> None:
        """Prepare the encoding.

        Args:
            network: The network.
            device: Where it is.
            workers: Number of worker processes that prepare images.
            worker_setup: Called in each of them with its number.
        """
        self.network, self.device = network, device
        self.workers, self.worker_setup = workers, worker_setup
        self._most = _MAX_BATCH  # images at a time; fewer after memory has run out

    def precision(self, variants: VariantReader) -> str:
        """Return the precision in which embeddings are computed.

        Args:
            variants: The slices, with their configuration.

        Returns:
            `float32` or `bfloat16`.
        """
        return used_precision(variants.configuration.precision, self.device)

    def weights_cast(self, variants: VariantReader) -> contextlib.AbstractContextManager:
        """Return a context in which weights are cast to the precision once, not in each batch.

        Args:
            variants: The slices, with their configuration.
        """
        return weights_cast(self.network.encoder, variants.configuration.precision, self.device)

    @torch.no_grad()
    def encode(
        self, variants: VariantReader, blocks: Sequence[Block]
    ) -> Iterator[tuple[SliceVariant, np.ndarray]]:
        """Encode all slices of some blocks.

        Args:
            variants: The slices.
            blocks: The blocks.

        Yields:
            For each slice in their order: how it was shown, and its embedding `(256, G, G)` in half
            precision.

        Raises:
            SamnetError: An embedding exceeds half precision, or a single image does not fit into
                the memory.
        """
        images = _VariantImages(variants, blocks)
        # Batches end with their block: its content does not depend on what else was left to encode.
        lengths = [len(block.slices) for block in blocks]
        batches = _in_batches(lengths, self._batch_size(variants.configuration.input_size))
        loader: DataLoader = DataLoader(
            images,
            batch_sampler=list(batches),
            num_workers=self.workers,
            worker_init_fn=self.worker_setup,
            collate_fn=_collate,
            pin_memory=self.device.type == "cuda",
        )
        for shown, batch in loader:
            precision = variants.configuration.precision
            rows = compute_in_less_memory(partial(self._embed, batch, precision), self._fall_back)
            if not np.isfinite(rows).all():
                raise SamnetError("an embedding exceeds half precision; train with --no-cache")
            yield from zip(shown, rows, strict=True)

    def _embed(self, images: Tensor, precision: str) -> np.ndarray:
        rows = []
        for part in images.split(self._most):
            with autocast(precision, self.device):
                embeddings = self.network.embed(part.to(self.device, non_blocking=True))
            rows.append(embeddings.half().cpu().numpy())
        return np.concatenate(rows)

    def _fall_back(self, reason: str) -> None:
        if self._most == 1:
            raise SamnetError(
                f"encoding a single image does not fit into the memory ({reason}). Train with "
                "--backbone small or --set input_size=..., or where there is more memory"
            )
        self._most //= 2
        log.warning("out of memory (%s): encoding at most %d images at a time", reason, self._most)

    def _batch_size(self, input_size: int) -> int:
        images = (4 if self.device.type == "cuda" else 1) * 1024**2 // input_size**2
        return max(1, min(_MAX_BATCH, images))


class _VariantImages(Dataset):
    """Variants and their images, in the order of some blocks."""

    def __init__(self, variants: VariantReader, blocks: Sequence[Block]) -> None:
        numbers = {case.identifier: number for number, case in enumerate(variants.cases)}
        self.variants = variants
        self.wanted = []  # (case, axis, slice, number of the variant)
        for block in blocks:
            for index in block.slices:
                self.wanted.append((numbers[block.identifier], block.axis, index, block.number))

    def __getitem__(self, position: int) -> tuple[SliceVariant, Tensor]:
        case_index, axis, index, number = self.wanted[position]
        variant = self.variants.draw(case_index, axis, index, number)
        return variant, self.variants.image(case_index, axis, variant)

    def __len__(self) -> int:
        return len(self.wanted)


def _collate(batch: list[tuple[SliceVariant, Tensor]]) -> tuple[list[SliceVariant], Tensor]:
    shown, images = zip(*batch, strict=True)
    return list(shown), torch.stack(images)


def _in_batches(lengths: list[int], size: int) -> Iterator[list[int]]:
    """Yield positions from 0 on in batches of at most `size`.

    No batch spans two of the stretches of these lengths.
    """
    start = 0
    for length in lengths:
        for first in range(start, start + length, size):
            yield list(range(first, min(first + size, start + length)))
        start += length
