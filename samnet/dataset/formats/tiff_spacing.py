"""The size of the voxels of a TIFF file.

It comes from a JSON file `{"spacing": [z, y, x]}` in mm in the same folder, which has the name of
the case (nnU-Net's convention, for stacks), from the XML of OME-TIFF, from what ImageJ or tifffile
wrote, or from the resolution tags. Cameras and programs for 2D images write tags that are meant for
printing, such as 300 pixels an inch. So tags count for pixels below 0.01 mm only, as a microscope
has them and no printer.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from samnet.core.errors import UserError
from samnet.core.files import read_json
from samnet.core.units import millimetres_per
from samnet.dataset.formats.ome import physical_size

if TYPE_CHECKING:
    from tifffile import TiffFile

Spacing = tuple[float, float, float]

_CHANNEL_NUMBER = re.compile(r"_\d{4}$")
_RESOLUTION_UNITS = {2: 25.4, 3: 10.0}  # the tag's inch and centimetre, in mm
_INCH_MM = 25.4
_FINEST_PRINT_MM = 0.01

log = logging.getLogger(__name__)


def spacing_file(file: Path) -> Path:
    """Return the JSON file of a case: the name of the TIFF without its channel number.

    Args:
        file: A TIFF file.
    """
    return file.with_name(f"{_CHANNEL_NUMBER.sub('', file.stem)}.json")


def find_spacing(tiff: TiffFile, file: Path, is_stack: bool) -> Spacing | None:
    """Find the size of the voxels of a file.

    Args:
        tiff: The open file.
        file: Its path.
        is_stack: Whether it is a stack of slices, and not a 2D image.

    Returns:
        The spacing `(Z, Y, X)` in mm, or None where it is not known. For a 2D image Z is as X.

    Raises:
        UserError: The JSON file has another form.
    """
    if is_stack and spacing_file(file).is_file():
        return _spacing_from_json(spacing_file(file))
    sizes = {axis: size for axis, size in stated_sizes(tiff).items() if _is_length(size)}
    if "X" not in sizes or "Y" not in sizes:
        return None
    if is_stack and "Z" not in sizes:
        log.warning(
            "%s: states the size of its pixels but not the distance of its slices, so no length "
            'is known; write %s with {"spacing": [z, y, x]} in mm',
            file,
            spacing_file(file).name,
        )
        return None
    return (sizes["Z"] if is_stack else sizes["X"]), sizes["Y"], sizes["X"]


def _spacing_from_json(file: Path) -> Spacing:
    content = read_json(file)
    spacing = content.get("spacing") if isinstance(content, dict) else None
    if not _is_spacing(spacing):
        raise UserError(
            f'{file}: "spacing" is {spacing!r}; write three lengths in mm: {{"spacing": [z, y, x]}}'
        )
    z, y, x = map(float, spacing)
    return z, y, x


def _is_spacing(value: Any) -> TypeGuard[list[float]]:
    if not isinstance(value, list) or len(value) != 3:
        return False
    return all(_is_length(number) for number in value)


def _is_length(value: Any) -> bool:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and 0 < value < float("inf")


def stated_sizes(tiff: TiffFile) -> dict[str, float]:
    """Return the sizes of voxels that a file states, as far as they are meant as such.

    Args:
        tiff: The open file.

    Returns:
        Axis (`X`, `Y` or `Z`) -> size in mm.
    """
    if tiff.is_ome:
        return physical_size(tiff)
    shaped = tiff.shaped_metadata or ({},)
    metadata = tiff.imagej_metadata or shaped[0]
    if metadata.get("unit") is not None:
        return _sizes_with_unit(tiff, metadata)
    per_unit = _pixels_per_unit(tiff)
    unit_tag = tiff.pages.first.tags.get("ResolutionUnit")
    millimetres = _RESOLUTION_UNITS.get(int(unit_tag.value)) if unit_tag is not None else None
    if millimetres is None:
        return {}
    return _unless_for_print({axis: millimetres / value for axis, value in per_unit.items()})


def _sizes_with_unit(tiff: TiffFile, metadata: dict[str, Any]) -> dict[str, float]:
    """Return axis -> size in mm as ImageJ writes it; Y and Z may have units of their own."""
    sizes = {axis: 1 / value for axis, value in _pixels_per_unit(tiff).items()}
    sizes["Z"] = float(metadata.get("spacing", 1.0))  # ImageJ leaves out a distance of 1
    in_millimetres: dict[str, float] = {}
    for axis, size in sizes.items():
        unit = metadata.get(f"{axis.lower()}unit", metadata["unit"])
        millimetres = millimetres_per(str(unit))
        if millimetres is not None:
            in_millimetres[axis] = abs(size) * millimetres
    # ImageJ takes over the resolution of a photograph in inches.
    is_inch = millimetres_per(str(metadata["unit"])) == _INCH_MM
    if is_inch and "spacing" not in metadata:
        return _unless_for_print(in_millimetres)
    return in_millimetres


def _unless_for_print(sizes: dict[str, float]) -> dict[str, float]:
    in_plane = [size for axis, size in sizes.items() if axis in "XY"]
    return sizes if in_plane and max(in_plane) < _FINEST_PRINT_MM else {}


def _pixels_per_unit(tiff: TiffFile) -> dict[str, float]:
    """Return axis -> number of pixels to the unit of length, from the resolution tags."""
    tags = tiff.pages.first.tags
    found: dict[str, float] = {}
    for axis in "XY":
        if f"{axis}Resolution" in tags:
            numerator, denominator = tags[f"{axis}Resolution"].value
            if numerator and denominator:
                found[axis] = numerator / denominator
    return found
