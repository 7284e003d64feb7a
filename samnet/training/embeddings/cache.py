"""What a frozen encoder makes of slices, kept on disk: it sees each view once, whatever folds and heads train on it.

`embeddings/KEY/` below a data set's prepared cases. KEY stands for the encoder's weights and for whatever of the plan
its input depends on. A block of slices is a half-precision array `(N, 256, G, G)` in numpy's own format, to be mapped
into memory, and a record of the views in it, written last: without it, or with that of other raw files, the block is
encoded anew.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import nn
from tqdm import tqdm

from samnet import __version__
from samnet.core.errors import SamnetError, UserError
from samnet.core.files import atomic_path, read_json, write_json
from samnet.core.locks import lock_folder
from samnet.core.records import from_json, to_json
from samnet.preprocessing.storage import StoredCase
from samnet.training.distributed import SINGLE_PROCESS, Distributed
from samnet.training.embeddings.choice import Block, CacheChoice, choose_blocks, embedding_bytes
from samnet.training.embeddings.encoder import SliceEncoder
from samnet.training.embeddings.views import SliceView, SliceViews

log = logging.getLogger(__name__)
VERSION = 2  # to be raised whenever the same plan shows the encoder something else
KEY_VALUES = (
    "in_plane_spacing",
    "channel_layout",
    "intensity",
    "mirror_axes",
    "backbone",
    "input_size",
    "zoom",
    "pixel_statistics",
    "augmentation",
)


@dataclass(frozen=True)
class EmbeddingCache:
    """root: the folder of all of a data set's embeddings. cases: all that share the bound of `choice`."""

    root: Path
    choice: CacheChoice
    cases: Sequence[StoredCase]


@dataclass(frozen=True)
class StoredBlock:
    """A block on disk. views: of its slices, in the order of the array's rows."""

    file: Path
    block: Block
    views: tuple[SliceView, ...]


@dataclass(frozen=True)
class _BlockRecord:
    """source_key: of the raw files of the case."""

    source_key: str
    views: tuple[SliceView, ...]


def fill_cache(
    cache: EmbeddingCache,
    views: SliceViews,
    encoder: SliceEncoder,
    deadline: float | None = None,
    distributed: Distributed = SINGLE_PROCESS,
) -> list[StoredBlock]:
    """Encode what a training lacks, and return what there is of the views of its slices.

    Another training that needs the same waits until this one has encoded its share.

    views: of the training's cases. deadline: on `time.monotonic`, after which no further block is begun.
    processes: that train together; they share what is missing, and return the same.

    Raises:
        SamnetError: the disk is full.
    """
    key, origin = embeddings_key(encoder.network.encoder, views, encoder.precision(views))
    folder = cache.root / key
    source_keys = {case.identifier: case.record.source_key for case in views.cases}
    every = SliceViews(
        cache.cases,
        views.configuration,
        stride=views.stride,
        seed=views.seed,
        ignore_label=views.ignore_label,
    )
    blocks = [
        block for block in choose_blocks(every, cache.choice) if block.identifier in source_keys
    ]
    with lock_folder(folder, "encoding") if distributed.is_master else contextlib.nullcontext():
        distributed.barrier()
        write_json(folder / "embeddings.json", origin | {"samnet": __version__})
        stored = {block: _read(folder, block, source_keys[block.identifier]) for block in blocks}
        missing = [block for block in blocks if stored[block] is None]
        _log_choice(cache, views, blocks, missing, folder)
        encoded = list(
            _encode_missing(views, encoder, distributed.share(missing), folder, source_keys, deadline)
        )
        stored |= {entry.block: entry for part in distributed.gather(encoded) for entry in part}
    return [entry for entry in stored.values() if entry is not None]


def embeddings_key(encoder: nn.Module, views: SliceViews, precision: str) -> tuple[str, dict]:
    """A hash of all that an embedding depends on, the case apart; and what it was made of, for a person to read."""
    values = to_json(views.configuration)
    origin = {
        "version": VERSION,
        "encoder_sha256": encoder_sha256(encoder),
        "precision": precision,
        "ignore_label": views.ignore_label,
        **{key: values[key] for key in KEY_VALUES},
    }
    return hashlib.sha256(json.dumps(origin, sort_keys=True).encode()).hexdigest()[:16], origin


