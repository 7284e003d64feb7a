"""What a frozen encoder makes of slices, kept on disk, whatever folds and heads train on it.

`embeddings/KEY/` lies next to a data set's prepared cases. KEY stands for the encoder's weights and
for whatever of the plan its input depends on. A block of slices is a half-precision array
`(N, 256, G, G)` in numpy's own format, to be mapped into memory, and a record of the variants in
it, written last: without it, or with that of other raw files, the block is encoded again.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from samnet import __version__
from samnet.core.errors import SamnetError, UserError
from samnet.core.files import atomic_path, read_json, write_json
from samnet.core.locks import POLL_SECONDS, FolderBusy, lock_folder
from samnet.core.progress import ProgressBar
from samnet.core.records import from_json, to_json
from samnet.preprocessing.storage import StoredCase
from samnet.training.distributed import SINGLE_PROCESS, Distributed
from samnet.training.embeddings.choice import (
    Block,
    CacheChoice,
    choose_blocks,
    embedding_bytes,
    size_of_arrays,
)
from samnet.training.embeddings.encoder import SliceEncoder
from samnet.training.embeddings.key import embeddings_key
from samnet.training.embeddings.variant_table import VariantTable
from samnet.training.embeddings.variants import SliceVariant, VariantReader

log = logging.getLogger(__name__)
Item = TypeVar("Item")


@dataclass(frozen=True)
class EmbeddingCache:
    """Where embeddings are kept, and how many.

    Attributes:
        root: The folder of all of a data set's embeddings.
        choice: The bound of their size.
        cases: All cases that share the bound.
    """

    root: Path
    choice: CacheChoice
    cases: Sequence[StoredCase]


@dataclass(frozen=True)
class StoredBlock:
    """A block on disk.

    Attributes:
        file: Its array.
        block: What it holds.
        variants: How its slices were shown, in the order of the array's rows.
    """

    file: Path
    block: Block
    variants: VariantTable


@dataclass(frozen=True)
class _BlockRecord:
    """The content of a block's record: a key of the raw files of its case, and its variants."""

    source_key: str
    views: tuple[SliceVariant, ...]  # the name in files


class _TimeIsOver(Exception):
    """No more may be encoded."""


def fill_cache(
    cache: EmbeddingCache,
    variants: VariantReader,
    encoder: SliceEncoder,
    deadline: float | None = None,
    distributed: Distributed = SINGLE_PROCESS,
) -> list[StoredBlock]:
    """Encode what a training run lacks.

    Another run that needs the same waits until this one has encoded its share.

    Args:
        cache: Where embeddings are kept.
        variants: The slices of the training cases.
        encoder: The encoder.
        deadline: Time on `time.monotonic` after which nothing more is encoded, nor waited for
            another run; None for no limit.
        distributed: The processes that train together. They share what is missing, and return the
            same.

    Returns:
        What there is of the variants of the training cases.

    Raises:
        SamnetError: The disk is full.
    """
    network, precision = encoder.network, encoder.precision(variants)
    key, origin = embeddings_key(network.encoder, variants, precision)
    folder = cache.root / key
    source_keys = {case.identifier: case.record.source_key for case in variants.cases}
    every = VariantReader(cache.cases, variants.specification)
    blocks = [
        block for block in choose_blocks(every, cache.choice) if block.identifier in source_keys
    ]

    def read() -> dict[Block, StoredBlock]:
        write_json(folder / "embeddings.json", origin | {"samnet": __version__})
        stored = _read_blocks(folder, blocks, source_keys)
        _log_choice(cache, variants, blocks, stored, folder)
        return stored

    lock = _lock(folder, deadline) if distributed.is_master else contextlib.nullcontext()
    with lock:
        # One process decides what is missing: while another looks, the first may be writing.
        stored = distributed.from_master(read)
        missing = [block for block in blocks if block not in stored]
        share = distributed.share(missing)
        encoded = list(_encode(variants, encoder, share, folder, source_keys, deadline))
        for part in distributed.gather(encoded):
            stored |= {entry.block: entry for entry in part}
    return [stored[block] for block in blocks if block in stored]


def _encode(
    variants: VariantReader,
    encoder: SliceEncoder,
    missing: Sequence[Block],
    folder: Path,
    source_keys: dict[str, str],
    deadline: float | None,
) -> Iterator[StoredBlock]:
    if not missing:
        return
    encoded = _until(deadline, encoder.encode(variants, missing))
    num_slices = sum(len(block.slices) for block in missing)
    bar = ProgressBar(total=num_slices, desc="encoding", unit="slice")
    with encoder.weights_cast(variants), bar:
        for block in missing:
            try:
                yield _write(folder, block, source_keys[block.identifier], encoded, bar.update)
            except _TimeIsOver:
                log.info(
                    "the time for encoding is over: the slices that are left are encoded when they "
                    "are drawn"
                )
                return


