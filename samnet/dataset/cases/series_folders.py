"""Folders of DICOM series below a folder to predict."""

from __future__ import annotations

from pathlib import Path

from samnet.core.errors import UserError
from samnet.dataset.cases.case import Case
from samnet.dataset.cases.folder_walk import Contents, LeftOut, walk
from samnet.dataset.cases.left_out import explain_file
from samnet.dataset.formats.dicom_files import (
    holds_image,
    is_dicom,
    is_index,
    object_kind,
    read_header,
)


def find_series(source: Path, file_ending: str) -> tuple[list[Case], list[LeftOut]]:
    """Find the folders that directly contain DICOM images.

    Args:
        source: The folder to search, with everything below it. Links are followed.
        file_ending: Ending of the images that the model expects, with the leading dot.

    Returns:
        One case for each such folder, in the order of the paths, and what else lies there. The name
        of a case consists of the folders on the path to it.
    """
    cases: list[Case] = []
    left_out: list[LeftOut] = []
    for contents in walk(source):
        dicom_files, others = _sort_out(contents, file_ending)
        left_out += [*others, *contents.left_out]
        if not dicom_files:
            continue
        kinds = _kinds_without_image(dicom_files)
        if kinds:
            reason = f"holds no DICOM image, but {', '.join(kinds)}"
            left_out.append(LeftOut(contents.folder, reason))
            continue
        steps = contents.folder.relative_to(source).parts or (source.resolve().name,)
        cases.append(Case("_".join(steps), (contents.folder,)))
    return cases, left_out


def _sort_out(contents: Contents, file_ending: str) -> tuple[list[Path], list[LeftOut]]:
    """Return the DICOM files of a folder, and its other files with the reasons."""
    dicom_files, others = [], []
    for file in contents.files:
        if is_index(file):
            continue
        try:
            if is_dicom(file):
                dicom_files.append(file)
            else:
                others.append(LeftOut(file, explain_file(file, file_ending)))
        except OSError as error:
            others.append(LeftOut(file, f"cannot be read ({error.strerror})"))
    return dicom_files, others


def _kinds_without_image(files: list[Path]) -> list[str]:
    """Return the kinds of DICOM objects; an empty list as soon as one is, or may be, an image."""
    kinds = []
    for file in files:
        try:
            header = read_header(file)
        except UserError:
            return []  # damaged: reading the case reports it
        if holds_image(header):
            return []
        kinds.append(object_kind(header))
    return list(dict.fromkeys(kinds))
