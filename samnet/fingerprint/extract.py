"""The fingerprint of a whole data set."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from samnet.core.errors import UserError
from samnet.core.locks import lock_folder
from samnet.core.paths import preprocessed_folder
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
from samnet.fingerprint.measure import CaseMeasurements, SliceSizes, measure_case
from samnet.fingerprint.records import (
    PERCENTILES,
    SCHEMA_VERSION,
    SHAPE_PERCENTILES,
    CaseFingerprint,
    Fingerprint,
    ShapeStatistics,
)

log = logging.getLogger(__name__)


def fingerprint_path(dataset_name: str) -> Path:
    return preprocessed_folder() / dataset_name / "dataset_fingerprint.json"


def extract_fingerprint(dataset: RawDataset, processes: int) -> Fingerprint:
    """Measure every case and write the fingerprint; an up-to-date one is read instead.

    Of two processes that are to measure the same data set, one waits for the other's fingerprint.

    Raises:
        SamnetError: cases could not be measured; all of them are named.
    """
    path = fingerprint_path(dataset.name)
    with lock_folder(path.parent, "fingerprint"):
        return _extract(dataset, processes, path)


def _extract(dataset: RawDataset, processes: int, path: Path) -> Fingerprint:
    known = _load_known(path)
    if known is not None:
        if known.data_key == data_key(dataset, content_keys(dataset, dataset.cases, processes)):
            log.info("fingerprint of %s is up to date", dataset.name)
            return known
        log.info("the raw files of %s have changed: measuring them again", dataset.name)
    hashes = load_hashes(dataset)
    arguments = {
        case.identifier: (
            case,
            dataset.folder,
            dataset.description,
            known_of(case, dataset.folder, hashes),
        )
        for case in dataset.cases
    }
    outcome = run_jobs(_measure_and_hash, arguments, processes, "fingerprint")
    remember_hashes(dataset, (result[1] for result in outcome.results.values()))
    outcome.raise_if_failed("fingerprint")
    measured: dict[str, CaseMeasurements] = {
        name: outcome.results[name][0] for name in sorted(arguments)
    }
    keys = {name: case_key(result[1]) for name, result in outcome.results.items()}
    cases = {name: entry.case for name, entry in measured.items()}
    fingerprint = Fingerprint(
        schema_version=SCHEMA_VERSION,
        dataset_name=dataset.name,
        data_key=data_key(dataset, keys),
        channel_names=dataset.description.channel_names,
        labels=dataset.description.labels,
        ignore_label=dataset.description.ignore_label,
        file_ending=dataset.description.file_ending,
        patient_key=dataset.description.patient_key,
        foreground=_pooled_foreground(cases, len(dataset.description.channel_names)),
        shapes={
            name: _pooled_shapes(entry.sizes[name] for entry in measured.values())
            for name in next(iter(measured.values())).sizes
        },
        cases=cases,
        regions_class_order=dataset.description.regions_class_order,
    )
    fingerprint.save(path)
    return fingerprint


def _measure_and_hash(
    case: Case, folder: Path, description: DatasetDescription, known: Hashes
) -> tuple[CaseMeasurements, Hashes]:
    """Both in one job: the second to read a large file finds it in the system's memory."""
    hashes = hash_files(case, folder, known)
    return measure_case(case, description), hashes


def _load_known(path: Path) -> Fingerprint | None:
    """The fingerprint that is there; None where there is none, or one that cannot be used: it is no loss."""
    if not path.is_file():
        return None
    try:
        return Fingerprint.load(path)
    except UserError as error:
        log.info("measuring again: %s", error)
        return None


def data_key(dataset: RawDataset, keys: Mapping[str, str]) -> str:
    """A hash over `dataset.json` and the names and contents of all raw training files.

    keys: the `content_keys` of all cases.
    """
    digest = hashlib.sha256((dataset.folder / "dataset.json").read_bytes())
    for case in dataset.cases:
        digest.update(f"{case.identifier}\0{keys[case.identifier]}\n".encode())
    return digest.hexdigest()


def _pooled_shapes(sizes: Iterable[tuple[SliceSizes, ...]]) -> tuple[ShapeStatistics, ...]:
    """Across each axis the percentiles over all cases, of their slices together."""
    axes = zip(*sizes, strict=True)
    return tuple(
        ShapeStatistics(
            _percentiles([value for entry in entries for value in entry.diameters]),
            _percentiles([value for entry in entries for value in entry.thicknesses]),
        )
        for entries in axes
    )


def _percentiles(values: list[float]) -> tuple[float, ...]:
    if not values:
        return ()
    return tuple(round(float(value), 3) for value in np.percentile(values, SHAPE_PERCENTILES))


def _pooled_foreground(
    cases: dict[str, CaseFingerprint], num_channels: int
) -> tuple[tuple[float, ...], ...]:
    """The median over cases of each percentile, per channel: one odd case does not move it."""
    pooled = []
    for channel in range(num_channels):
        rows = [case.channels[channel].foreground for case in cases.values()]
        labelled = np.array([row for row in rows if row is not None]).reshape(-1, len(PERCENTILES))
        medians = np.median(labelled, axis=0) if len(labelled) else np.zeros(len(PERCENTILES))
        pooled.append(tuple(float(value) for value in medians))
    return tuple(pooled)
