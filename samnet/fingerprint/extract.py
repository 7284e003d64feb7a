"""The fingerprint of a whole data set."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from samnet.core.errors import UserError
from samnet.core.locks import lock_folder
from samnet.core.units import round_length
from samnet.core.worker_pool import run_jobs
from samnet.dataset.cases import Case, RawDataset
from samnet.dataset.contents import (
    Hashes,
    case_key,
    content_keys,
    hash_files,
    known_of,
    load_hashes,
    remember_hashes,
)
from samnet.dataset.description import DatasetDescription
from samnet.fingerprint.records import (
    PERCENTILES,
    SCHEMA_VERSION,
    SHAPE_PERCENTILES,
    CaseFingerprint,
    Fingerprint,
    ShapeStatistics,
)

if TYPE_CHECKING:
    from samnet.fingerprint.measure import CaseMeasurements, SliceSizes

_SHAPE_DECIMALS = 3

log = logging.getLogger(__name__)


def extract_fingerprint(dataset: RawDataset, processes: int) -> Fingerprint:
    """Measure every case and write the fingerprint. An up-to-date one is read instead.

    Of two commands that measure the same data set, one waits for the other's fingerprint.

    Args:
        dataset: The raw data set.
        processes: Number of worker processes; 0 for none.

    Returns:
        The fingerprint.

    Raises:
        SamnetError: Cases could not be measured; all of them are named.
    """
    path = dataset.folder.fingerprint_file
    with lock_folder(path.parent, "fingerprint"):
        known = _load_known(path)
        if known is not None and _is_up_to_date(known, dataset, processes):
            log.info("fingerprint of %s is up to date", dataset.name)
            current = replace(known, num_unlabelled=len(dataset.unlabelled_cases))
            if current != known:
                current.save(path)
            return current
        if known is not None:
            log.info("the raw files of %s have changed: measuring them again", dataset.name)
        fingerprint = _measure(dataset, processes)
        fingerprint.save(path)
    return fingerprint


def _load_known(path: Path) -> Fingerprint | None:
    """Return the fingerprint that is there; None where there is none that can be used."""
    if not path.is_file():
        return None
    try:
        known = Fingerprint.load(path)
    except UserError as error:  # no loss: the data are measured again
        log.info("measuring again: %s", error)
        return None
    if known.schema_version != SCHEMA_VERSION:
        log.info("measuring again: %s was written by an older version of samnet", path)
        return None
    return known


def _is_up_to_date(known: Fingerprint, dataset: RawDataset, processes: int) -> bool:
    keys = content_keys(dataset, dataset.cases, processes)
    return known.data_key == data_key(dataset, keys)


def _measure(dataset: RawDataset, processes: int) -> Fingerprint:
    description, raw = dataset.description, dataset.folder.raw
    hashes = load_hashes(dataset)
    arguments = {
        case.identifier: (case, raw, description, known_of(case, raw, hashes))
        for case in dataset.cases
    }
    outcome = run_jobs(_measure_and_hash, arguments, processes, "fingerprint")
    remember_hashes(dataset, (hashes for _, hashes in outcome.results.values()))
    outcome.raise_if_failed("fingerprint")
    measured: dict[str, CaseMeasurements] = {
        name: outcome.results[name][0] for name in sorted(arguments)
    }
    keys = {name: case_key(hashes) for name, (_, hashes) in outcome.results.items()}
    cases = {name: entry.case for name, entry in measured.items()}
    return Fingerprint(
        schema_version=SCHEMA_VERSION,
        dataset_name=dataset.name,
        data_key=data_key(dataset, keys),
        channel_names=description.channel_names,
        label_scheme=description.label_scheme,
        file_ending=description.file_ending,
        patient_key=description.patient_key,
        foreground=_pooled_foreground(cases, len(description.channel_names)),
        shapes=_shapes_by_class(measured, description.label_scheme.class_names),
        cases=cases,
        num_unlabelled=len(dataset.unlabelled_cases),
    )


def _measure_and_hash(
    case: Case, folder: Path, description: DatasetDescription, known: Hashes
) -> tuple[CaseMeasurements, Hashes]:
    """Do both in one job: the second to read a large file finds it in the system's memory."""
    # Imported here: otherwise commands that find everything measured would load SciPy for it.
    from samnet.fingerprint.measure import measure_case

    hashes = hash_files(case, folder, known)
    return measure_case(case, description), hashes


def data_key(dataset: RawDataset, keys: Mapping[str, str]) -> str:
    """Return a hash over `dataset.json` and the names and contents of all raw training files.

    Args:
        dataset: The raw data set.
        keys: The `content_keys` of all cases.

    Returns:
        The hash in hexadecimal.
    """
    digest = hashlib.sha256(dataset.folder.description_file.read_bytes())
    for case in dataset.cases:
        digest.update(f"{case.identifier}\0{keys[case.identifier]}\n".encode())
    return digest.hexdigest()


def _shapes_by_class(
    measured: Mapping[str, CaseMeasurements], class_names: Sequence[str]
) -> dict[str, tuple[ShapeStatistics, ...]]:
    """Return for each class the percentiles over the slices of all cases."""
    shapes = {}
    for name in class_names:
        sizes = [entry.sizes[name] for entry in measured.values()]
        shapes[name] = tuple(_pool_sizes(across) for across in zip(*sizes, strict=True))
    return shapes


def _pool_sizes(entries: Sequence[SliceSizes]) -> ShapeStatistics:
    diameters = [value for entry in entries for value in entry.diameters]
    thicknesses = [value for entry in entries for value in entry.thicknesses]
    return ShapeStatistics(_percentiles(diameters), _percentiles(thicknesses))


def _percentiles(values: list[float]) -> tuple[float, ...]:
    if not values:
        return ()
    percentiles = np.percentile(values, SHAPE_PERCENTILES)
    return tuple(round_length(float(value), _SHAPE_DECIMALS) for value in percentiles)


def _pooled_foreground(
    cases: dict[str, CaseFingerprint], num_channels: int
) -> tuple[tuple[float, ...], ...]:
    """Return the median over cases of each percentile, so that one odd case does not move it."""
    pooled = []
    for channel in range(num_channels):
        rows = [case.channels[channel].foreground for case in cases.values()]
        labelled = np.array([row for row in rows if row is not None])
        medians = np.zeros(len(PERCENTILES))
        if len(labelled):
            medians = np.median(labelled.reshape(-1, len(PERCENTILES)), axis=0)
        pooled.append(tuple(float(value) for value in medians))
    return tuple(pooled)
