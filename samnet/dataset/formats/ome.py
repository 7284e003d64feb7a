"""What the XML of an OME-TIFF says about its pixels.

https://docs.openmicroscopy.org/ome-model/latest/ome-tiff/specification.html
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from samnet.core.errors import UserError
from samnet.core.units import millimetres_per

if TYPE_CHECKING:
    from tifffile import TiffFile

_DEFAULT_UNIT = "\u00b5m"
_SHOWN_FILES = 3


def check_planes(tiff: TiffFile, file: Path) -> None:
    """Check that a file holds all planes that its XML declares.

    Args:
        tiff: The open file.
        file: Its path.

    Raises:
        UserError: Planes, or the XML, are in other files.
    """
    if not tiff.is_ome:
        return
    root = ElementTree.fromstring(tiff.ome_metadata or "")
    others = []
    for element in _elements(root, "BinaryOnly"):
        others.append(element.get("MetadataFile", "another file"))
    for element in _elements(root, "UUID"):
        name = element.get("FileName", "another file")
        is_here = element.text == root.get("UUID") or name.lower() == file.name.lower()
        if not is_here and name not in others:
            others.append(name)
    if others:
        shown = ", ".join(others[:_SHOWN_FILES])
        more = f" and {len(others) - _SHOWN_FILES} more" if len(others) > _SHOWN_FILES else ""
        raise UserError(
            f"{file}: is one file of an OME-TIFF whose planes are in several files "
            f"({shown}{more}); save them as one file"
        )


def physical_size(tiff: TiffFile) -> dict[str, float]:
    """Read the size of voxels.

    Args:
        tiff: The open file.

    Returns:
        Axis (`X`, `Y` or `Z`) -> size in mm, for the axes whose size the XML states.
    """
    root = ElementTree.fromstring(tiff.ome_metadata or "")
    pixels = next(_elements(root, "Pixels"), None)
    sizes: dict[str, float] = {}
    for axis in "XYZ":
        if pixels is None or f"PhysicalSize{axis}" not in pixels.attrib:
            continue
        unit = millimetres_per(pixels.get(f"PhysicalSize{axis}Unit", _DEFAULT_UNIT))
        if unit is not None:
            sizes[axis] = float(pixels.attrib[f"PhysicalSize{axis}"]) * unit
    return sizes


def _elements(root: ElementTree.Element, name: str) -> Iterator[ElementTree.Element]:
    """Yield the elements of a name, whatever the version of the schema in their namespace."""
    for element in root.iter():
        if element.tag.rpartition("}")[2] == name:
            yield element
