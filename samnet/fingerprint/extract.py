"""The fingerprint of a whole data set."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

import numpy as np

from samnet.core.errors import UserError
from samnet.core.jobs import run_jobs
from samnet.core.locks import lock_folder
from samnet.core.paths import preprocessed_folder
from samnet.dataset.cases import RawDataset
from samnet.fingerprint.measure import measure_case
from samnet.fingerprint.records import PERCENTILES, SCHEMA_VERSION, CaseFingerprint, Fingerprint

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
    key = data_key(dataset)
    known = _load_known(path)
    if known is not None and known.data_key == key:
        log.info("fingerprint of %s is up to date", dataset.name)
        return known
    if known is not None:
        log.info("the raw files of %s have changed: measuring them again", dataset.name)
    arguments = {case.identifier: (case, dataset.description) for case in dataset.cases}
    outcome = run_jobs(measure_case, arguments, processes, "fingerprint")
    outcome.raise_if_failed("fingerprint")
    cases: dict[str, CaseFingerprint] = {identifier: outcome.results[identifier] for identifier in sorted(arguments)}
    fingerprint = Fingerprint(
        schema_version=SCHEMA_VERSION,
        dataset_name=dataset.name,
        data_key=key,
        channel_names=dataset.description.channel_names,
        labels=dataset.description.labels,
        ignore_label=dataset.description.ignore_label,
        file_ending=dataset.description.file_ending,
        patient_key=dataset.description.patient_key,
        foreground=_pooled_foreground(cases, len(dataset.description.channel_names)),
        cases=cases,
        regions_class_order=dataset.description.regions_class_order,
    )
    fingerprint.save(path)
    return fingerprint


def _load_known(path: Path) -> Fingerprint | None:
    """The fingerprint that is there; None where there is none, or one that cannot be used: it is no loss."""
    if not path.is_file():
        return None
    try:
        return Fingerprint.load(path)
    except UserError as error:
        log.info("measuring again: %s", error)
        return None


def data_key(dataset: RawDataset) -> str:
    """A hash over `dataset.json` and the name, size and date of every raw training file."""
    digest = hashlib.sha256((dataset.folder / "dataset.json").read_bytes())
    for case in dataset.cases:
        for file in case.raw_files():
            status = file.stat()
            digest.update(f"{file.name}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _pooled_foreground(cases: dict[str, CaseFingerprint], num_channels: int) -> tuple[tuple[float, ...], ...]:
    """The median over cases of each percentile, per channel: one odd case does not move it."""
    pooled = []
    for channel in range(num_channels):
        rows = [case.channels[channel].foreground for case in cases.values()]
        labelled = np.array([row for row in rows if row is not None]).reshape(-1, len(PERCENTILES))
        medians = np.median(labelled, axis=0) if len(labelled) else np.zeros(len(PERCENTILES))
        pooled.append(tuple(float(value) for value in medians))
    return tuple(pooled)
