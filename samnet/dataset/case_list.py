"""The `dataset` key of nnU-Net v2's `dataset.json`: a list of training cases and their files."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samnet.core.errors import DatasetFaults, UserError
from samnet.core.files import read_json
from samnet.dataset.images import ending_of, label_endings, supported_endings

# The forms that `os.path.expandvars` replaces on every operating system.
_VARIABLE = re.compile(r"\$(?:\{(?P<braced>[^}]*)\}|(?P<plain>\w+))", re.ASCII)
_FORM = '{"images": ["FILE of channel 0", ...], "label": "FILE"}'


@dataclass(frozen=True)
class ListedCase:
    """The files of one training case.

    Attributes:
        image_files: Image files in channel order.
        label_file: File of the label map.
    """

    image_files: tuple[Path, ...]
    label_file: Path


def read_case_list(path: Path) -> dict[str, ListedCase] | None:
    """Read the cases that a `dataset.json` lists.

    Paths are relative to the folder of `dataset.json` unless absolute. As in nnU-Net, they may
    contain environment variables (`$NAME`).

    Args:
        path: The `dataset.json`.

    Returns:
        Case name -> its files, or None where the file has no `dataset` key.

    Raises:
        UserError: The list, or an entry of it, has another form, or an environment variable in a
            path is not set or set to a wrong folder. All faults are reported.
    """
    content = read_json(path)
    if not isinstance(content, dict) or "dataset" not in content:
        return None
    entries = content["dataset"]
    if not isinstance(entries, dict) or not entries:
        raise UserError(f'{path}: "dataset" is {entries!r}; expected CASE: {_FORM}, or no such key')
    faults: list[str] = []
    cases = {}
    for name, entry in sorted(entries.items()):
        entry_faults = _entry_faults(name, entry, path.parent)
        if entry_faults:
            faults += [f'{path}: "dataset" has for {name!r} {fault}' for fault in entry_faults]
        else:
            images = tuple(_locate(text, path.parent) for text in entry["images"])
            cases[name] = ListedCase(images, _locate(entry["label"], path.parent))
    usable = [text for name in cases for text in _paths_of(entries[name])]
    faults += [f"{path}: {fault}" for fault in _wrong_variables(usable, path.parent)]
    if faults:
        raise DatasetFaults(path.parent.name, faults)
    return cases


def _entry_faults(name: str, entry: Any, folder: Path) -> list[str]:
    if not name or name != Path(name).name:
        return ["a name that cannot be that of a file; rename the case"]
    if not _has_expected_form(entry):
        return [f"{entry!r}; expected {_FORM}"]
    unset = _unset_variables(entry, folder)
    if unset:
        return unset
    faults = [
        f"the image {text!r} of an unknown ending; supported are {', '.join(supported_endings())}"
        for text in entry["images"]
        if ending_of(Path(text)) is None
    ]
    label = entry["label"]
    if ending_of(Path(label)) not in label_endings():
        faults.append(
            f"the label map {label!r} of an ending that cannot hold labels; "
            f"supported are {', '.join(label_endings())}"
        )
    return faults


def _unset_variables(entry: Any, folder: Path) -> list[str]:
    """Return a fault for each environment variable that a path names and that is not set."""
    faults = []
    for text in _paths_of(entry):
        if _locate(text, folder).exists():  # its name may hold a dollar sign
            continue
        for name in _variables_in(text):
            if not os.environ.get(name):
                state = "empty" if name in os.environ else "not set"
                faults.append(
                    f"the path {text!r}, but the environment variable {name} is {state}; set it "
                    "to the folder that holds the file"
                )
    return faults


def _wrong_variables(texts: Iterable[str], folder: Path) -> list[str]:
    """Return a fault for each environment variable below whose folder none of the files lies."""
    counts: Counter[str] = Counter()
    found: set[str] = set()
    for text in texts:
        names = [name for name in _variables_in(text) if name not in found]
        if names and _locate(text, folder).exists():
            found.update(names)
        counts.update(names)
    faults = []
    for name, count in counts.items():
        if name in found:  # files that are missing there are reported one by one
            continue
        value = os.environ[name]
        state = "is there, but holds none of them" if (folder / value).is_dir() else "is not there"
        faults.append(
            f'"dataset" names {count} files by the environment variable {name}; it is set to '
            f"{value!r}, which {state}; set it to the folder that holds the files"
        )
    return faults


def _variables_in(text: str) -> list[str]:
    """Return the names of the environment variables in a path."""
    return [match["braced"] or match["plain"] for match in _VARIABLE.finditer(text)]


def _paths_of(entry: Any) -> list[str]:
    return [*entry["images"], entry["label"]]


def _has_expected_form(entry: Any) -> bool:
    if not isinstance(entry, dict):
        return False
    images, label = entry.get("images"), entry.get("label")
    if not isinstance(images, list) or not images:
        return False
    return all(isinstance(text, str) for text in (*images, label))


def _locate(text: str, folder: Path) -> Path:
    return folder / os.path.expandvars(text)
