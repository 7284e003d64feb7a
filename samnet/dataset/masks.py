"""Reading of masks drawn by people: their grey values or colours, as whole-number codes.

A grey value is its own code. The code of a colour is `COLOUR` plus its red, green and blue bytes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from samnet.core.errors import UserError
from samnet.dataset.formats.image import Image
from samnet.dataset.images import ending_of, label_endings, read_mask

COLOUR = 1 << 24  # codes from here on are colours, lower ones are grey values
_SOFT_SHARE = 0.05


def show_code(code: int) -> str:
    """Return a code for people to read: the grey value, or the colour as `#rrggbb`.

    Args:
        code: A grey value or the code of a colour.
    """
    return f"#{code - COLOUR:06x}" if code >= COLOUR else str(code)


def mask_codes(file: Path) -> tuple[Image, np.ndarray]:
    """Read a mask and the codes of its voxels.

    Args:
        file: A mask in any supported format. One in JPEG is taken as black and white.

    Returns:
        The mask as an image, and the codes `(Z, Y, X)` of its grey values or colours, int64.

    Raises:
        UserError: The file cannot be read, or it holds fractions, numbers below 0 or above 65535
            or, as JPEG, more than black and white.
    """
    image = read_mask(file)
    array = image.array
    if array.dtype.kind == "f" and not np.array_equal(np.rint(array), array):
        raise UserError(
            f"{file}: has values that are not whole numbers; save the labels as integers"
        )
    if array.min() < 0 or array.max() > 65535:
        raise UserError(
            f"{file}: values go from {array.min()} to {array.max()}; expected 0 to 65535"
        )
    channels = array.astype(np.int64)
    if len(channels) not in (1, 3):
        raise UserError(f"{file}: has {len(channels)} channels; expected a grey or colour mask")
    codes = channels[0] if len(channels) == 1 else _colour_codes(channels)
    if ending_of(file) not in label_endings():
        codes = _black_or_white(codes, file)
    return image, codes


def _colour_codes(channels: np.ndarray) -> np.ndarray:
    """Return the codes of red, green and blue; a colour without any tint is its grey value."""
    red, green, blue = channels
    colours = COLOUR | red << 16 | green << 8 | blue
    return np.where((red == green) & (green == blue), red, colours)


def _black_or_white(codes: np.ndarray, file: Path) -> np.ndarray:
    """Restore a black and white mask whose edges were blurred by JPEG."""
    green = codes >> 8 & 255  # of the three, green is nearest to the brightness of a colour
    grey = np.where(codes >= COLOUR, green, codes)
    if ((grey > 63) & (grey < 192)).mean() > _SOFT_SHARE:
        raise UserError(
            f"{file}: a JPEG mask that is more than black and white; save the masks as PNG"
        )
    return np.where(grey > 127, 255, 0)
