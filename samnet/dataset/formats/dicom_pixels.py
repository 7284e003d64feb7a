"""The pixels of DICOM files as intensities, each frame with its own slope and intercept.

The pixels are decoded by GDCM, through SimpleITK. GDCM knows one slope for all frames of a file,
and SimpleITK inverts images whose lowest value is shown in white. So such files are decoded from a
copy that has nothing but the stored values, and their intensities are computed here. GDCM knows
neither values that are stored as floats nor tables of intensities; these are read here as well.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from samnet.core.errors import UserError
from samnet.dataset.formats import itk
from samnet.dataset.formats.dicom_frames import Frame, count_frames, has_many_frames

if TYPE_CHECKING:
    import SimpleITK

log = logging.getLogger(__name__)

# What is needed to decode the stored values (DICOM PS3.3 C.7.6.3).
_PIXEL_KEYWORDS = (
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PlanarConfiguration",
    "NumberOfFrames",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "RedPaletteColorLookupTableDescriptor",
    "GreenPaletteColorLookupTableDescriptor",
    "BluePaletteColorLookupTableDescriptor",
    "RedPaletteColorLookupTableData",
    "GreenPaletteColorLookupTableData",
    "BluePaletteColorLookupTableData",
    "PixelData",
)
_FLOAT_PIXELS = {"FloatPixelData": "<f4", "DoubleFloatPixelData": "<f8"}
# Modalities whose values are measurements. MONOCHROME1 then says only how they are displayed.
_MEASURING_MODALITIES = ("CT", "MR", "PT", "NM", "RTDOSE")


def read_file(file: Path) -> SimpleITK.Image:
    """Read a DICOM file by GDCM.

    Args:
        file: The file.

    Returns:
        The image of SimpleITK.

    Raises:
        UserError: The file holds no image, or is damaged.
    """
    import SimpleITK

    try:
        return SimpleITK.ReadImage(str(file), imageIO="GDCMImageIO")
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1]
        raise UserError(
            f"{file}: cannot be read as an image ({reason}); remove it if it is a report, "
            f"copy it again if it is a slice{_advice_on_compression(file)}"
        ) from error


def _advice_on_compression(file: Path) -> str:
    """Name the compression of a file that could not be decoded, if it has one."""
    import pydicom

    syntax = pydicom.dcmread(file, force=True, stop_before_pixels=True).file_meta.get(
        "TransferSyntaxUID"
    )
    if syntax is None or not syntax.is_transfer_syntax or not syntax.is_compressed:
        return ""
    return f"; if its compression ({syntax.name}) is not supported, decompress it first"


def read_intensities(file: Path, header: Any, frames: Sequence[Frame]) -> np.ndarray:
    """Read the intensities of all frames of a file.

    An image for viewing, such as a radiograph, whose lowest value is shown in white (MONOCHROME1)
    is inverted, so that bright is bright. Values that are measurements are not.

    Args:
        file: The file.
        header: Its header, a dataset of pydicom.
        frames: All its frames, in the order in which they are stored; empty for a 2D image without
            a position.

    Returns:
        Values `(C, N, Y, X)` of N frames.

    Raises:
        UserError: The file is damaged.
    """
    is_inverted = header.get("PhotometricInterpretation") == "MONOCHROME1"
    is_dose = "DoseGridScaling" in header
    is_plain = not (is_dose or _holds_floats(header) or _has_table(header))
    if is_plain and not (has_many_frames(header) or is_inverted):
        return itk.channels_first(read_file(file))
    stored = _read_stored_values(file, header)
    if _has_table(header):
        stored = _looked_up(stored, header)
    is_measured = _holds_floats(header) or header.get("Modality") in _MEASURING_MODALITIES
    if is_inverted and not is_measured:
        log.info("%s: is stored with white as the lowest value, and read inverted", file)
        stored = _inverted(stored, header)
    if frames and stored.shape[1] != len(frames):
        raise UserError(
            f"{file}: has the pixels of {stored.shape[1]} frames, and describes {len(frames)}; "
            "copy or export it again"
        )
    return _rescaled(stored, frames)


def _read_stored_values(file: Path, header: Any) -> np.ndarray:
    """Return the stored values `(C, N, Y, X)` of a file."""
    import pydicom

    source = pydicom.dcmread(file, force=True)
    if _holds_floats(header):
        return _read_floats(file, source)
    if "PixelData" not in source:
        raise UserError(
            f"{file}: has no pixels that can be read; copy it again if it may be cut off, or "
            "export it as whole numbers"
        )
    _check_complete(file, source)
    return _decode(file, source)


def _decode(file: Path, source: Any) -> np.ndarray:
    """Decode a copy of a file that has no more than its pixels. Returns `(C, N, Y, X)`."""
    import pydicom
    from pydicom.uid import SecondaryCaptureImageStorage, generate_uid

    copy = pydicom.Dataset()
    for keyword in _PIXEL_KEYWORDS:
        if keyword in source:
            copy[keyword] = source[keyword]
    if copy.PhotometricInterpretation == "MONOCHROME1":
        copy.PhotometricInterpretation = "MONOCHROME2"
    copy.SOPClassUID, copy.SOPInstanceUID = SecondaryCaptureImageStorage, generate_uid()
    copy.file_meta = pydicom.dataset.FileMetaDataset()
    copy.file_meta.TransferSyntaxUID = _transfer_syntax(source)
    with tempfile.TemporaryDirectory(prefix="samnet-") as folder:
        stored_values = Path(folder) / file.name
        copy.save_as(stored_values, enforce_file_format=True)
        try:
            return itk.channels_first(read_file(stored_values))
        except UserError as error:
            raise UserError(str(error).replace(str(stored_values), str(file))) from error


def _holds_floats(header: Any) -> bool:
    """Tell whether pixels are stored as floats, as in parametric maps (DICOM PS3.3 C.7.6.24)."""
    return "PixelRepresentation" not in header and int(header.get("BitsAllocated") or 0) >= 32


def _read_floats(file: Path, source: Any) -> np.ndarray:
    """Return pixels that are stored as floats, `(1, N, Y, X)`."""
    keyword = next((name for name in _FLOAT_PIXELS if name in source), None)
    if keyword is None:
        raise UserError(f"{file}: has no pixels; copy it again if it may be cut off")
    values = np.frombuffer(source[keyword].value, _FLOAT_PIXELS[keyword])
    shape = (1, count_frames(source), int(source.Rows), int(source.Columns))
    if len(values) < np.prod(shape):
        raise UserError(
            f"{file}: is cut off: it has {len(values)} of {np.prod(shape)} pixels; copy it again"
        )
    return values[: np.prod(shape)].reshape(shape)


def _has_table(header: Any) -> bool:
    """Tell whether a table gives the intensity of each stored value (DICOM PS3.3 C.11.1)."""
    return bool(header.get("ModalityLUTSequence"))


def _looked_up(stored: np.ndarray, header: Any) -> np.ndarray:
    from pydicom.pixels import apply_modality_lut

    return np.asarray(apply_modality_lut(stored, header))


def _check_complete(file: Path, source: Any) -> None:
    """Refuse pixels that end too early: GDCM would fill the rest of a copy with zeros."""
    from pydicom.encaps import generate_frames
    from pydicom.pixels.utils import get_expected_length

    if _transfer_syntax(source).is_encapsulated:
        unit, expected = "compressed frames", count_frames(source)
        frames = generate_frames(source.PixelData, number_of_frames=expected)
        found = sum(1 for _ in frames)
    else:
        unit, expected = "bytes", get_expected_length(source, unit="bytes")
        found = len(source.PixelData)
    if found < expected:
        raise UserError(
            f"{file}: is cut off: it has {found} of {expected} {unit} of pixels; copy it again"
        )


def _transfer_syntax(source: Any) -> Any:
    """Return how a file is encoded; one without meta information tells it by its first bytes."""
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    stated = source.file_meta.get("TransferSyntaxUID")
    if stated:
        return stated
    is_implicit, is_little_endian = source.original_encoding
    if is_implicit:
        return ImplicitVRLittleEndian
    return ExplicitVRLittleEndian if is_little_endian else ExplicitVRBigEndian


def _inverted(stored: np.ndarray, header: Any) -> np.ndarray:
    """Swap the darkest and the brightest value that the stored bits, or a table, can hold."""
    if _has_table(header):
        num_bits = int(header.ModalityLUTSequence[0].LUTDescriptor[2])
        return (2**num_bits - 1 - stored.astype(np.int64)).astype(stored.dtype)
    is_signed = int(header.get("PixelRepresentation") or 0) == 1
    darkest_plus_brightest = -1 if is_signed else 2 ** int(header.BitsStored) - 1
    return (darkest_plus_brightest - stored.astype(np.int64)).astype(stored.dtype)


def _rescaled(stored: np.ndarray, frames: Sequence[Frame]) -> np.ndarray:
    """Apply each frame's slope and intercept to `(C, N, Y, X)`.

    Whole numbers stay whole numbers where all slopes and intercepts are.
    """
    slopes = np.array([frame.slope for frame in frames])
    intercepts = np.array([frame.intercept for frame in frames])
    if (slopes == 1).all() and (intercepts == 0).all():
        return stored
    lowest, highest = float(stored.min()), float(stored.max())
    reached = np.concatenate([slopes * lowest + intercepts, slopes * highest + intercepts])
    is_whole = (slopes % 1 == 0).all() and (intercepts % 1 == 0).all()
    fits = np.abs(reached).max() < 2**31
    is_integer = stored.dtype.kind in "iu" and is_whole and fits
    values = np.empty(stored.shape, np.int32 if is_integer else np.float32)
    for number in range(len(frames)):
        # Doubles hold every stored value exactly.
        plane = stored[:, number].astype(np.float64)
        values[:, number] = plane * slopes[number] + intercepts[number]
    return values