def encoder_sha256(encoder: nn.Module) -> str:
    """Of the weights themselves, whatever file they came from; random ones differ with the training's seed."""
    digest = hashlib.sha256()
    for name, value in sorted(encoder.state_dict().items()):
        array = np.ascontiguousarray(value.detach().cpu().numpy())
        digest.update(f"{name}\0{array.dtype}\0{array.shape}\n".encode())
        digest.update(array.data)
    return digest.hexdigest()


def _encode_missing(
    views: SliceViews,
    encoder: SliceEncoder,
    missing: Sequence[Block],
    folder: Path,
    source_keys: dict[str, str],
    deadline: float | None,
) -> Iterator[StoredBlock]:
    if not missing:
        return
    encoded = encoder.encode(views, missing)
    with tqdm(
        total=sum(len(block.slices) for block in missing), desc="encoding", unit="slice"
    ) as bar:
        for block in missing:
            if deadline is not None and time.monotonic() > deadline:
                log.info(
                    "half of the time is over: the slices that are left are encoded when they are drawn"
                )
                return
            yield _write(folder, block, source_keys[block.identifier], encoded, bar.update)


def _write(
    folder: Path,
    block: Block,
    source_key: str,
    encoded: Iterator[tuple[SliceView, np.ndarray]],
    count: Callable[[], object],
) -> StoredBlock:
    """Take a block's slices from those that are encoded one after the other, and write them."""
    file = folder / f"{block.name}.npy"
    views: list[SliceView] = []
    try:
        with atomic_path(file) as temporary, temporary.open("wb") as handle:
            for _ in block.slices:
                view, row = next(encoded)
                if not views:
                    shape = (len(block.slices), *row.shape)
                    header = {"descr": "<f2", "fortran_order": False, "shape": shape}
                    np.lib.format.write_array_header_1_0(handle, header)
                handle.write(row.astype("<f2", copy=False).tobytes())
                views.append(view)
                count()
        write_json(_record_file(file), to_json(_BlockRecord(source_key, tuple(views))))
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise SamnetError(
            f"{file}: {error.strerror}; train with a smaller --cache-size, or --no-cache"
        ) from None
    return StoredBlock(file, block, tuple(views))


def _read(folder: Path, block: Block, source_key: str) -> StoredBlock | None:
    """A block, if it is there and is of these raw files."""
    file = folder / f"{block.name}.npy"
    try:
        record = from_json(_BlockRecord, read_json(_record_file(file)), str(file))
    except UserError:
        return None
    is_same = (
        record.source_key == source_key
        and tuple(view.index for view in record.views) == block.slices
    )
    return StoredBlock(file, block, record.views) if is_same and file.is_file() else None


def _record_file(file: Path) -> Path:
    return file.with_suffix(".json")


def _log_choice(
    cache: EmbeddingCache,
    views: SliceViews,
    blocks: Sequence[Block],
    missing: Sequence[Block],
    folder: Path,
) -> None:
    bytes_each = embedding_bytes(views.configuration.input_size)
    num_views, num_missing = (
        sum(len(block.slices) for block in part) for part in (blocks, missing)
    )
    num_kept = len(
        {(block.identifier, block.axis, index) for block in blocks for index in block.slices}
    )
    num_slices = int(views.last_slices[-1])
    log.info(
        "embeddings: %d views of %d of %d slices (%.1f each) at %.2f MB, %.1f of at most %.1f GiB; %d to encode: %s",
        num_views,
        num_kept,
        num_slices,
        num_views / max(1, num_kept),
        bytes_each / 1e6,
        num_views * bytes_each / 2**30,
        cache.choice.size,
        num_missing,
        folder,
    )
    if num_kept < num_slices:
        log.info(
            "%d slices are encoded whenever they are drawn, which is slow; %.1f GiB would hold a view of each",
            num_slices - num_kept,
            _size_of_one_round(views) / 2**30,
        )
    others = [other for other in cache.root.iterdir() if other.is_dir() and other != folder]
    taken = sum(file.stat().st_size for other in others for file in other.glob("*.npy")) / 2**30
    if taken > 1:
        log.info(
            "embeddings of other plans and encoders take %.1f GiB in %s; delete what you do not need",
            taken,
            cache.root,
        )


def _size_of_one_round(views: SliceViews) -> int:
    slices = (
        views.num_tiles(*stack) * views.cases[stack[0]].num_slices(stack[1])
        for stack in views.stacks
    )
    return sum(slices) * embedding_bytes(views.configuration.input_size)
