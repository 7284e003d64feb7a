"""The preparation of a whole data set. It can be interrupted after any case and resumed."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from samnet.core.errors import UserError
from samnet.core.job_array import select_part
from samnet.core.locks import lock_folder
from samnet.core.worker_pool import run_jobs
from samnet.dataset.cases import Case, RawDataset
from samnet.dataset.contents import (
    UNREADABLE,
    Hashes,
    case_key,
    content_keys,
    hash_files,
    known_of,
    load_hashes,
)
from samnet.dataset.images import Image, read_image, read_labels
from samnet.plan.plan import Plan
from samnet.preprocessing.case import prepare_labels, prepare_volume
from samnet.preprocessing.storage import StoredCase, store_case, stored_views
from samnet.preprocessing.stored_cases import remove_other_cases

log = logging.getLogger(__name__)


def prepare_dataset(
    dataset: RawDataset,
    views: tuple[int, ...],
    processes: int,
    num_parts: int = 1,
    part_id: int = 0,
) -> Path:
    """Prepare the cases of one part of a data set, those without labels too. Ready ones are kept.

    Of two commands that prepare the same part, one waits for the other and then finds it done.

    Args:
        dataset: The raw data set.
        views: The canonical axes across which slices are needed. Other views of a case stay.
        processes: Number of worker processes; 0 for none.
        num_parts: Number of parts into which the cases are divided.
        part_id: Number of the part to prepare, from 0.

    Returns:
        The folder of the prepared training cases.

    Raises:
        SamnetError: Cases could not be prepared. All of them are named; the others are done.
    """
    folders = dataset.folder
    cases = select_part(dataset.cases, num_parts, part_id)
    _prepare_cases(dataset, cases, folders.slices, views, processes, part_id, num_parts)
    unlabelled = select_part(dataset.unlabelled_cases, num_parts, part_id)
    folder = folders.unlabelled_slices
    remove_other_cases(folder, {case.identifier for case in dataset.unlabelled_cases})
    if unlabelled:
        _prepare_cases(dataset, unlabelled, folder, views, processes, part_id, num_parts)
    return folders.slices


def _prepare_cases(
    dataset: RawDataset,
    cases: Sequence[Case],
    folder: Path,
    views: tuple[int, ...],
    processes: int,
    part_id: int,
    num_parts: int,
) -> None:
    """Prepare cases in a folder that is locked against commands for the same part."""
    started = time.monotonic()
    with lock_folder(folder, f"preprocessing part {part_id} of {num_parts}"):
        jobs = _find_open_cases(dataset, cases, folder, views, processes)
        outcome = run_jobs(_prepare_case, jobs, processes, "preprocessing")
    outcome.raise_if_failed("preprocessing")
    log.info(
        "prepared %d cases (%d were ready) in %.0f s: %s",
        len(jobs),
        len(cases) - len(jobs),
        time.monotonic() - started,
        folder,
    )


def _find_open_cases(
    dataset: RawDataset,
    cases: Sequence[Case],
    folder: Path,
    views: tuple[int, ...],
    processes: int,
) -> dict[str, tuple]:
    """Return the arguments of `_prepare_case` for each case that lacks a view."""
    raw = dataset.folder.raw
    keys = content_keys(dataset, cases, processes)
    known = load_hashes(dataset)
    num_channels = len(dataset.description.channel_names)
    jobs = {}
    for case in cases:
        name = case.identifier
        if not set(views) <= set(stored_views(folder, name, keys[name])):
            jobs[name] = (case, num_channels, raw, known_of(case, raw, known), folder, views)
    return jobs


def find_outdated(
    dataset: RawDataset, cases: Sequence[Case], prepared: Sequence[StoredCase], processes: int
) -> list[str]:
    """Find prepared cases whose raw files have changed since, or were read otherwise.

    Args:
        dataset: The raw data set.
        cases: Its cases of this kind, those with labels or those without.
        prepared: Prepared cases. Those without raw files do not count as changed.
        processes: Number of worker processes; 0 for none.

    Returns:
        Their names.
    """
    raw = {case.identifier: case for case in cases}
    with_raw_files = [raw[case.identifier] for case in prepared if case.identifier in raw]
    keys = content_keys(dataset, with_raw_files, processes)
    outdated = []
    for case in prepared:
        key = keys.get(case.identifier, UNREADABLE)
        if key not in (UNREADABLE, case.record.source_key):
            outdated.append(case.identifier)
    return outdated


def _prepare_case(
    case: Case, num_channels: int, raw: Path, known: Hashes, folder: Path, views: tuple[int, ...]
) -> None:
    # The key of the files that are read now: they may have changed since the keys were compared.
    key = case_key(hash_files(case, raw, known))
    every_view = sorted({*views, *stored_views(folder, case.identifier, key)})
    image = read_image(case.image_files, num_channels)
    labels = _read_labels(case, image)
    volume = prepare_volume(_compact(image.array), image.grid, labels)
    if labels is None:
        # Nothing reads these labels. They take no space, and cases with and without labels are
        # stored alike.
        prepared_labels = np.zeros(volume.array.shape[1:], np.uint8)
    else:
        prepared_labels = prepare_labels(labels, volume)
    store_case(folder, case.identifier, key, volume, prepared_labels, tuple(every_view))


def _read_labels(case: Case, image: Image) -> np.ndarray | None:
    """Return the label map `(Z, Y, X)` of a case; None for a case without one."""
    if case.label_file is None:
        return None
    label_image = read_labels(case.label_file)
    difference = label_image.grid.difference(image.grid)
    if difference is not None and difference.kind == "shape":
        raise UserError(f"{case.label_file}: {difference.describe('its image')}")
    return label_image.array[0]


def _compact(array: np.ndarray) -> np.ndarray:
    """Return the same values in 16 bits where these can hold them, else in float32.

    Hounsfield units that are stored as floats become 16-bit numbers in this way.
    """
    if array.dtype.kind in "iu" and array.dtype.itemsize <= 2:
        return array
    limits = np.iinfo(np.int16)
    if limits.min <= array.min() and array.max() <= limits.max:  # false for NaN
        whole = array.astype(np.int16)
        if np.array_equal(whole, array):
            return whole
    return array.astype(np.float32, copy=False)


def prepare_all_configurations(
    dataset: RawDataset, plan: Plan, processes: int, num_parts: int = 1, part_id: int = 0
) -> None:
    """Prepare the views that the configurations of a plan need, all together.

    Args:
        dataset: The raw data set.
        plan: Its plan.
        processes: Number of worker processes; 0 for none.
        num_parts: Number of parts into which the cases are divided.
        part_id: Number of the part to prepare, from 0.

    Raises:
        SamnetError: Cases could not be prepared. All of them are named; the others are done.
    """
    # Imported here: otherwise every worker process would load SciPy for it.
    from samnet.fingerprint.extract import data_key

    if plan.data_key != data_key(dataset, content_keys(dataset, dataset.cases, processes)):
        log.warning(
            "the raw files of %s have changed since they were planned, or older versions of samnet "
            "read them otherwise: run samnet_plan again",
            dataset.name,
        )
    needed: set[int] = set()
    for name in plan.configurations:
        needed.update(plan.configuration(name).views)
    prepare_dataset(dataset, tuple(sorted(needed)), processes, num_parts, part_id)
