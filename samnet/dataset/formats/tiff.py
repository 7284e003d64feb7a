"""TIFF: a 2D image, grey or colour, or a stack of slices.

A label map stores its spacing, where it is known, in ImageJ's form.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from samnet.core.errors import UserError
from samnet.core.geometry import Grid, spacing_affine
from samnet.dataset.formats.image import Image
from samnet.dataset.formats.ome import check_planes
from samnet.dataset.formats.pixels import ORIENTATION_TAG, hide_transparent, swaps_axes, upright
from samnet.dataset.formats.tiff_colours import as_shown, check_label_samples, split_alpha
from samnet.dataset.formats.tiff_spacing import Spacing, find_spacing, spacing_file

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPage, TiffPageSeries

_CHANNEL_AXES = "SC"
_STACK_AXES = "ZQI"  # Q and I: pages whose meaning the file does not state


@dataclass(frozen=True)
class _Geometry:
    """The header: spacing along `(Z, Y, X)` in mm, or None where it is not known."""

    spacing: Spacing | None
    is_stack: bool


@dataclass(frozen=True)
class _Content:
    """What a file holds: samples `(S, Z, Y, X)` as they are stored, opacity and geometry."""

    file: Path
    samples: np.ndarray
    alpha: np.ndarray | None
    page: TiffPage
    colour_map: np.ndarray | None
    is_imagej: bool
    orientation: int
    spacing: Spacing | None
    is_stack: bool

    def shown(self) -> np.ndarray:
        """Return the grey values or colours `(C, Z, Y, X)` that viewers show."""
        return as_shown(self.samples, self.page, self.colour_map, self.file, self.is_imagej)

    def as_image(self, samples: np.ndarray) -> Image:
        """Return an image of other samples `(S, Z, Y, X)` with the geometry of this content."""
        array, spacing = upright(samples, self.orientation), self.spacing
        if spacing is not None and swaps_axes(self.orientation):
            spacing = spacing[0], spacing[2], spacing[1]
        affine = spacing_affine(spacing or (1.0, 1.0, 1.0))
        grid = Grid(array.shape[1:], affine, spacing is not None, is_2d=not self.is_stack)
        has_header = self.is_stack or spacing is not None
        return Image(array, grid, _Geometry(spacing, self.is_stack) if has_header else None)


def read(file: Path) -> Image:
    """Read a 2D image or a stack of slices as viewers show it.

    Args:
        file: A TIFF file.

    Returns:
        The image with the array `(C, Z, Y, X)`; Z is 1 for a 2D image.

    Raises:
        UserError: The file holds several images or axes that are no volume, its planes are in
            other files, its colour space is not supported, or the JSON file with the spacing has
            another form.
    """
    content = _read_content(file)
    return content.as_image(content.shown())


def read_mask(file: Path) -> Image:
    """Read a mask; where it is fully transparent it is 0.

    Args:
        file: A TIFF file.

    Returns:
        The mask with the array `(C, Z, Y, X)`, grey or colours.

    Raises:
        UserError: As for `read`, or only the opacity tells what is labelled.
    """
    content = _read_content(file)
    return content.as_image(hide_transparent(content.shown(), content.alpha, file))


def read_labels(file: Path) -> Image:
    """Read a label map. Its samples are the labels; a colour table is only for the screen.

    Args:
        file: A TIFF file.

    Returns:
        The label map with the array `(C, Z, Y, X)`; three channels where it is in colour.

    Raises:
        UserError: As for `read_mask`, or the samples may not be the labels.
    """
    content = _read_content(file)
    check_label_samples(content.page, file, content.is_imagej)
    return content.as_image(hide_transparent(content.samples, content.alpha, file))


def _read_content(file: Path) -> _Content:
    import tifffile

    with tifffile.TiffFile(file) as tiff:
        check_planes(tiff, file)
        series = _only_series(tiff, file)
        page, axes = series.keyframe, series.axes
        samples, alpha = _channels_first(series.asarray(), axes), None
        if "S" in axes:
            samples, alpha = split_alpha(samples, page)
        is_stack = bool(_axes_of_kind(axes, _STACK_AXES))
        orientation = page.tags.get(ORIENTATION_TAG)
        return _Content(
            file=file,
            samples=samples,
            alpha=alpha,
            page=page,
            colour_map=page.colormap,  # read now: it cannot be read from a closed file
            is_imagej=bool(tiff.is_imagej),
            orientation=int(orientation.value) if orientation is not None else 1,
            spacing=find_spacing(tiff, file, is_stack),
            is_stack=is_stack,
        )


def _only_series(tiff: TiffFile, file: Path) -> TiffPageSeries:
    """Return the one image of a file, complete and with the axes of a 2D image or a stack."""
    if len(tiff.series) != 1:
        raise UserError(
            f"{file}: holds {len(tiff.series)} images of different form; save the one that is meant"
        )
    series = tiff.series[0]
    missing = sum(page is None for page in series.pages)
    if missing:
        raise UserError(
            f"{file}: {missing} of its {len(series.pages)} planes are missing; save it again"
        )
    _check_axes(file, series.axes, series.shape)
    return series


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
    """Return pixels as `(C, Z, Y, X)`."""
    is_stack = bool(_axes_of_kind(axes, _STACK_AXES))
    has_channels = bool(_axes_of_kind(axes, _CHANNEL_AXES))
    for axis in _STACK_AXES + _CHANNEL_AXES:
        if axis in axes:
            pixels = np.moveaxis(pixels, axes.index(axis), 0)
            axes = axis + axes.replace(axis, "")
    if not is_stack:
        return pixels[:, None] if has_channels else pixels[None, None]
    return pixels if has_channels else pixels[None]


def write(labels: np.ndarray, reference: Image, file: Path) -> None:
    """Write a label map; that of a stack has the axes ZYX. It has the spacing where it is known.

    Args:
        labels: Labels `(Z, Y, X)`.
        reference: The image that the labels belong to.
        file: The file to write.
    """
    import tifffile

    geometry: _Geometry | None = reference.header
    is_stack = geometry is not None and geometry.is_stack
    pixels, axes = (labels, "ZYX") if is_stack else (labels[0], "YX")
    if geometry is None or geometry.spacing is None:
        tifffile.imwrite(
            file,
            pixels,
            photometric="minisblack",
            compression="zlib",
            metadata={"axes": axes} if is_stack else {},
        )
        return
    z, y, x = geometry.spacing
    tifffile.imwrite(
        file,
        pixels,
        imagej=True,
        resolution=(1 / x, 1 / y),
        metadata={"axes": axes, "spacing": z, "unit": "mm"},
        compression="zlib",
    )


def serves(image: Image) -> bool:
    """Say whether label maps of an image can be written as TIFF.

    Args:
        image: The image that the labels belong to.

    Returns:
        Whether it is a 2D image without a spacing, or was read by this module.
    """
    return image.header is None or isinstance(image.header, _Geometry)


def companions(file: Path) -> list[Path]:
    """Return the JSON file with the spacing of a TIFF.

    Args:
        file: A TIFF file.

    Returns:
        One path, or an empty list where there is no such file.
    """
    return [spacing_file(file)] if spacing_file(file).is_file() else []