def _until(deadline: float | None, encoded: Iterator[Item]) -> Iterator[Item]:
    """Yield what is encoded, as long as there is time; a block may take longer than all there is.

    Raises:
        _TimeIsOver: The deadline has passed.
    """
    while True:
        if deadline is not None and time.monotonic() > deadline:
            raise _TimeIsOver
        entry = next(encoded, None)
        if entry is None:
            return
        yield entry


@contextlib.contextmanager
def _lock(folder: Path, deadline: float | None) -> Iterator[None]:
    """Keep other runs from encoding the same; without the lock where one of them takes too long."""
    with contextlib.ExitStack() as stack:
        while True:
            try:
                stack.enter_context(lock_folder(folder, "encoding", waits=deadline is None))
                break
            except FolderBusy as busy:
                if deadline is None or time.monotonic() > deadline:
                    log.info("there is no time left to wait for its embeddings: %s", busy)
                    break
                time.sleep(POLL_SECONDS)
        yield


def _write(
    folder: Path,
    block: Block,
    source_key: str,
    encoded: Iterator[tuple[SliceVariant, np.ndarray]],
    count: Callable[[], object],
) -> StoredBlock:
    """Take a block's slices from those that are encoded one after the other, and write them."""
    file = folder / f"{block.name}.npy"
    variants: list[SliceVariant] = []
    try:
        with atomic_path(file) as temporary, temporary.open("wb") as handle:
            for _ in block.slices:
                variant, row = next(encoded)
                if not variants:
                    shape = (len(block.slices), *row.shape)
                    header = {"descr": "<f2", "fortran_order": False, "shape": shape}
                    np.lib.format.write_array_header_1_0(handle, header)
                handle.write(row.astype("<f2", copy=False).tobytes())
                variants.append(variant)
                count()
        write_json(_record_file(file), to_json(_BlockRecord(source_key, tuple(variants))))
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise SamnetError(
            f"{file}: {error.strerror}; train with a smaller --cache-size, or --no-cache"
        ) from None
    return StoredBlock(file, block, VariantTable.of(variants))


def _read_blocks(
    folder: Path, blocks: Sequence[Block], source_keys: dict[str, str]
) -> dict[Block, StoredBlock]:
    """Return the blocks that are there."""
    found = {}
    for block in blocks:
        entry = _read(folder, block, source_keys[block.identifier])
        if entry is not None:
            found[block] = entry
    return found


def _read(folder: Path, block: Block, source_key: str) -> StoredBlock | None:
    """Return a block, if it is there and is of these raw files."""
    file = folder / f"{block.name}.npy"
    try:
        record = from_json(_BlockRecord, read_json(_record_file(file)), str(file))
    except UserError:
        return None
    slices = tuple(variant.index for variant in record.views)
    is_same = record.source_key == source_key and slices == block.slices
    if not is_same or not file.is_file():
        return None
    return StoredBlock(file, block, VariantTable.of(record.views))


def _record_file(file: Path) -> Path:
    return file.with_suffix(".json")


def _log_choice(
    cache: EmbeddingCache,
    variants: VariantReader,
    blocks: Sequence[Block],
    stored: dict[Block, StoredBlock],
    folder: Path,
) -> None:
    bytes_each = embedding_bytes(variants.configuration.input_size)
    num_variants = sum(len(block.slices) for block in blocks)
    num_missing = sum(len(block.slices) for block in blocks if block not in stored)
    kept: set[tuple[str, int, int]] = set()
    for block in blocks:
        kept.update((block.identifier, block.axis, index) for index in block.slices)
    num_slices = variants.num_slices
    log.info(
        "embeddings: %d variants of %d of %d slices (%.1f each) at %.2f MB, %.1f of at most %.1f "
        "GiB; %d to encode: %s",
        num_variants,
        len(kept),
        num_slices,
        num_variants / max(1, len(kept)),
        bytes_each / 1e6,
        num_variants * bytes_each / 2**30,
        cache.choice.size,
        num_missing,
        folder,
    )
    if len(kept) < num_slices:
        log.info(
            "%d slices are encoded whenever they are drawn, which is slow; %.1f GiB would hold a "
            "variant of each",
            num_slices - len(kept),
            variants.num_tiles_of_all * bytes_each / 2**30,
        )
    _log_others(cache.root, folder)


def _log_others(root: Path, folder: Path) -> None:
    """Point out what embeddings of other plans and encoders take."""
    taken = 0
    for other in root.iterdir():
        if other.is_dir() and other != folder:
            taken += size_of_arrays(other)
    if taken > 2**30:
        log.info(
            "embeddings of other plans and encoders take %.1f GiB in %s; delete what you do not "
            "need",
            taken / 2**30,
            root,
        )
