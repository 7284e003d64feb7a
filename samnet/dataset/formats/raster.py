"""PNG, JPEG and BMP: 2D images, grey or colour, without a spacing.

Images are read as viewers show them: turned as their EXIF data say, with a palette as colours. The
opacity of pixels says nothing about tissue and is left out.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from samnet.core.errors import UserError
from samnet.core.geometry import Grid, spacing_affine
from samnet.dataset.formats.image import Image
from samnet.dataset.formats.pixels import ORIENTATION_TAG, hide_transparent, upright

if TYPE_CHECKING:
    import PIL.Image

# By content: the ending of a file may be that of another of these formats. MPO is JPEG with further
# images, as phones add them for their own use; the first one is the photograph.
_FORMATS = ("PNG", "JPEG", "BMP", "GIF")
_LOSSY = ("JPEG", "MPO")
_GREY = ("1", "L", "I;16", "I", "F")
_WITH_ALPHA = ("LA", "RGBA")
_DEPTH_BYTE = 24  # of a PNG file: the number of bits of a sample
_opening = threading.Lock()


@dataclass(frozen=True)
class _Pixels:
    """What a file holds, upright.

    Attributes:
        colours: Grey `(1, Y, X)`, or red, green and blue `(3, Y, X)`.
        alpha: Opacity `(Y, X)`, or None.
        indices: The numbers `(Y, X)` of colours in a palette, or None.
        palette: The colours `(N, 3)` of a palette, or None.
        is_lossy: Whether the compression changes values.
        bits: Bits of a sample where the format is PNG, else 8.
    """

    colours: np.ndarray
    alpha: np.ndarray | None
    indices: np.ndarray | None
    palette: np.ndarray | None
    is_lossy: bool
    bits: int


def read(file: Path) -> Image:
    """Read a 2D image. It has no spacing: its grid counts pixels.

    Args:
        file: A PNG, JPEG or BMP file.

    Returns:
        The image with the array `(C, 1, Y, X)`: one grey channel, or red, green and blue.

    Raises:
        UserError: The file is animated, or its pixels are neither grey nor colours.
    """
    return _as_image(_read_pixels(file).colours)


def read_mask(file: Path) -> Image:
    """Read a mask; where it is fully transparent it is 0.

    Args:
        file: A PNG, JPEG or BMP file.

    Returns:
        The mask with the array `(C, 1, Y, X)`, grey or colours.

    Raises:
        UserError: As for `read`, or only the opacity tells what is labelled.
    """
    pixels = _read_pixels(file)
    return _as_image(hide_transparent(pixels.colours, pixels.alpha, file))


def read_labels(file: Path) -> Image:
    """Read a label map, whose grey values are the labels.

    A palette is taken for colours, as a program may number them in any order. Only in the palette
    of PASCAL VOC, which many annotation tools write, the numbers are the labels.

    Args:
        file: A PNG or BMP file.

    Returns:
        The label map with the array `(C, 1, Y, X)`; three channels where it is in colour.

    Raises:
        UserError: As for `read_mask`, or the compression has changed values.
    """
    pixels = _read_pixels(file)
    if pixels.is_lossy:
        raise UserError(
            f"{file}: holds a JPEG image, whose compression changes label values; save it as PNG"
        )
    if pixels.indices is not None and pixels.alpha is None and _has_voc_palette(pixels):
        return _as_image(pixels.indices[None])
    labels = hide_transparent(pixels.colours, pixels.alpha, file)
    if pixels.bits in (2, 4) and pixels.indices is None:
        labels = labels // (255 // (2**pixels.bits - 1))  # as stored, before scaling to 8 bits
    return _as_image(labels)


def _as_image(colours: np.ndarray) -> Image:
    array = colours[:, None]
    affine = spacing_affine((1.0, 1.0, 1.0))
    return Image(array, Grid(array.shape[1:], affine, has_spacing=False, is_2d=True), None)


def _read_pixels(file: Path) -> _Pixels:
    with open_image(file) as image:
        if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
            raise UserError(
                f"{file}: is animated, with {image.n_frames} frames; save the one that is meant"
            )
        orientation = image.getexif().get(ORIENTATION_TAG, 1)
        bits = bits_of(file) if image.format == "PNG" else 8
        indices = palette = None
        if image.mode == "P":
            indices = upright(np.asarray(image), orientation)
            palette = np.reshape(image.getpalette(), (-1, 3))
        samples = _decode_16_bits(file) if bits == 16 else _samples(image, file)
        is_lossy = image.format in _LOSSY
    samples = upright(np.moveaxis(samples, -1, 0), orientation)
    alpha = samples[-1] if len(samples) in (2, 4) else None
    colours = samples[:3] if len(samples) >= 3 else samples[:1]
    return _Pixels(colours, alpha, indices, palette, is_lossy, bits)


def open_image(file: Path) -> PIL.Image.Image:
    """Open a file of any size: the limit of the library is meant for files from the internet.

    Args:
        file: A PNG, JPEG, BMP or GIF file.

    Returns:
        The image of Pillow, whose pixels are not read yet.
    """
    from PIL import Image

    with _opening:
        limit = Image.MAX_IMAGE_PIXELS
        Image.MAX_IMAGE_PIXELS = None
        try:
            return Image.open(file, formats=_FORMATS)
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def bits_of(file: Path) -> int:
    """Return the number of bits of a sample.

    Args:
        file: A PNG file.
    """
    with file.open("rb") as handle:
        return handle.read(_DEPTH_BYTE + 1)[_DEPTH_BYTE]


def _decode_16_bits(file: Path) -> np.ndarray:
    """Return the samples `(Y, X, S)` of a PNG file. Pillow reads 8 of the 16 bits of colours."""
    import imagecodecs

    pixels = imagecodecs.png_decode(file.read_bytes())
    return pixels[..., None] if pixels.ndim == 2 else pixels


def _samples(image: PIL.Image.Image, file: Path) -> np.ndarray:
    """Return the samples `(Y, X, S)`: grey or red, green and blue, then opacity where it is."""
    has_transparent_colour = "transparency" in image.info
    if image.mode in _GREY and not has_transparent_colour:
        return np.asarray(image)[..., None]
    if image.mode in _WITH_ALPHA:
        return np.asarray(image)
    if image.mode in ("L", "1"):
        return np.asarray(image.convert("LA"))
    if image.mode in ("P", "PA", "RGB"):
        has_alpha = has_transparent_colour or image.mode == "PA"
        return np.asarray(image.convert("RGBA" if has_alpha else "RGB"))
    if image.mode in ("CMYK", "YCbCr", "RGBX"):
        return np.asarray(image.convert("RGB"))
    raise UserError(f"{file}: has pixels of the kind {image.mode}; save it in grey or RGB")


def _has_voc_palette(pixels: _Pixels) -> bool:
    """Tell whether all colours that a mask uses are those of PASCAL VOC's palette."""
    assert pixels.indices is not None
    assert pixels.palette is not None
    used = np.unique(pixels.indices)
    expected = np.array([_voc_colour(int(number)) for number in used])
    is_grey = (pixels.palette[used] == pixels.palette[used][:, :1]).all()
    return bool((pixels.palette[used] == expected).all() and not is_grey)


def _voc_colour(number: int) -> tuple[int, int, int]:
    """Return a colour of PASCAL VOC: bits 0, 3, 6 of the number are red's highest, and so on."""
    red = green = blue = 0
    for position in range(7, 4, -1):
        red |= (number & 1) << position
        green |= (number >> 1 & 1) << position
        blue |= (number >> 2 & 1) << position
        number >>= 3
    return red, green, blue


def write(labels: np.ndarray, reference: Image, file: Path) -> None:
    """Write a label map as a grey 2D image.

    Args:
        labels: Labels `(1, Y, X)`.
        reference: The image that the labels belong to; not used, as these formats hold no geometry.
        file: The file to write.
    """
    from skimage import io

    io.imsave(file, labels[0], check_contrast=False)


def serves(image: Image) -> bool:
    """Say whether label maps of an image can be written in these formats.

    Args:
        image: The image that the labels belong to.

    Returns:
        Whether it is a 2D image without a spacing.
    """
    return image.header is None
