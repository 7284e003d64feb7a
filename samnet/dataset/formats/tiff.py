"""TIFF: a 2D image, grey or colour, or a stack of grey slices.

The spacing of a stack comes from a JSON file `{"spacing": [z, y, x]}` in mm in the same folder,
which has the name of the case (nnU-Net's convention). Without that file, the spacing that ImageJ
wrote into the TIFF is used, if it has a unit of length. Otherwise the spacing is 1 mm. A label map
stores its spacing in ImageJ's form.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np

from samnet.core.errors import UserError
from samnet.core.files import read_json
from samnet.core.geometry import Grid, spacing_affine
from samnet.dataset.formats.image import Image
from samnet.dataset.formats.raster import without_alpha

if TYPE_CHECKING:
    from tifffile import TiffFile

# ImageJ writes "micron", "um", or a micro sign, which it escapes.
_MICROMETRES = ("um", "micron", "microns", "\u00b5m", "\u03bcm", "\\u00B5m", "micrometer")
_MILLIMETRES = {"mm": 1.0, "cm": 10.0, "m": 1000.0, "nm": 1e-6} | dict.fromkeys(_MICROMETRES, 1e-3)
_CHANNEL_AXES = "SC"
_STACK_AXES = "ZQI"  # Q and I: pages whose meaning the file does not state
_CHANNEL_NUMBER = re.compile(r"_\d{4}$")


@dataclass(frozen=True)
class _Stack:
    """The header of a stack: spacing along `(Z, Y, X)` in mm, or None where no file states it."""

    spacing: tuple[float, float, float] | None


def read(file: Path) -> Image:
    """Read a 2D image or a stack of slices.

    Args:
        file: A TIFF file.

    Returns:
        The image with the array `(C, Z, Y, X)`; Z is 1 for a 2D image.

    Raises:
        UserError: The file holds several images or axes that are no volume, or the JSON file with
            the spacing has another form.
    """
    import tifffile

    with tifffile.TiffFile(file) as tiff:
        if len(tiff.series) != 1:
            raise UserError(
                f"{file}: holds {len(tiff.series)} images of different form; "
                "save the one that is meant"
            )
        axes, pixels = tiff.series[0].axes, tiff.series[0].asarray()
        _check_axes(file, axes, pixels.shape)
        is_stack = bool(_axes_of_kind(axes, _STACK_AXES))
        spacing = None
        if is_stack:
            spacing = _spacing_from_json(file) or _spacing_from_imagej(tiff)
    array = _channels_first(pixels, axes)
    grid = Grid(array.shape[1:], spacing_affine(spacing or (1.0, 1.0, 1.0)))
    return Image(array, grid, _Stack(spacing) if is_stack else None)


def _axes_of_kind(axes: str, kind: str) -> list[str]:
    return [axis for axis in axes if axis in kind]


def _check_axes(file: Path, axes: str, shape: tuple[int, ...]) -> None:
    """Refuse axes that are neither a 2D image nor one stack, such as a series in time."""
    has_several_stacks = len(_axes_of_kind(axes, _STACK_AXES)) > 1
    has_several_channels = len(_axes_of_kind(axes, _CHANNEL_AXES)) > 1
    other_axes = set(axes) - set(_CHANNEL_AXES + _STACK_AXES + "YX")
    if has_several_stacks or has_several_channels or other_axes:
        raise UserError(
            f"{file}: has shape {shape} along {axes}; expected a 2D image "
            "(YX, with channels C or S) or a stack of slices (ZYX)"
        )


def _channels_first(pixels: np.ndarray, axes: str) -> np.ndarray:
    """Return pixels as `(C, Z, Y, X)`, colours without their opacity."""
    is_stack = bool(_axes_of_kind(axes, _STACK_AXES))
    has_channels = bool(_axes_of_kind(axes, _CHANNEL_AXES))
    for axis in _STACK_AXES + _CHANNEL_AXES:
        if axis in axes:
            pixels = np.moveaxis(pixels, axes.index(axis), 0)
            axes = axis + axes.replace(axis, "")
    if not is_stack:
        pixels = pixels[:, None] if has_channels else pixels[None, None]
    elif not has_channels:
        pixels = pixels[None]
    return without_alpha(pixels) if "S" in axes else pixels


def _spacing_file(file: Path) -> Path:
    """Return the JSON file of a case: the name of the TIFF without its channel number."""
    return file.with_name(f"{_CHANNEL_NUMBER.sub('', file.stem)}.json")


def _spacing_from_json(file: Path) -> tuple[float, float, float] | None:
    """Return the spacing `(Z, Y, X)` in mm from a stack's JSON file, or None without that file."""
    spacing_file = _spacing_file(file)
    if not spacing_file.is_file():
        return None
    content = read_json(spacing_file)
    spacing = content.get("spacing") if isinstance(content, dict) else None
    if not _is_spacing(spacing):
        raise UserError(
            f'{spacing_file}: "spacing" is {spacing!r}; '
            'write three lengths in mm: {"spacing": [z, y, x]}'
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


def _spacing_from_imagej(tiff: TiffFile) -> tuple[float, float, float] | None:
    """Return the spacing `(Z, Y, X)` in mm that ImageJ wrote, or None without a unit of length."""
    metadata = tiff.imagej_metadata or {}
    millimetres = _MILLIMETRES.get(str(metadata.get("unit")))
    tags = tiff.pages.first.tags
    if millimetres is None or "XResolution" not in tags or "YResolution" not in tags:
        return None
    pixels_per_unit = [tags[name].value for name in ("YResolution", "XResolution")]
    if not all(numerator and denominator for numerator, denominator in pixels_per_unit):
        return None
    y, x = (millimetres * denominator / numerator for numerator, denominator in pixels_per_unit)
    return millimetres * float(metadata.get("spacing", 1.0)), y, x


def write(labels: np.ndarray, reference: Image, file: Path) -> None:
    """Write a label map; that of a stack has the axes ZYX and, where it is known, the spacing.

    Args:
        labels: Labels `(Z, Y, X)`.
        reference: The image that the labels belong to.
        file: The file to write.
    """
    import tifffile

    stack: _Stack | None = reference.header
    if stack is None:
        tifffile.imwrite(file, labels[0], photometric="minisblack", compression="zlib")
    elif stack.spacing is None:
        tifffile.imwrite(
            file, labels, photometric="minisblack", compression="zlib", metadata={"axes": "ZYX"}
        )
    else:
        z, y, x = stack.spacing
        tifffile.imwrite(
            file,
            labels,
            imagej=True,
            resolution=(1 / x, 1 / y),
            metadata={"axes": "ZYX", "spacing": z, "unit": "mm"},
            compression="zlib",
        )


def serves(image: Image) -> bool:
    """Say whether label maps of an image can be written as TIFF.

    Args:
        image: The image that the labels belong to.

    Returns:
        Whether it is a 2D image without a spacing, or a stack read by this module.
    """
    return image.header is None or isinstance(image.header, _Stack)


def companions(file: Path) -> list[Path]:
    """Return the JSON file with the spacing of a TIFF.

    Args:
        file: A TIFF file.

    Returns:
        One path, or an empty list where there is no such file.
    """
    spacing_file = _spacing_file(file)
    return [spacing_file] if spacing_file.is_file() else []
