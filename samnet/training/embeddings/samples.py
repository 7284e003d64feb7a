"""Training samples of a head on a frozen encoder: embeddings from the cache in the place of images."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from samnet.dataset.label_scheme import Regions
from samnet.models.network import SegmentationNetwork
from samnet.plan.configuration import Configuration
from samnet.preprocessing.storage import StoredCase
from samnet.training.distributed import SINGLE_PROCESS, Distributed
from samnet.training.embeddings.cache import EmbeddingCache, StoredBlock, fill_cache
from samnet.training.embeddings.encoder import SliceEncoder
from samnet.training.embeddings.views import SliceView, SliceViews

_MAX_OPEN = 128  # files that a process maps at a time: many systems allow a thousand open ones


class EmbeddedInputs(NamedTuple):
    """A batch of B inputs.

    is_embedded: `(B,)`. embeddings: `(n, 256, G, G)` of those, in half precision. images: `(B, C, S, S)` for a head
    that uses them, else `(B - n, C, S, S)` of the others; None where there are none.
    """

    is_embedded: Tensor
    embeddings: Tensor | None
    images: Tensor | None


class EmbeddedSamples(SliceViews):
    """An endless map from a number to a sample: embedding or None, image or None, and the target.

    Case, slice and class are drawn as in `SliceSamples`; then one of the slice's embedded views, of those that show the
    class. A slice that is not embedded is shown in a new way each time, as an image.

    blocks: embeddings of these cases. uses_image: whether the head uses the image beside its embedding.
    """

    def __init__(
        self,
        cases: Sequence[StoredCase],
        configuration: Configuration,
        *,
        stride: int,
        seed: int,
        ignore_label: int | None = None,
        regions: Regions | None = None,
        blocks: Sequence[StoredBlock] = (),
        uses_image: bool = False,
    ) -> None:
        super().__init__(
            cases,
            configuration,
            stride=stride,
            seed=seed,
            ignore_label=ignore_label,
            regions=regions,
        )
        self.files, self.uses_image = [entry.file for entry in blocks], uses_image
        self.embedded = _by_slice(self.cases, blocks)
        self.places_by_class = self._places_shown()
        self._maps: dict[int, np.ndarray] = {}

    def __getitem__(self, number: int) -> Any:
        generator = np.random.default_rng([self.seed, number])
        case_index, axis, index, wanted = self._draw_slice(generator)
        known = self.embedded.get((case_index, axis, index))
        if known is None:
            return None, *self._draw_sample(generator, case_index, axis, index, wanted)
        showing = [entry for entry in known if wanted is None or wanted in entry[2].classes]
        block, row, view = showing[generator.integers(len(showing))]
        image = self.image(case_index, axis, view) if self.uses_image else None
        return self._embedding(block, row), image, self.target(case_index, axis, view)

    def _embedding(self, block: int, row: int) -> Tensor:
        if block not in self._maps:
            if len(self._maps) >= _MAX_OPEN:
                del self._maps[next(iter(self._maps))]
            self._maps[block] = np.load(self.files[block], mmap_mode="r")
        return torch.from_numpy(np.array(self._maps[block][row]))

    def _places_shown(self) -> dict[int, list[tuple[int, int, tuple[int, ...]]]]:
        """`places_by_class` without the slices of whose views none shows the class: a small one may be cut off."""
        shown: dict[int, list[tuple[int, int, tuple[int, ...]]]] = {}
        for value, places in self.places_by_class.items():
            for case_index, axis, indices in places:
                kept = tuple(
                    index for index in indices if self._may_show(value, case_index, axis, index)
                )
                if kept:
                    shown.setdefault(value, []).append((case_index, axis, kept))
        return shown

    def _may_show(self, value: int, case_index: int, axis: int, index: int) -> bool:
        known = self.embedded.get((case_index, axis, index))
        return known is None or any(value in view.classes for _, _, view in known)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {
            "_maps": {}
        }  # mapped files would travel to worker processes with all they hold


def embed_samples(
    cache: EmbeddingCache,
    encoder: SliceEncoder,
    cases: Sequence[StoredCase],
    configuration: Configuration,
    *,
    stride: int,
    seed: int,
    ignore_label: int | None,
    regions: Regions | None = None,
    seconds: float | None = None,
    distributed: Distributed = SINGLE_PROCESS,
) -> EmbeddedSamples:
    """The samples of a training, after encoding what the cache lacks of them.

    seconds: all the time that may take. processes: that train together, and share the work.
    """
    views = SliceViews(cases, configuration, stride=stride, seed=seed, ignore_label=ignore_label)
    deadline = None if seconds is None else time.monotonic() + seconds
    return EmbeddedSamples(
        cases,
        configuration,
        stride=stride,
        seed=seed,
        ignore_label=ignore_label,
        regions=regions,
        blocks=fill_cache(cache, views, encoder, deadline, distributed),
        uses_image=encoder.network.head.uses_image,
    )


def collate(
    samples: Sequence[tuple[Tensor | None, Tensor | None, Tensor]],
) -> tuple[EmbeddedInputs, Tensor]:
    """A batch of `EmbeddedSamples`, and its targets `(B, h, w)`, or `(B, R, h, w)` of regions."""
    embeddings = [embedding for embedding, _, _ in samples if embedding is not None]
    images = [image for _, image, _ in samples if image is not None]
    inputs = EmbeddedInputs(
        is_embedded=torch.tensor([embedding is not None for embedding, _, _ in samples]),
        embeddings=torch.stack(embeddings) if embeddings else None,
        images=torch.stack(images) if images else None,
    )
    return inputs, torch.stack([target for _, _, target in samples])


def take_rows(inputs: EmbeddedInputs, start: int, stop: int, uses_image: bool) -> EmbeddedInputs:
    """The rows `start <= row < stop` of a batch. uses_image: whether the head does."""
    before, within = inputs.is_embedded[:start], inputs.is_embedded[start:stop]
    first = int(before.sum())
    embeddings = (
        None if inputs.embeddings is None else inputs.embeddings[first : first + int(within.sum())]
    )
    if not uses_image:
        start, stop = start - first, stop - first - int(within.sum())
    images = None if inputs.images is None else inputs.images[start:stop]
    return EmbeddedInputs(within, embeddings, images)


def predict_logits(
    network: SegmentationNetwork, inputs: Tensor | EmbeddedInputs, device: torch.device
) -> Tensor:
    """The logits of images `(B, C, S, S)`, or of a batch whose embeddings are known in part or all."""
    if isinstance(inputs, Tensor):
        return network(inputs.to(device, non_blocking=True))
    images = None if inputs.images is None else inputs.images.to(device, non_blocking=True)
    known = (
        None
        if inputs.embeddings is None
        else inputs.embeddings.to(device, non_blocking=True).float()
    )
    if known is not None and len(known) == len(inputs.is_embedded):
        return network.decode(known, images)
    assert images is not None
    is_embedded = inputs.is_embedded.to(device, non_blocking=True)
    uses_image = network.head.uses_image
    with torch.no_grad():
        rest = network.embed(images[~is_embedded] if uses_image else images).float()
    embeddings = rest.new_empty(len(is_embedded), *rest.shape[1:])
    embeddings[~is_embedded] = rest
    if known is not None:
        embeddings[is_embedded] = known
    return network.decode(embeddings, images if uses_image else None)


def _by_slice(
    cases: Sequence[StoredCase], blocks: Sequence[StoredBlock]
) -> dict[tuple[int, int, int], list[tuple[int, int, SliceView]]]:
    """(case, axis, slice) -> the block and the row of each of its embedded views."""
    case_index = {case.identifier: index for index, case in enumerate(cases)}
    found: dict[tuple[int, int, int], list[tuple[int, int, SliceView]]] = {}
    for number, entry in enumerate(blocks):
        for row, view in enumerate(entry.views):
            place = (case_index[entry.block.identifier], entry.block.axis, view.index)
            found.setdefault(place, []).append((number, row, view))
    return found
