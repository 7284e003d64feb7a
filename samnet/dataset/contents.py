"""What raw files hold, as hashes: whether data have changed is a question of their content, not of dates.

A copied or touched file is the same, one that was replaced by another of its size and date is not looked for. Hashes
are remembered with size and date of the file, so that only what differs in one of these is read again.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samnet.core.errors import UserError
from samnet.core.files import read_json, write_json_rows
from samnet.core.hashing import file_sha256
from samnet.core.locks import lock_folder
from samnet.core.records import from_json, to_json
from samnet.core.worker_pool import run_jobs
from samnet.dataset.cases import Case, RawDataset

UNREADABLE = ""  # the key of a case whose files cannot be read: whoever reads the case reports it


@dataclass(frozen=True)
class HashedFile:
    """A file as it was when its sha256 was taken: size in bytes, date in nanoseconds."""

    size: int
    mtime_ns: int
    sha256: str


# By the way from the data set's folder to the file.
Hashes = dict[str, HashedFile]


def content_keys(dataset: RawDataset, cases: Sequence[Case], processes: int) -> dict[str, str]:
    """A hash over names and contents of the raw files of each case, by case; `UNREADABLE` where there is none."""
    known = load_hashes(dataset)
    keys, arguments = {}, {}
    for case in cases:
        hashes = _without_reading(case, dataset.folder.raw, known)
        if hashes is None:
            arguments[case.identifier] = (
                case,
                dataset.folder.raw,
                known_of(case, dataset.folder.raw, known),
            )
        else:
            keys[case.identifier] = case_key(hashes)
    outcome = run_jobs(hash_files, arguments, processes, "checking raw files")
    remember_hashes(dataset, outcome.results.values())
    keys |= {name: case_key(hashes) for name, hashes in outcome.results.items()}
    return keys | dict.fromkeys(outcome.failures, UNREADABLE)


def hash_files(case: Case, folder: Path, known: Mapping[str, HashedFile]) -> Hashes:
    """The raw files of a case with their hashes; files of the size and date in `known` are not read.

    folder: of the data set.

    Raises:
        UserError, OSError: a file cannot be read.
    """
    hashes = {}
    for file in case.raw_files():
        place, state = os.path.relpath(file, folder), _state(file)
        entry = known.get(place)
        if entry is None or (entry.size, entry.mtime_ns) != state:
            entry = HashedFile(
                *state, file_sha256(file)
            )  # the state from before: a change meanwhile is seen later
        hashes[place] = entry
    return hashes


def known_of(case: Case, folder: Path, known: Mapping[str, HashedFile]) -> Hashes:
    """What is known of the files of one case: all that a worker process needs to be sent."""
    try:
        places = [os.path.relpath(file, folder) for file in case.raw_files()]
    except UserError:  # whoever reads the case reports it
        return {}
    return {place: known[place] for place in places if place in known}


def case_key(hashes: Mapping[str, HashedFile]) -> str:
    """A hash over the names and contents of a case's files, wherever they lie."""
    digest = hashlib.sha256()
    for place, entry in hashes.items():
        digest.update(f"{Path(place).name}\0{entry.sha256}\n".encode())
    return digest.hexdigest()


def load_hashes(dataset: RawDataset) -> Hashes:
    """The hashes that were remembered; none where the file is missing or damaged: it is no loss."""
    try:
        content = read_json(dataset.folder.hashes_file)
        return {
            place: from_json(HashedFile, entry, str(dataset.folder.hashes_file))
            for place, entry in content["files"].items()
        }
    except (UserError, AttributeError, KeyError, TypeError):
        return {}


def remember_hashes(dataset: RawDataset, found: Iterable[Hashes]) -> None:
    """Add hashes to those that are remembered. Where the folder cannot be written to, nothing is."""
    new: Hashes = {place: entry for hashes in found for place, entry in hashes.items()}
    if not new:
        return
    with contextlib.suppress(OSError), lock_folder(dataset.folder.hashes_file.parent, "raw files"):
        merged: dict[str, Any] = to_json(load_hashes(dataset) | new)
        write_json_rows(dataset.folder.hashes_file, {"files": dict(sorted(merged.items()))})


def _without_reading(case: Case, folder: Path, known: Mapping[str, HashedFile]) -> Hashes | None:
    """The hashes of a case, all of whose files have the size and date that is known of them; else None."""
    try:
        files = {os.path.relpath(file, folder): _state(file) for file in case.raw_files()}
    except (UserError, OSError):
        return None
    if all(
        place in known and (known[place].size, known[place].mtime_ns) == state
        for place, state in files.items()
    ):
        return {place: known[place] for place in files}
    return None


def _state(file: Path) -> tuple[int, int]:
    status = file.stat()
    return status.st_size, status.st_mtime_ns
