"""Hashes of the contents of raw files, by which changed data are found.

A file that older versions of samnet read otherwise counts as changed, too.

What counts is the content of a file and not its date: a copied or touched file is the same file.
Hashes are remembered with the size and date of the file, and only a file that differs in one of
these is read again. So the replacement of a file by another of the same size and date is not
noticed.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from samnet.core.errors import UserError
from samnet.core.files import read_json, write_json_rows
from samnet.core.hashing import file_sha256
from samnet.core.locks import lock_folder
from samnet.core.records import from_json, to_json
from samnet.core.worker_pool import run_jobs
from samnet.dataset.cases import Case, RawDataset
from samnet.dataset.reading_changes import READING_VERSION, describe_reading_changes

# The key of a case whose files cannot be read. The step that reads the case reports the reason.
UNREADABLE = ""


@dataclass(frozen=True)
class HashedFile:
    """A file at the time when its sha256 was computed.

    Attributes:
        size: Size in bytes.
        mtime_ns: Time of its last change in nanoseconds.
        sha256: Hash of its content in hexadecimal.
        reading_changes: What of it is read otherwise than by older versions of samnet; None where
            this was not looked at.
    """

    size: int
    mtime_ns: int
    sha256: str
    reading_changes: str | None = None

    def has_state(self, state: tuple[int, int]) -> bool:
        """Tell whether a file still has the size and date of this one.

        Args:
            state: Size in bytes and time of the last change in nanoseconds.

        Returns:
            Whether both are equal.
        """
        return (self.size, self.mtime_ns) == state


# Path of a file relative to the folder of raw data -> the file.
Hashes = dict[str, HashedFile]


def content_keys(dataset: RawDataset, cases: Sequence[Case], processes: int) -> dict[str, str]:
    """Compute a hash over the names and contents of the raw files of each case.

    Args:
        dataset: The data set of the cases.
        cases: The cases to look at.
        processes: Number of worker processes; 0 to read all files in this process.

    Returns:
        Identifier of a case -> its hash, or `UNREADABLE` where a file cannot be read.
    """
    raw = dataset.folder.raw
    known = load_hashes(dataset)
    keys: dict[str, str] = {}
    arguments: dict[str, tuple] = {}
    for case in cases:
        hashes = _hashes_without_reading(case, raw, known)
        if hashes is None:
            arguments[case.identifier] = (case, raw, known_of(case, raw, known))
        else:
            keys[case.identifier] = case_key(hashes)
    outcome = run_jobs(hash_files, arguments, processes, "checking raw files")
    remember_hashes(dataset, outcome.results.values())
    for name, hashes in outcome.results.items():
        keys[name] = case_key(hashes)
    return keys | dict.fromkeys(outcome.failures, UNREADABLE)


def hash_files(case: Case, folder: Path, known: Mapping[str, HashedFile]) -> Hashes:
    """Hash the raw files of a case. Files with the size and date in `known` are not read.

    Args:
        case: The case.
        folder: The folder of raw data.
        known: Path relative to that folder -> the file as it was hashed before.

    Returns:
        Path relative to that folder -> the file, for every raw file of the case.

    Raises:
        UserError: A header does not say where its voxels are.
        OSError: A file cannot be read.
    """
    hashes = {}
    for file in case.raw_files():
        path = os.path.relpath(file, folder)
        # The state is taken before reading, so that a change in between is noticed the next time.
        state = _state(file)
        entry = known.get(path)
        if entry is None or not entry.has_state(state):
            size, mtime_ns = state
            entry = HashedFile(size, mtime_ns, file_sha256(file))
        if entry.reading_changes is None:
            entry = replace(entry, reading_changes=describe_reading_changes(file))
        hashes[path] = entry
    return hashes


def known_of(case: Case, folder: Path, known: Mapping[str, HashedFile]) -> Hashes:
    """Select what is known of the files of one case, so that a worker process is sent no more.

    Args:
        case: The case.
        folder: The folder of raw data.
        known: Path relative to that folder -> the file as it was hashed before.

    Returns:
        The entries of `known` that belong to the case.
    """
    try:
        paths = [os.path.relpath(file, folder) for file in case.raw_files()]
    except (UserError, OSError):  # reported by the step that reads the case
        return {}
    return {path: known[path] for path in paths if path in known}


def case_key(hashes: Mapping[str, HashedFile]) -> str:
    """Return a hash over the names and contents of files, whatever folder they are in.

    It also depends on what of them older versions read otherwise, so that what was made by these
    is outdated.

    Args:
        hashes: Path -> file.

    Returns:
        A sha256 in hexadecimal.
    """
    digest = hashlib.sha256()
    for path, entry in hashes.items():
        digest.update(f"{Path(path).name}\0{entry.sha256}\n".encode())
        if entry.reading_changes:
            digest.update(f"\0{entry.reading_changes}\n".encode())
    return digest.hexdigest()


def load_hashes(dataset: RawDataset) -> Hashes:
    """Read the hashes that were remembered.

    Args:
        dataset: The data set.

    Returns:
        Path relative to the folder of raw data -> file. Empty where the file of hashes is missing
        or damaged: they are then computed again.
    """
    file = dataset.folder.hashes_file
    try:
        content = read_json(file)
        entries = content["files"]
        known = {path: from_json(HashedFile, entry, str(file)) for path, entry in entries.items()}
    except (UserError, AttributeError, KeyError, TypeError):
        return {}
    if content.get("reading_version") == READING_VERSION:
        return known
    return {path: replace(entry, reading_changes=None) for path, entry in known.items()}


def remember_hashes(dataset: RawDataset, found: Iterable[Hashes]) -> None:
    """Add hashes to those that are remembered; do nothing where the folder is not writable.

    Args:
        dataset: The data set.
        found: The hashes of each case.
    """
    new: Hashes = {}
    for hashes in found:
        new.update(hashes)
    if not new:
        return
    file = dataset.folder.hashes_file
    with contextlib.suppress(OSError), lock_folder(file.parent, "raw files"):
        merged: dict[str, Any] = to_json(load_hashes(dataset) | new)
        files = dict(sorted(merged.items()))
        write_json_rows(file, {"reading_version": READING_VERSION, "files": files})


def _hashes_without_reading(
    case: Case, folder: Path, known: Mapping[str, HashedFile]
) -> Hashes | None:
    """Return the known hashes of a case; None where a file is new, changed or not accessible."""
    hashes = {}
    try:
        for file in case.raw_files():
            path = os.path.relpath(file, folder)
            entry = known.get(path)
            if entry is None or entry.reading_changes is None:
                return None
            if not entry.has_state(_state(file)):
                return None
            hashes[path] = entry
    except (UserError, OSError):
        return None
    return hashes


def _state(file: Path) -> tuple[int, int]:
    """Return the size in bytes and the time of the last change in nanoseconds."""
    status = file.stat()
    return status.st_size, status.st_mtime_ns
