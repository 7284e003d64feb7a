"""Training samples of a head on a frozen encoder: stored embeddings in place of images."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from samnet.models.network import SegmentationNetwork
from samnet.preprocessing.storage import StoredCase
from samnet.training.distributed import SINGLE_PROCESS, Distributed
from samnet.training.embeddings.cache import EmbeddingCache, StoredBlock, fill_cache
from samnet.training.embeddings.encoder import SliceEncoder
from samnet.training.embeddings.index import EmbeddingIndex, StoredEmbedding
from samnet.training.embeddings.variants import VariantReader
from samnet.training.sampling import SliceChooser, draw_sample
from samnet.training.slice_reader import SampleSpecification

_MAX_OPEN = 128  # files that a process maps at a time: many systems allow a thousand open ones


class EmbeddedInputs(NamedTuple):
    """A batch of B inputs, of which n have a stored embedding.

    Attributes:
        is_embedded: `(B,)`, whether an input has a stored embedding.
        embeddings: `(n, 256, G, G)` in half precision; None where there are none.
        images: `(B, C, S, S)` for a head that uses them, else `(B - n, C, S, S)` of the other
            inputs; None where there are none.
    """

    is_embedded: Tensor
    embeddings: Tensor | None
    images: Tensor | None


class EmbeddedSamples(Dataset):
    """An endless map from a number to a sample: embedding or None, image or None, and the target.

    Case, slice and class are drawn as in `SliceSamples`; then one of the slice's embedded variants,
    of those that show the class. A slice that is not embedded is shown in a new way each time, as
    an image.

    Attributes:
        variants: The slices.
        embedded: The embeddings of them.
        chooser: Draws slices. For a class it leaves out slices of whose variants none shows it: a
            small structure may be cut off.
    """

    def __init__(
        self,
        cases: Sequence[StoredCase],
        specification: SampleSpecification,
        *,
        blocks: Sequence[StoredBlock] = (),
        uses_image: bool = False,
    ) -> None:
        """Prepare the samples.

        Args:
            cases: Prepared cases in any order.
            specification: What samples are made by.
            blocks: Embeddings of these cases.
            uses_image: Whether the head uses the image in addition to its embedding.
        """
        self.variants = VariantReader(cases, specification)
        self.uses_image = uses_image
        self.embedded = EmbeddingIndex(self.variants.reader, blocks)
        self.chooser = SliceChooser(self.variants.reader, self._may_show)
        self._maps: dict[int, np.ndarray] = {}

    def __getitem__(self, number: int) -> Any:
        generator = np.random.default_rng([self.variants.specification.seed, number])
        choice = self.chooser.draw(generator, number)
        case_index, axis = choice.case_index, choice.axis
        known = self.embedded.find(case_index, axis, choice.index)
        if not known:
            return None, *draw_sample(self.variants.reader, generator, choice)
        wanted = choice.wanted
        showing = known if wanted is None else self.embedded.showing(known, wanted)
        chosen = self.embedded[showing[generator.integers(len(showing))]]
        image = None
        if self.uses_image:
            image = self.variants.image(case_index, axis, chosen.variant)
        target = self.variants.target(case_index, axis, chosen.variant)
        return self._embedding(chosen), image, target

    def _embedding(self, entry: StoredEmbedding) -> Tensor:
        if entry.block not in self._maps:
            if len(self._maps) >= _MAX_OPEN:
                del self._maps[next(iter(self._maps))]
            self._maps[entry.block] = np.load(self.embedded.file(entry.block), mmap_mode="r")
        return torch.from_numpy(np.array(self._maps[entry.block][entry.row]))

    def _may_show(self, value: int, case_index: int, axis: int, index: int) -> bool:
        known = self.embedded.find(case_index, axis, index)
        return not known or len(self.embedded.showing(known, value)) > 0

    def __getstate__(self) -> dict[str, Any]:
        # Mapped files would travel to worker processes with all they hold. The chooser is complete;
        # it does not need the embeddings any more.
        return self.__dict__ | {"_maps": {}}


def embed_samples(
    cache: EmbeddingCache,
    encoder: SliceEncoder,
    cases: Sequence[StoredCase],
    specification: SampleSpecification,
    *,
    seconds: float | None = None,
    distributed: Distributed = SINGLE_PROCESS,
) -> EmbeddedSamples:
    """Return the samples of a training run, after encoding what the cache lacks of them.

    Args:
        cache: Where embeddings are kept.
        encoder: The encoder.
        cases: The training cases.
        specification: What samples are made by.
        seconds: All the time that encoding may take; None for no limit.
        distributed: The processes that train together, and share the work.

    Returns:
        The samples.
    """
    variants = VariantReader(cases, specification)
    deadline = None if seconds is None else time.monotonic() + seconds
    blocks = fill_cache(cache, variants, encoder, deadline, distributed)
    uses_image = encoder.network.head.uses_image
    return EmbeddedSamples(cases, specification, blocks=blocks, uses_image=uses_image)


def collate(
    samples: Sequence[tuple[Tensor | None, Tensor | None, Tensor]],
) -> tuple[EmbeddedInputs, Tensor]:
    """Make a batch of samples.

    Args:
        samples: Samples of `EmbeddedSamples`.

    Returns:
        The inputs, and the targets `(B, h, w)` of classes or `(B, R, h, w)` of regions.
    """
    embeddings = [embedding for embedding, _, _ in samples if embedding is not None]
    images = [image for _, image, _ in samples if image is not None]
    inputs = EmbeddedInputs(
        is_embedded=torch.tensor([embedding is not None for embedding, _, _ in samples]),
        embeddings=torch.stack(embeddings) if embeddings else None,
        images=torch.stack(images) if images else None,
    )
    return inputs, torch.stack([target for _, _, target in samples])


def take_rows(inputs: EmbeddedInputs, start: int, stop: int, uses_image: bool) -> EmbeddedInputs:
    """Return some rows of a batch.

    Args:
        inputs: The batch.
        start: The first row.
        stop: The first row that is left out.
        uses_image: Whether the head uses images in addition to embeddings.

    Returns:
        A smaller batch.
    """
    before, within = inputs.is_embedded[:start], inputs.is_embedded[start:stop]
    first, count = int(before.sum()), int(within.sum())
    embeddings = None
    if inputs.embeddings is not None:
        embeddings = inputs.embeddings[first : first + count]
    if not uses_image:
        start, stop = start - first, stop - first - count
    images = None if inputs.images is None else inputs.images[start:stop]
    return EmbeddedInputs(within, embeddings, images)


def predict_logits(
    network: SegmentationNetwork, inputs: Tensor | EmbeddedInputs, device: torch.device
) -> Tensor:
    """Compute the logits of a batch.

    Args:
        network: The network.
        inputs: Images `(B, C, S, S)`, or a batch whose embeddings are known in part or all.
        device: Where the network is.

    Returns:
        Logits `(B, K, h, w)`.
    """
    if isinstance(inputs, Tensor):
        return network(inputs.to(device, non_blocking=True))
    images = None if inputs.images is None else inputs.images.to(device, non_blocking=True)
    known = None
    if inputs.embeddings is not None:
        known = inputs.embeddings.to(device, non_blocking=True).float()
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
