"""The `dataset` key of nnU-Net v2's `dataset.json`: the training cases with their files, wherever those lie."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samnet.core.errors import DatasetFaults, UserError
from samnet.core.files import read_json
from samnet.dataset.images import ending_of, label_endings, supported_endings

_FORM = '{"images": ["FILE of channel 0", ...], "label": "FILE"}'


@dataclass(frozen=True)
class ListedCase:
    """image_files: in channel order."""

    image_files: tuple[Path, ...]
    label_file: Path


def read_case_list(path: Path) -> dict[str, ListedCase] | None:
    """The cases that a `dataset.json` lists, by name; None where it has no `dataset` key.

    Paths are relative to the folder of `dataset.json` unless absolute, and may hold environment variables (`$NAME`), as
    in nnU-Net.

    Raises:
        UserError: the list, or an entry of it, has another form; all faults are reported.
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
        found = _entry_faults(name, entry)
        if found:
            faults += [f'{path}: "dataset" has for {name!r} {fault}' for fault in found]
        else:
            images = tuple(_locate(text, path.parent) for text in entry["images"])
            cases[name] = ListedCase(images, _locate(entry["label"], path.parent))
    if faults:
        raise DatasetFaults(path.parent.name, faults)
    return cases


def _entry_faults(name: str, entry: Any) -> list[str]:
    if not name or name != Path(name).name:
        return ["a name that cannot be that of a file; rename the case"]
    images = entry.get("images") if isinstance(entry, dict) else None
    label = entry.get("label") if isinstance(entry, dict) else None
    if (
        not isinstance(images, list)
        or not images
        or not all(isinstance(text, str) for text in (*images, label))
    ):
        return [f"{entry!r}; expected {_FORM}"]
    faults = [
        f"the image {text!r} of an unknown ending; supported are {', '.join(supported_endings())}"
        for text in images
        if ending_of(Path(text)) is None
    ]
    if ending_of(Path(str(label))) not in label_endings():
        faults.append(
            f"the label map {label!r} of an ending that is none; supported are {', '.join(label_endings())}"
        )
    return faults


def _locate(text: str, folder: Path) -> Path:
    return folder / os.path.expandvars(text)
