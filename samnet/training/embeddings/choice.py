"""Which embeddings a training run keeps.

Whether any, how many variants of each slice, and which slices where not all fit.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from samnet.models.network import SegmentationNetwork
from samnet.plan.backbones import EMBEDDING_CHANNELS, PATCH
from samnet.training.embeddings.variants import VariantReader

log = logging.getLogger(__name__)
DEFAULT_SIZE = 20.0
DISK_SHARE = 0.5
VARIANTS = 4
MIN_USES = 2


@dataclass(frozen=True)
class CacheChoice:
    """What decides on the embeddings that are kept.

    It is part of a run's record, as the samples of the run depend on it.

    Attributes:
        size: GiB of all embeddings together.
        variants: How often a slice is shown, in different ways, at most.
    """

    size: float
    variants: int


@dataclass(frozen=True)
class Block:
    """What is encoded and kept together.

    One variant of the slices of a stack that show a class, or of its other slices.

    Attributes:
        identifier: The case.
        axis: The axis across which the slices lie.
        number: The number of the variant.
        is_labelled: Whether the slices show a class.
        slices: The slices.
    """

    identifier: str
    axis: int
    number: int
    is_labelled: bool
    slices: tuple[int, ...]

    @property
    def name(self) -> str:
        """The name of its files, without ending."""
        kind = "labelled" if self.is_labelled else "empty"
        return f"{self.identifier}_axis{self.axis}_view{self.number}_{kind}"


def embedding_bytes(input_size: int) -> int:
    """Return the size of the embedding of one slice, in half precision.

    Args:
        input_size: Edge of the network's input in pixels.

    Returns:
        Its size in bytes.
    """
    return 2 * EMBEDDING_CHANNELS * (input_size // PATCH) ** 2


def choose_cache(
    variants: VariantReader,
    network: SegmentationNetwork,
    root: Path,
    requested: float | None = None,
) -> CacheChoice | None:
    """Decide what a training run keeps of what its encoder computes. The log says why.

    Args:
        variants: The slices of the training cases.
        network: The network.
        root: The folder of all the data set's embeddings.
        requested: GiB that the user gave, 0 for no cache. Without it `DEFAULT_SIZE`, or
            `DISK_SHARE` of the disk's free space where that is less, and nothing that would not be
            used `MIN_USES` times.

    Returns:
        The choice; None to keep nothing.
    """
    configuration = variants.configuration
    if configuration.encoder_tuning != "frozen":
        if requested:
            log.info("--cache-size is for frozen encoders; this one is trained")
        return None
    if configuration.structure_copying:
        log.info("no embeddings are kept: structures are copied into slices at random")
        return None
    if _trains_before_head(network):
        log.info(
            "no embeddings are kept: the mix of channels before the frozen encoder is trained, and "
            "changes them"
        )
        return None
    # Without augmentation all variants would be alike.
    most = 1 if configuration.augmentation == "none" else VARIANTS
    if requested is not None:
        return CacheChoice(requested, most) if requested else None
    num_seen = configuration.steps * configuration.batch_size
    num_slices = variants.num_tiles_of_all
    worth = num_seen // (MIN_USES * num_slices)
    if worth == 0:
        log.info(
            "no embeddings are kept: %d steps of %d slices do not see each of the %d slices %d "
            "times (--cache-size keeps them all the same)",
            configuration.steps,
            configuration.batch_size,
            num_slices,
            MIN_USES,
        )
        return None
    return CacheChoice(_default_size(root), min(most, worth))


def _trains_before_head(network: SegmentationNetwork) -> bool:
    weights = (*network.stem.parameters(), *network.encoder.parameters())
    return any(weight.requires_grad for weight in weights)


def choose_blocks(variants: VariantReader, choice: CacheChoice) -> list[Block]:
    """Choose what fits.

    Slices that show a class come before others, a second variant of any after the first of all.

    Args:
        variants: The slices of all cases that share the bound, so that every fold chooses the same.
        choice: The bound.

    Returns:
        The blocks in order of use.
    """
    blocks = []
    bytes_each = embedding_bytes(variants.configuration.input_size)
    bytes_left = choice.size * 2**30
    for block in _in_order(variants, choice.variants):
        bytes_left -= bytes_each * len(block.slices)
        if bytes_left < 0:
            break
        blocks.append(block)
    return blocks


def _in_order(variants: VariantReader, rounds: int) -> Iterator[Block]:
    """Yield every block of some rounds, of which each shows every slice once."""
    cases = variants.cases
    stacks = sorted(
        variants.reader.stacks, key=lambda stack: _shuffled(cases[stack[0]].identifier, stack[1])
    )
    labelled = {stack: _labelled_slices(variants, *stack) for stack in stacks}
    for turn in range(rounds):
        for is_labelled in (True, False):
            for stack in stacks:
                yield from _blocks_of_stack(variants, stack, labelled[stack], is_labelled, turn)


def _blocks_of_stack(
    variants: VariantReader,
    stack: tuple[int, int],
    labelled: set[int],
    is_labelled: bool,
    turn: int,
) -> Iterator[Block]:
    case_index, axis = stack
    case, tiles = variants.cases[case_index], variants.num_tiles(case_index, axis)
    every = range(case.num_slices(axis))
    slices = tuple(index for index in every if (index in labelled) == is_labelled)
    if not slices:
        return
    for number in range(turn * tiles, (turn + 1) * tiles):
        yield Block(case.identifier, axis, number, is_labelled, slices)


def _shuffled(identifier: str, axis: int) -> bytes:
    """Return a key to sort by: cases in the order of their names would begin with one hospital."""
    return hashlib.sha256(f"{identifier}\0{axis}".encode()).digest()


def _labelled_slices(variants: VariantReader, case_index: int, axis: int) -> set[int]:
    ignore_label = variants.specification.label_scheme.ignore_label
    by_class = variants.cases[case_index].record.class_slices[str(axis)]
    found: set[int] = set()
    for value, indices in by_class.items():
        if int(value) != ignore_label:
            found.update(indices)
    return found


def _default_size(root: Path) -> float:
    """Return the default bound in GiB.

    Embeddings that are there already count as free: a second training run finds as much room as the
    first.
    """
    existing = next(folder for folder in (root, *root.absolute().parents) if folder.is_dir())
    free = (shutil.disk_usage(existing).free + size_of_arrays(root)) / 2**30
    return round(min(DEFAULT_SIZE, DISK_SHARE * free), 1)


def size_of_arrays(folder: Path) -> int:
    """Return what the arrays in a folder take, those of the folders within it included.

    What vanishes meanwhile counts as nothing: other runs rename and remove their temporary files.

    Args:
        folder: The folder. It need not exist.

    Returns:
        Their size in bytes.
    """
    total = 0
    for inner, _, names in os.walk(folder):  # which passes over folders that vanish
        for name in names:
            if name.endswith(".npy"):
                with contextlib.suppress(OSError):
                    total += Path(inner, name).stat().st_size
    return total
