"""What lies in a folder to predict and is not predicted, and why."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from samnet.core.errors import UserError
from samnet.dataset.cases.folder_walk import LeftOut, list_contents, walk
from samnet.dataset.formats.dicom_files import is_dicom
from samnet.dataset.images import companions_of, ending_of, variants_of

log = logging.getLogger(__name__)

_MOST_NAMES = 20  # in one warning; --verbose lists all


def find_left_out(folder: Path, used: Sequence[Path], file_ending: str) -> list[LeftOut]:
    """Find what lies next to the images that are read from a folder.

    Args:
        folder: The folder.
        used: The image files that are read.
        file_ending: Ending of the images with the leading dot.

    Returns:
        All other entries that are not hidden. A folder counts if it, or one below it, contains an
        image or a DICOM file.
    """
    contents = list_contents(folder)
    known = {file for image in used for file in (image, *_companions(image))}
    found = [LeftOut(file, explain_file(file, file_ending)) for file in contents.files]
    for below in contents.folders:
        example = _find_image(below)
        if example is not None:
            found.append(
                LeftOut(
                    below,
                    f"folder next to images ending in {file_ending}, which are read from their own "
                    "folder only; give it with -i",
                )
            )
    return [entry for entry in [*found, *contents.left_out] if entry.path not in known]


def explain_file(file: Path, file_ending: str) -> str:
    """Say why a file is not predicted.

    Args:
        file: The file.
        file_ending: Ending of the images that the model expects, with the leading dot.

    Returns:
        The reason, and what helps.
    """
    ending = ending_of(file)
    if ending in variants_of(file_ending):
        return "no image next to DICOM series is read; give it with -i"
    if ending is not None:
        return (
            f"ends in {ending}, the model's images in {file_ending}; convert it, or give it with -i"
        )
    if _is_dicom(file):
        return f"DICOM next to images ending in {file_ending}; put its series into a folder"
    return "not an image in a supported format"


def _companions(image: Path) -> list[Path]:
    try:
        return companions_of(image)
    except (UserError, OSError):
        return []  # reading the case reports it


def _is_dicom(file: Path) -> bool:
    try:
        return is_dicom(file)
    except OSError:
        return False


def _find_image(folder: Path) -> Path | None:
    for contents in walk(folder):
        for file in contents.files:
            if ending_of(file) is not None or _is_dicom(file):
                return file
    return None


def warn_of_left_out(source: Path, left_out: Sequence[LeftOut]) -> None:
    """Name in warnings what is not predicted, one for each reason.

    Args:
        source: The folder to predict.
        left_out: What is not predicted.
    """
    for reason, names in _names_by_reason(source, left_out).items():
        log.warning("%s: not predicted: %s: %s", source, _join(names), reason)
        if len(names) > _MOST_NAMES:
            log.debug("%s: not predicted: %s: %s", source, ", ".join(names), reason)


def describe_left_out(source: Path, left_out: Sequence[LeftOut]) -> str:
    """Describe what is not predicted in one text.

    Args:
        source: The folder to predict.
        left_out: What is not predicted.

    Returns:
        The names by reason; empty where nothing is left out.
    """
    by_reason = _names_by_reason(source, left_out)
    return "; ".join(f"{_join(names)}: {reason}" for reason, names in by_reason.items())


def _names_by_reason(source: Path, left_out: Sequence[LeftOut]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for entry in left_out:
        path = entry.path
        name = str(path.relative_to(source)) if path != source else path.name
        found.setdefault(entry.reason, []).append(name)
    return found


def _join(names: Sequence[str]) -> str:
    text = ", ".join(names[:_MOST_NAMES])
    num_more = len(names) - _MOST_NAMES
    return f"{text} and {num_more} more" if num_more > 0 else text
