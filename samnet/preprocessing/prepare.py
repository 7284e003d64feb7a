"""Preparing a whole data set: resumable case by case, in several processes or none."""

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
from samnet.dataset.images import read_image, read_labels
from samnet.plan.plan import Plan
from samnet.preprocessing.case import prepare_labels, prepare_volume
from samnet.preprocessing.storage import StoredCase, store_case, stored_views

log = logging.getLogger(__name__)


def prepare_dataset(
    dataset: RawDataset,
    views: tuple[int, ...],
    processes: int,
    num_parts: int = 1,
    part_id: int = 0,
) -> Path:
    """Prepare the training cases of one part of a data set and return their folder; finished cases are kept.

    Of two processes that are to prepare the same part, one waits for the other, and finds it done.

    views: the canonical axes across which slices are needed; those a case already has stay.

    Raises:
        SamnetError: cases could not be prepared; all are named, the others are done.
    """
    started = time.monotonic()
    folder = dataset.folder.slices
    cases = select_part(dataset.cases, num_parts, part_id)
    with lock_folder(folder, f"preprocessing part {part_id} of {num_parts}"):
        keys = content_keys(dataset, cases, processes)
        known = load_hashes(dataset)
        open_cases = {
            case.identifier: (
                case,
                dataset.folder.raw,
                known_of(case, dataset.folder.raw, known),
                folder,
                views,
            )
            for case in cases
            if not set(views) <= set(stored_views(folder, case.identifier, keys[case.identifier]))
        }
        outcome = run_jobs(_prepare_case, open_cases, processes, "preprocessing")
    outcome.raise_if_failed("preprocessing")
    log.info(
        "prepared %d cases (%d were ready) in %.0f s: %s",
        len(open_cases),
        len(cases) - len(open_cases),
        time.monotonic() - started,
        folder,
    )
    return folder


def find_outdated(dataset: RawDataset, prepared: Sequence[StoredCase], processes: int) -> list[str]:
    """Those of the prepared cases whose raw files hold something else by now; cases without raw files are none."""
    raw = {case.identifier: case for case in dataset.cases}
    keys = content_keys(
        dataset, [raw[case.identifier] for case in prepared if case.identifier in raw], processes
    )
    return [
        case.identifier
        for case in prepared
        if keys.get(case.identifier, UNREADABLE) not in (UNREADABLE, case.record.source_key)
    ]


def _prepare_case(
    case: Case, raw: Path, known: Hashes, folder: Path, views: tuple[int, ...]
) -> None:
    key = case_key(
        hash_files(case, raw, known)
    )  # of what is read now, should it have changed since the others
    every_view = sorted({*views, *stored_views(folder, case.identifier, key)})
    image = read_image(case.image_files)
    assert case.label_file is not None
    label_image = read_labels(case.label_file)
    difference = label_image.grid.difference(image.grid)
    if difference is not None and difference.kind == "shape":
        raise UserError(f"{case.label_file}: {difference.describe('its image')}")
    labels = label_image.array[0]
    volume = prepare_volume(_compact(image.array), image.grid, labels)
    store_case(
        folder, case.identifier, key, volume, prepare_labels(labels, volume), tuple(every_view)
    )


def _compact(array: np.ndarray) -> np.ndarray:
    """The same values in 16 bits where those hold them, as they do Hounsfield units stored as floats; else float32."""
    if array.dtype.kind in "iu" and array.dtype.itemsize <= 2:
        return array
    limits = np.iinfo(np.int16)
    if limits.min <= array.min() and array.max() <= limits.max:  # neither holds for NaN
        whole = array.astype(np.int16)
        if np.array_equal(whole, array):
            return whole
    return array.astype(np.float32, copy=False)


def prepare_all_configurations(
    dataset: RawDataset, plan: Plan, processes: int, num_parts: int = 1, part_id: int = 0
) -> None:
    """Prepare what the configurations of the plan need, together.

    Raises:
        SamnetError: cases could not be prepared; all are named, the others are done.
    """
    from samnet.fingerprint.extract import (
        data_key,  # not above: worker processes would load SciPy for it
    )

    if plan.data_key != data_key(dataset, content_keys(dataset, dataset.cases, processes)):
        log.warning(
            "the raw files of %s have changed since they were planned: run samnet_plan again",
            dataset.name,
        )
    needed = {axis for name in plan.configurations for axis in plan.configuration(name).views}
    prepare_dataset(dataset, tuple(sorted(needed)), processes, num_parts, part_id)
