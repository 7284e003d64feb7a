"""Networks with a frozen encoder, and the embeddings that they make of cases."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from builders.tiny import TWO_CLASSES, make_configuration
from samnet.dataset.label_scheme import LabelScheme
from samnet.models.network import SegmentationNetwork, build_network
from samnet.plan.configuration import Configuration
from samnet.preprocessing.storage import StoredCase
from samnet.training.embeddings.cache import EmbeddingCache, StoredBlock, fill_cache
from samnet.training.embeddings.choice import CacheChoice
from samnet.training.embeddings.encoder import SliceEncoder
from samnet.training.embeddings.samples import EmbeddedSamples
from samnet.training.embeddings.variants import VariantReader
from samnet.training.slice_reader import SampleSpecification

CPU = torch.device("cpu")
FROZEN = {
    "encoder_tuning": "frozen",
    "head": "mask_decoder",
    "views": (0, 2),
    "mirror_axes": (0, 1, 2),
}
# Slices of two cases of 6 x 24 x 20 voxels across both axes of `FROZEN`.
NUM_SLICES = 2 * (6 + 20)


def make_frozen(**changes: Any) -> Configuration:
    """Return a configuration with a frozen encoder."""
    return make_configuration(**(FROZEN | changes))


def make_network(seed: int = 0, num_channels: int = 1, **changes: Any) -> SegmentationNetwork:
    """Return a network with a frozen encoder and random weights."""
    torch.manual_seed(seed)
    network = build_network(make_frozen(**changes), num_channels, TWO_CLASSES.num_outputs)
    torch.manual_seed(seed)
    # Without it, an untrained encoder hardly depends on the image.
    torch.nn.init.normal_(network.encoder.pos_embed)
    return network


def make_specification(
    *, stride: int = 4, seed: int = 7, label_scheme: LabelScheme = TWO_CLASSES, **changes: Any
) -> SampleSpecification:
    """Return what the samples of a frozen configuration are made by."""
    return SampleSpecification(make_frozen(**changes), label_scheme, stride, seed)


def make_variants(cases: Sequence[StoredCase], **changes: Any) -> VariantReader:
    """Return the variants of the slices of cases."""
    return VariantReader(cases, make_specification(**changes))


def fill(
    root: Path,
    cases: Sequence[StoredCase],
    network: SegmentationNetwork | None = None,
    *,
    size: float = 1.0,
    num_variants: int = 2,
    every: Sequence[StoredCase] | None = None,
    seconds: float | None = None,
    **changes: Any,
) -> list[StoredBlock]:
    """Encode what is missing in a cache of `size` GiB, which is shared by the cases `every`.

    It may take some seconds; None for as long as it takes.
    """
    cache = EmbeddingCache(root, CacheChoice(size, num_variants), every or cases)
    encoder = SliceEncoder(network or make_network(**changes), CPU)
    deadline = None if seconds is None else time.monotonic() + seconds
    return fill_cache(cache, make_variants(cases, **changes), encoder, deadline)


def make_samples(
    cases: Sequence[StoredCase],
    blocks: Sequence[StoredBlock],
    *,
    uses_image: bool = False,
    **changes: Any,
) -> EmbeddedSamples:
    """Return samples from stored embeddings."""
    specification = make_specification(**changes)
    return EmbeddedSamples(cases, specification, blocks=blocks, uses_image=uses_image)


def count_encoded(network: SegmentationNetwork) -> list[int]:
    """Return a list to which every call of a network's encoder adds its number of images."""
    counts: list[int] = []

    def note(encoder: torch.nn.Module, inputs: tuple[torch.Tensor]) -> None:
        counts.append(len(inputs[0]))

    network.encoder.register_forward_pre_hook(note)
    return counts


def stored_bytes(root: Path) -> dict[str, bytes]:
    """Return the content of every array of a cache by its name."""
    return {file.name: file.read_bytes() for file in sorted(root.rglob("*.npy"))}
