"""What stored pixels mean: their orientation, opacity and colour space."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from samnet.core.errors import UserError

ORIENTATION_TAG = 274  # of TIFF and EXIF
_TRANSPOSED = (5, 6, 7, 8)
_BOTTOM_UP = (3, 4, 7, 8)
_RIGHT_TO_LEFT = (2, 3, 6, 7)


def swaps_axes(orientation: int) -> bool:
    """Say whether an image of an orientation is stored with columns in place of rows.

    Args:
        orientation: The value of the orientation tag, 1 to 8.
    """
    return orientation in _TRANSPOSED


def upright(array: np.ndarray, orientation: int) -> np.ndarray:
    """Turn pixels as the orientation tag says (TIFF 6.0, tag 274; EXIF repeats it).

    Args:
        array: Pixels `(..., Y, X)` as they are stored.
        orientation: The value of the tag, 1 to 8. Others mean that nothing is turned.

    Returns:
        The pixels `(..., Y, X)` as viewers show them.
    """
    if orientation in _TRANSPOSED:
        array = array.swapaxes(-1, -2)
    if orientation in _BOTTOM_UP:
        array = array[..., ::-1, :]
    if orientation in _RIGHT_TO_LEFT:
        array = array[..., ::-1]
    return np.ascontiguousarray(array)


def hide_transparent(colours: np.ndarray, alpha: np.ndarray | None, file: Path) -> np.ndarray:
    """Make what is fully transparent in a mask background, as viewers show it.

    Args:
        colours: Grey values or colours `(S, ...)`.
        alpha: Opacity `(...)`, or None where the file has none.
        file: The mask, to be named in messages.

    Returns:
        The colours, 0 where the mask is transparent.

    Raises:
        UserError: The mask is black wherever it can be seen, so only the opacity tells anything.
    """
    if alpha is None:
        return colours
    visible = alpha > 0
    has_shape = bool(alpha.min() != alpha.max())
    if has_shape and not colours[:, visible].any():
        raise UserError(
            f"{file}: is black, and only its opacity (alpha) differs between pixels; save the "
            "label values themselves as a grey image without alpha"
        )
    return colours * visible.astype(colours.dtype)


def from_inks(inks: np.ndarray) -> np.ndarray:
    """Convert cyan, magenta, yellow and black to colours.

    Args:
        inks: `(4, ...)` of an unsigned type; 0 is no ink.

    Returns:
        Red, green and blue `(3, ...)` of the same type.
    """
    full = float(np.iinfo(inks.dtype).max)
    light = 1 - inks.astype(np.float32) / full
    return np.rint(light[:3] * light[3] * full).astype(inks.dtype)


def from_colour_space(pixels: np.ndarray, mode: str) -> np.ndarray:
    """Convert pixels of another colour space to red, green and blue.

    Args:
        pixels: `(3, Y, X)` of 8 bits.
        mode: `YCbCr` as in JPEG, or `LAB` as in TIFF (CIE L*a*b*, a and b signed).

    Returns:
        Red, green and blue `(3, Y, X)` of 8 bits.
    """
    from PIL import Image, ImageCms

    height, width = pixels.shape[1:]
    image = Image.frombytes(mode, (width, height), np.moveaxis(pixels, 0, -1).tobytes())
    if mode == "LAB":
        source, target = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        converted = ImageCms.applyTransform(
            image, ImageCms.buildTransform(source, target, "LAB", "RGB")
        )
        assert converted is not None
    else:
        converted = image.convert("RGB")
    return np.moveaxis(np.asarray(converted), -1, 0)
