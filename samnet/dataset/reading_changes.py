"""What older versions of samnet read otherwise: their prepared data are then outdated.

The contents of a file tell whether it has changed, but not whether it is read in another way than
at the time when it was prepared. Files that were always read as today have no changes, so that
what was made from them stays valid.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from samnet.core.errors import UserError
from samnet.core.read_failures import raise_failure_of_machine
from samnet.core.units import millimetres_per
from samnet.dataset.formats import itk, nifti, raster
from samnet.dataset.formats.itk_headers import units_of_axes
from samnet.dataset.formats.pixels import ORIENTATION_TAG
from samnet.dataset.formats.tiff_colours import is_plain
from samnet.dataset.formats.tiff_spacing import spacing_file, stated_sizes
from samnet.dataset.images import ending_of

if TYPE_CHECKING:
    from tifffile import TiffFile

# To be raised whenever the functions of this file are changed: what is remembered of files is then
# looked at again.
READING_VERSION = 1
_UPRIGHT = 1
_CONVERTED_MODES = ("CMYK", "YCbCr")
_SHORT = 16  # bits of a sample
_GREY_MODES = ("L", "LA", "I", "I;16")


def describe_reading_changes(file: Path) -> str:
    """Say what of a file is read otherwise than by older versions of samnet.

    Args:
        file: A raw file.

    Returns:
        Such as `orientation 6`; empty where nothing is, and for files that cannot be read, which
        the step that reads them reports.

    Raises:
        SamnetError: The machine could not read the file.
    """
    describe = _DESCRIBE.get(ending_of(file) or "")
    if describe is None:
        return ""
    try:
        return ", ".join(describe(file))
    except UserError:
        return ""
    except Exception as error:
        raise_failure_of_machine(file, error)
        return ""


def _of_nifti(file: Path) -> list[str]:
    """Units other than mm, which were taken for mm."""
    unit = nifti.millimetres_of_unit(file)
    return [] if unit == 1 else [f"unit of {unit:g} mm"]


def _of_itk(file: Path) -> list[str]:
    """Units other than mm, which were taken for mm."""
    units = units_of_axes(file, dimension=3)
    is_in_millimetres = all(millimetres_per(unit) == 1 for unit in units)
    return [] if is_in_millimetres else [f"units {' '.join(units)}"]


def _of_raster(file: Path) -> list[str]:
    """Rotated photographs, inks in place of colours, and 16-bit colours, read in 8 bits."""
    with raster.open_image(file) as image:
        orientation = image.getexif().get(ORIENTATION_TAG, _UPRIGHT)
        mode, is_png = image.mode, image.format == "PNG"
    changes = _rotation(orientation)
    if mode in _CONVERTED_MODES:
        changes.append(f"colours {mode}")
    if is_png and mode not in _GREY_MODES and raster.bits_of(file) == _SHORT:
        changes.append(f"{_SHORT} bits")
    return changes


def _of_tiff(file: Path) -> list[str]:
    """Rotated images, colour spaces other than grey and RGB, and spacings in the file."""
    import tifffile

    with tifffile.TiffFile(file) as tiff:
        page = tiff.series[0].keyframe
        tag = page.tags.get(ORIENTATION_TAG)
        changes = _rotation(int(tag.value) if tag is not None else _UPRIGHT)
        if not is_plain(page):
            changes.append(f"photometric interpretation {int(page.photometric)}")
        if _has_new_spacing(tiff, file):
            changes.append("spacing")
    return changes


def _rotation(orientation: int) -> list[str]:
    return [] if orientation == _UPRIGHT else [f"orientation {orientation}"]


def _has_new_spacing(tiff: TiffFile, file: Path) -> bool:
    """Tell whether a file states its spacing in a form that older versions did not know.

    They knew the JSON file, and stacks of ImageJ.
    """
    is_imagej_stack = tiff.is_imagej and len(tiff.series[0].shape) > 2
    if is_imagej_stack or spacing_file(file).is_file():
        return False
    return {"X", "Y"} <= set(stated_sizes(tiff))


_DESCRIBE: Mapping[str, Callable[[Path], list[str]]] = (
    dict.fromkeys((".nii.gz", ".nii"), _of_nifti)
    | dict.fromkeys(itk.HEADER_ENDINGS, _of_itk)
    | dict.fromkeys((".png", ".bmp", ".jpg", ".jpeg"), _of_raster)
    | dict.fromkeys((".tif", ".tiff"), _of_tiff)
)
