"""Which files are DICOM, judged by their content, and what kind of object each one holds."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from samnet.core.errors import UserError

_PREAMBLE_BYTES, _MAGIC = 128, b"DICM"
_SLICE_ENDINGS = (".dcm", ".dicom", ".ima")
# Groups that a file without a preamble can begin with: file meta information, then identification.
_FIRST_GROUPS = (2, 8)
_LONGEST_FIRST_VALUE = 1024
_IDENTIFIERS = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
_LABEL_MODALITY = "SEG"


def is_dicom(file: Path) -> bool:
    """Say whether a file is a DICOM file, judged by its content and not by its name.

    Args:
        file: Any path.

    Returns:
        Whether it has DICOM's magic bytes or, as older files do, begins with DICOM's elements at
        once; False for the index of a medium (DICOMDIR).
    """
    if not file.is_file() or is_index(file):
        return False
    with file.open("rb") as handle:
        start = handle.read(_PREAMBLE_BYTES + len(_MAGIC))
    if start[_PREAMBLE_BYTES:] == _MAGIC:
        return True
    return _begins_with_an_element(start) and _names_its_object(file)


def contains_dicom(folder: Path) -> bool:
    """Say whether a folder directly contains a DICOM file.

    Args:
        folder: The folder.
    """
    return any(is_dicom(file) for file in sorted(folder.iterdir()))


def is_index(file: Path) -> bool:
    """Say whether a file is the index of a medium (DICOMDIR), which holds no image.

    Args:
        file: Any path.
    """
    return file.name.upper() == "DICOMDIR"


def _begins_with_an_element(start: bytes) -> bool:
    """Say whether bytes can be an element of the first groups, in any of DICOM's encodings."""
    if len(start) < 8:
        return False
    for byte_order in ("little", "big"):
        group = int.from_bytes(start[:2], byte_order)
        element = int.from_bytes(start[2:4], byte_order)
        if group not in _FIRST_GROUPS or element > 0xFF:
            continue
        if re.fullmatch(rb"[A-Z]{2}", start[4:6]):
            return True
        if int.from_bytes(start[4:8], byte_order) <= _LONGEST_FIRST_VALUE:
            return True
    return False


def _names_its_object(file: Path) -> bool:
    """Say whether a file without a preamble has the identifiers of a DICOM object."""
    import pydicom

    try:
        header = pydicom.dcmread(
            file, force=True, stop_before_pixels=True, specific_tags=list(_IDENTIFIERS)
        )
        texts = [str(header.get(keyword, "")) for keyword in _IDENTIFIERS]
    except (OSError, MemoryError):
        raise
    except Exception:  # whatever pydicom makes of a file that is none
        return False
    return any(re.fullmatch(r"[0-9]+(\.[0-9]+)+", text) for text in texts)


def read_header(file: Path) -> Any:
    """Read the header of a DICOM file, without its pixels.

    Args:
        file: A DICOM file.

    Returns:
        A dataset of pydicom.

    Raises:
        UserError: The file is damaged.
    """
    import pydicom

    try:
        header = pydicom.dcmread(file, force=True, stop_before_pixels=True)
    except (OSError, MemoryError):
        raise
    except Exception as error:  # whatever pydicom makes of a damaged file
        raise _damaged(file, str(error)) from error
    is_named = object_kind(header) != ""
    if not is_named and "Rows" not in header:
        raise _damaged(file, "its header ends before it names an object")
    if kind_is_image(header) and "Rows" not in header:
        raise _damaged(file, "its header has no number of rows")
    return header


def _damaged(file: Path, reason: str) -> UserError:
    return UserError(
        f"{file}: cannot be read as an image ({reason}); remove it if it is a report, "
        "copy it again if it is a slice"
    )


def object_kind(header: Any) -> str:
    """Return what kind of object a header describes, such as `CT Image Storage`.

    Args:
        header: A dataset of pydicom.

    Returns:
        The name of its class, its identifier where the class is unknown; empty where it has none.
    """
    meta = getattr(header, "file_meta", None) or {}
    identifier = header.get("SOPClassUID") or meta.get("MediaStorageSOPClassUID")
    return "" if identifier is None else str(getattr(identifier, "name", identifier))


def kind_is_image(header: Any) -> bool:
    """Tell whether the class of an object is one of images.

    Args:
        header: A dataset of pydicom.

    Returns:
        True for classes such as `CT Image Storage`, and for dose grids.
    """
    kind = object_kind(header)
    return "Image Storage" in kind or kind == "RT Dose Storage"


def holds_image(header: Any) -> bool:
    """Tell whether an object holds an image, and not labels, contours or a report.

    Args:
        header: A dataset of pydicom.

    Returns:
        False for segmentations and for objects without pixels.
    """
    return "Rows" in header and header.get("Modality") != _LABEL_MODALITY


def looks_like_slice(file: Path) -> bool:
    """Tell whether a file is named as DICOM files usually are.

    Args:
        file: Any path.

    Returns:
        Whether it ends in `.dcm`, `.dicom` or `.ima`.
    """
    return file.suffix.lower() in _SLICE_ENDINGS
