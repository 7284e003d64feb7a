"""Finding the images or masks in a folder; what else lies in it is named."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from samnet.core.errors import UserError
from samnet.dataset.cases.folder_walk import Contents, walk
from samnet.dataset.images import (
    companions_of,
    ending_of,
    name_without_ending,
    supported_endings,
)
from samnet.dataset.pairing.bids import bids_name, differing_subject, is_bids_name, is_bids_tree
from samnet.dataset.pairing.candidates import Candidate, Pairing

_MOST_LISTED = 5  # of the files of one ending


@dataclass(frozen=True)
class FoundFile:
    """A file of a supported format.

    Attributes:
        file: Its path.
        folders: Names of the folders that lead to it from the top folder.
        stem: Its name without the ending.
    """

    file: Path
    folders: tuple[str, ...]
    stem: str

    @property
    def name(self) -> str:
        """The name as a case: that of BIDS, or the folders and the name of the file."""
        return bids_name(self.folders, self.stem) or "_".join(filter(None, self.all_names))

    @property
    def all_names(self) -> tuple[str, ...]:
        """Names of the folders, then of the file."""
        return (*self.folders, self.stem)

    def as_candidate(self) -> Candidate:
        """Return the file as an image or mask of one file."""
        return Candidate(self.name, (self.file,), "_".join(self.folders))


def find_files(top: Path, other: Path, is_recursive: bool, pairing: Pairing) -> list[FoundFile]:
    """Find the images, or the masks, in a folder.

    Args:
        top: The folder.
        other: The folder of the others. If it lies in `top`, as the label maps of BIDS do in
            `derivatives`, it is passed over.
        is_recursive: Whether to search the folders in the folder too.
        pairing: What is left out, and faults, are added to it.

    Returns:
        The files of supported formats.

    Raises:
        UserError: The folder is missing, or holds no image.
    """
    if not top.is_dir():
        raise UserError(f"{top}: no such folder")
    found = []
    others: list[Path] = []
    is_other_below = top.resolve() in other.resolve().parents
    is_bids = is_bids_tree(top)
    outside_subjects: set[str] = set()
    for contents in walk(top):
        if is_other_below and _is_within(contents.folder, other):
            continue
        supported = [file for file in contents.files if ending_of(file)]
        folders = contents.folder.relative_to(top).parts
        if is_bids and folders and not is_bids_name(folders[0]):
            outside_subjects |= {folders[0]} if supported else set()
            continue
        if folders and not is_recursive:
            pairing.faults.extend(_folder_faults(contents.folder, supported))
            if contents.files and not supported:
                pairing.left_out.append(f"{contents.folder}: a folder without a supported image")
            continue
        pairing.left_out.extend(f"{entry.path}: {entry.reason}" for entry in contents.left_out)
        others += _others(contents, supported)
        found += [FoundFile(file, folders, name_without_ending(file)) for file in supported]
    pairing.left_out.extend(_name_others(others))
    pairing.left_out.extend(
        f"{top / name}: the folder belongs to no subject of the BIDS data set"
        for name in sorted(outside_subjects)
    )
    if not found and not pairing.faults:
        raise UserError(f"{top}: no image in it; supported are {', '.join(supported_endings())}")
    pairing.faults.extend(_contradictions(found))
    return found


def _is_within(folder: Path, top: Path) -> bool:
    return top.resolve() in (folder.resolve(), *folder.resolve().parents)


def _folder_faults(folder: Path, supported: list[Path]) -> list[str]:
    if not supported:
        return []
    return [
        f"{folder}: a folder with {len(supported)} images or masks; add --recursive to take the "
        "folders in it too, name what they hold with --class-suffixes or --channel-suffixes where "
        "they are classes or channels, or move it elsewhere"
    ]


def _contradictions(found: list[FoundFile]) -> list[str]:
    faults = []
    for entry in found:
        folder = differing_subject(entry.folders, entry.stem)
        if folder is not None:
            faults.append(f"{entry.file}: lies in the folder of {folder}; rename or move it")
    return faults


def _others(contents: Contents, supported: list[Path]) -> list[Path]:
    """Return the files that are no images, and that no image refers to."""
    companions: set[Path] = set()
    for file in supported:
        companions |= set(companions_of(file))
    return [file for file in contents.files if file not in {*supported, *companions}]


def _name_others(others: list[Path]) -> list[str]:
    """Name the files that are no images, in short where many have the same ending."""
    by_ending: dict[str, list[Path]] = defaultdict(list)
    for file in others:
        by_ending[file.suffix.lower()].append(file)
    reason = "is no image of a supported format"
    texts = []
    for ending, files in by_ending.items():
        if len(files) <= _MOST_LISTED:
            texts += [f"{file}: {reason}" for file in files]
        else:
            texts.append(f"{files[0]} and {len(files) - 1} more files {ending}: {reason}")
    return texts
