"""Which embeddings a training keeps: whether any, how many views of each slice, and which slices where not all fit."""

from __future__ import annotations

import hashlib
import logging
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from samnet.models.network import SegmentationNetwork
from samnet.plan.backbones import EMBEDDING_CHANNELS, PATCH
from samnet.training.embeddings.views import SliceViews

log = logging.getLogger(__name__)
DEFAULT_SIZE = 20.0
DISK_SHARE = 0.5
VIEWS = 4
MIN_USES = 2


@dataclass(frozen=True)
class CacheChoice:
    """What decides on the embeddings that are kept. Part of a run's record, as its samples depend on it.

    size: GiB of all embeddings together. views: how often a slice is shown, in different ways, at most.
    """

    size: float
    views: int


@dataclass(frozen=True)
class Block:
    """What is encoded and kept together: one view of the slices of a stack that show a class, or of its other slices.

    number: of the view, see `SliceViews`. is_labelled: whether the slices show a class.
    """

    identifier: str
    axis: int
    number: int
    is_labelled: bool
    slices: tuple[int, ...]

    @property
    def name(self) -> str:
        return f"{self.identifier}_axis{self.axis}_view{self.number}_{'labelled' if self.is_labelled else 'empty'}"


def embedding_bytes(input_size: int) -> int:
    """Of one slice, in half precision."""
    return 2 * EMBEDDING_CHANNELS * (input_size // PATCH) ** 2


def choose_cache(
    views: SliceViews, network: SegmentationNetwork, root: Path, asked: float | None = None
) -> CacheChoice | None:
    """What a training keeps of what its encoder computes; None where that is nothing. The log says why.

    views: of the training's cases. root: the folder of all the data set's embeddings. asked: by the user: GiB, 0 for no
    cache. Without, `DEFAULT_SIZE`, or `DISK_SHARE` of the disk's free space where that is less, and nothing that would
    not be used `MIN_USES` times.
    """
    configuration = views.configuration
    if configuration.encoder_tuning != "frozen":
        if asked:
            log.info("--cache-size is for frozen encoders; this one is trained")
        return None
    if any(
        weight.requires_grad
        for weight in (*network.stem.parameters(), *network.encoder.parameters())
    ):
        log.info(
            "no embeddings are kept: the mix of channels before the frozen encoder is trained, and changes them"
        )
        return None
    wanted = (
        1 if configuration.augmentation == "none" else VIEWS
    )  # without augmentation all would be alike
    if asked is not None:
        return CacheChoice(asked, wanted) if asked else None
    num_slices = sum(
        views.num_tiles(index, axis) * views.cases[index].num_slices(axis)
        for index, axis in views.stacks
    )
    worth = configuration.steps * configuration.batch_size // (MIN_USES * num_slices)
    if worth == 0:
        log.info(
            "no embeddings are kept: %d steps of %d slices do not see each of the %d slices %d times (--cache-size "
            "keeps them all the same)",
            configuration.steps,
            configuration.batch_size,
            num_slices,
            MIN_USES,
        )
        return None
    return CacheChoice(_default_size(root), min(wanted, worth))


def choose_blocks(views: SliceViews, choice: CacheChoice) -> list[Block]:
    """What fits, in order of use: slices that show a class before others, a second view of any after the first of all.

    views: of all cases that share the bound, so that every fold chooses the same.
    """
    blocks = []
    bytes_each, bytes_left = embedding_bytes(views.configuration.input_size), choice.size * 2**30
    for block in _in_order(views, choice.views):
        bytes_left -= bytes_each * len(block.slices)
        if bytes_left < 0:
            break
        blocks.append(block)
    return blocks


def _in_order(views: SliceViews, rounds: int) -> Iterator[Block]:
    stacks = sorted(
        views.stacks, key=lambda stack: _shuffled(views.cases[stack[0]].identifier, stack[1])
    )
    labelled = {stack: _labelled_slices(views, *stack) for stack in stacks}
    for turn in range(rounds):
        for is_labelled in (True, False):
            for case_index, axis in stacks:
                case, tiles = views.cases[case_index], views.num_tiles(case_index, axis)
                shown = labelled[case_index, axis]
                slices = tuple(
                    index
                    for index in range(case.num_slices(axis))
                    if (index in shown) == is_labelled
                )
                for number in range(turn * tiles, (turn + 1) * tiles if slices else 0):
                    yield Block(case.identifier, axis, number, is_labelled, slices)


def _shuffled(identifier: str, axis: int) -> bytes:
    """Cases in the order of their names would be those of one hospital first."""
    return hashlib.sha256(f"{identifier}\0{axis}".encode()).digest()


def _labelled_slices(views: SliceViews, case_index: int, axis: int) -> set[int]:
    by_class = views.cases[case_index].record.class_slices[str(axis)]
    return {
        index
        for value, indices in by_class.items()
        if int(value) != views.ignore_label
        for index in indices
    }


def _default_size(root: Path) -> float:
    """What is there already counts as free: a second training finds as much room as the first."""
    existing = next(folder for folder in (root, *root.absolute().parents) if folder.is_dir())
    kept = sum(file.stat().st_size for file in root.rglob("*.npy")) if root.is_dir() else 0
    free = (shutil.disk_usage(existing).free + kept) / 2**30
    return round(min(DEFAULT_SIZE, DISK_SHARE * free), 1)
