"""TIFF: a 2D picture, grey or colour, or a stack of grey slices.

A stack's spacing is that of a JSON file `{"spacing": [z, y, x]}` in mm beside it, named as the case, which is nnU-Net's
convention; or what ImageJ wrote into the file, if in a unit of length; else 1 mm. A label map carries its spacing in
ImageJ's form.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from samnet.core.errors import UserError
from samnet.core.files import read_json
from samnet.core.geometry import Grid, spacing_affine
from samnet.dataset.formats.image import Image
from samnet.dataset.formats.raster import without_alpha

if TYPE_CHECKING:
    from tifffile import TiffFile

# ImageJ writes "micron", "um", or a micro sign, which it escapes.
_MILLIMETRES = {"mm": 1.0, "cm": 10.0, "m": 1000.0, "nm": 1e-6} | dict.fromkeys(
    ("um", "micron", "microns", "\u00b5m", "\u03bcm", "\\u00B5m", "micrometer"), 1e-3
)
_CHANNEL_AXES, _STACK_AXES = (
    "SC",
    "ZQI",
)  # Q and I: pages of which the file does not say what they are
_CHANNEL_NUMBER = re.compile(r"_\d{4}$")


@dataclass(frozen=True)
class _Stack:
    """spacing: `(Z, Y, X)` in mm, or None where nothing tells it."""

    spacing: tuple[float, float, float] | None


def read(file: Path) -> Image:
    import tifffile

    with tifffile.TiffFile(file) as tiff:
        if len(tiff.series) != 1:
            raise UserError(
                f"{file}: holds {len(tiff.series)} images of different form; save the one that is meant"
            )
        axes, pixels = tiff.series[0].axes, tiff.series[0].asarray()
        stacked = [axis for axis in axes if axis in _STACK_AXES]
        channels = [axis for axis in axes if axis in _CHANNEL_AXES]
        if (
            len(stacked) > 1
            or len(channels) > 1
            or set(axes) - set(_CHANNEL_AXES + _STACK_AXES + "YX")
        ):
            raise UserError(
                f"{file}: has shape {pixels.shape} along {axes}; expected a picture (YX, with channels C or S) or a "
                "stack of slices (ZYX)"
            )
        spacing = (_spacing_beside(file) or _spacing_of_imagej(tiff)) if stacked else None
    for axis in (*_STACK_AXES, *_CHANNEL_AXES):
        if axis in axes:
            pixels, axes = np.moveaxis(pixels, axes.index(axis), 0), axis + axes.replace(axis, "")
    if not stacked:
        pixels = pixels[:, None] if channels else pixels[None, None]
    elif not channels:
        pixels = pixels[None]
    array = without_alpha(pixels) if "S" in channels else pixels
    return Image(
        array,
        Grid(array.shape[1:], spacing_affine(spacing or (1.0, 1.0, 1.0))),
        _header(stacked, spacing),
    )


def _header(stacked: list[str], spacing: tuple[float, float, float] | None) -> _Stack | None:
    return _Stack(spacing) if stacked else None


def _spacing_file(file: Path) -> Path:
    return file.with_name(f"{_CHANNEL_NUMBER.sub('', file.stem)}.json")


def _spacing_beside(file: Path) -> tuple[float, float, float] | None:
    beside = _spacing_file(file)
    if not beside.is_file():
        return None
    content = read_json(beside)
    spacing = content.get("spacing") if isinstance(content, dict) else None
    if (
        not isinstance(spacing, list)
        or len(spacing) != 3
        or not all(_is_length(value) for value in spacing)
    ):
        raise UserError(
            f'{beside}: "spacing" is {spacing!r}; write three lengths in mm: {{"spacing": [z, y, x]}}'
        )
    z, y, x = map(float, spacing)
    return z, y, x


def _is_length(value: Any) -> bool:
    return (
        isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < float("inf")
    )


def _spacing_of_imagej(tiff: TiffFile) -> tuple[float, float, float] | None:
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
        metadata = {"axes": "ZYX", "spacing": z, "unit": "mm"}
        tifffile.imwrite(
            file,
            labels,
            imagej=True,
            resolution=(1 / x, 1 / y),
            metadata=metadata,
            compression="zlib",
        )


def serves(image: Image) -> bool:
    return image.header is None or isinstance(image.header, _Stack)


def companions(file: Path) -> list[Path]:
    beside = _spacing_file(file)
    return [beside] if beside.is_file() else []
