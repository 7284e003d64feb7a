"""Files that clients send: stored under names of the server, and bounded in size."""

from __future__ import annotations

import contextlib
import math
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from samnet.core.errors import UserError
from samnet.dataset.formats.dicom_files import is_dicom, read_header
from samnet.serving.errors import TooLarge, Unusable
from samnet.serving.names import upload_ending
from samnet.serving.settings import GIB

_NIFTI_ENDINGS = (".nii", ".nii.gz")
_WIDEST = 8  # bytes of a voxel while it is read


@contextlib.contextmanager
def temporary_folder(parent: Path) -> Iterator[Path]:
    """Create a folder for the files of one request, and remove it with them at the end.

    Args:
        parent: Where to create it.

    Yields:
        The folder.
    """
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=parent, ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def store(content: BinaryIO, file: Path, image_bytes: int) -> Path:
    """Store an uploaded image or label map.

    Args:
        content: What the client has sent.
        file: Where to store it. The name is one of the server, with an ending that samnet reads.
        image_bytes: How large it may be after decompression.

    Returns:
        The file.

    Raises:
        TooLarge: It would be larger.
        Unusable: Its header cannot be read.
    """
    with file.open("wb") as target:
        shutil.copyfileobj(content, target)
    _check_size(expanded_size(file), image_bytes)
    return file


def store_any(content: BinaryIO, base: Path, file_name: str | None, image_bytes: int) -> Path:
    """Store an uploaded image, or a slice of a DICOM series.

    Args:
        content: What the client has sent.
        base: Where to store it, without an ending.
        file_name: What the client calls the file; only its ending counts.
        image_bytes: How large it may be after decompression.

    Returns:
        The file.

    Raises:
        TooLarge: It would be larger.
        BadRequest: It is not DICOM, and its ending is not one that samnet reads.
        Unusable: Its header cannot be read.
    """
    with base.open("wb") as target:
        shutil.copyfileobj(content, target)
    is_slice = is_dicom(base)
    ending = ".dcm" if is_slice else upload_ending(file_name, ".nii.gz")
    file = base.rename(base.with_name(f"{base.name}{ending}"))
    _check_size(_dicom_size(file) if is_slice else expanded_size(file), image_bytes)
    return file


def _check_size(num_bytes: int, largest: int) -> None:
    if num_bytes > largest:
        raise TooLarge(
            f"the image takes {num_bytes / GIB:.1f} GiB after decompression; this server takes "
            f"{largest / GIB:.1f} GiB"
        )


def _dicom_size(file: Path) -> int:
    header = read_header(file)
    sides = [getattr(header, name, 1) or 1 for name in ("Rows", "Columns", "NumberOfFrames")]
    return math.prod(int(length) for length in sides) * _WIDEST


def expanded_size(file: Path) -> int:
    """Return how large an image is in memory, by its header alone.

    Args:
        file: An image file of any supported format but DICOM.

    Returns:
        The size of its voxels in bytes.

    Raises:
        Unusable: The header cannot be read.
    """
    try:
        if file.name.endswith(_NIFTI_ENDINGS):
            import nibabel

            header: Any = nibabel.load(file).header
            shape = [int(length) for length in header.get_data_shape()]
            return math.prod(shape) * max(header.get_data_dtype().itemsize, _WIDEST)
        import SimpleITK

        reader = SimpleITK.ImageFileReader()
        reader.SetFileName(str(file))
        reader.ReadImageInformation()
        return math.prod(reader.GetSize()) * reader.GetNumberOfComponents() * _WIDEST
    except Exception as error:
        raise Unusable(
            f"the uploaded file is no image that can be read as {''.join(file.suffixes)}, or is "
            "damaged"
        ) from error


@contextlib.contextmanager
def named_in_errors(path: Path, name: str) -> Iterator[None]:
    """Let errors within the block name an uploaded file as the client knows it.

    Args:
        path: Where the file lies on the server, or the folder that it lies in.
        name: What to call it.

    Yields:
        Nothing.

    Raises:
        Unusable: In place of the error of a file that cannot be used.
    """
    try:
        yield
    except UserError as error:
        raise Unusable(str(error).replace(str(path), name)) from error
