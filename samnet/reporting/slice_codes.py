"""Slices as texts for the page: images as data addresses, label maps as lengths of runs.

The page's script reads label maps from these texts. Pixels of an image on a canvas would not do:
some browsers add noise to them when a page reads them back.
"""

from __future__ import annotations

import base64
import functools
import io

import numpy as np

_LOSSLESS_PIXELS = 128 * 128  # smaller images are stored exactly, at little cost
_QUALITY = 82


def encode_image(image: np.ndarray) -> str:
    """Return an image as a data address: PNG where it is small, else JPEG.

    Args:
        image: Numbers from 0 to 1, `(rows, columns)` or `(rows, columns, 3)`.
    """
    from PIL import Image as PillowImage

    pixels = np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)
    stream = io.BytesIO()
    form = "PNG" if pixels.shape[0] * pixels.shape[1] <= _LOSSLESS_PIXELS else "JPEG"
    if form == "PNG":
        PillowImage.fromarray(pixels).save(stream, form, optimize=True)
    else:
        PillowImage.fromarray(pixels).save(stream, form, quality=_QUALITY, optimize=True)
    text = base64.b64encode(stream.getvalue()).decode("ascii")
    return f"data:image/{form.lower()};base64,{text}"


def encode_runs(values: np.ndarray) -> str:
    """Return a label map as pairs of a value and the length of its run, row after row.

    Args:
        values: Whole numbers `(rows, columns)`.

    Returns:
        Numbers to the base of 36, such as `0 2s 1 5`: 100 zeros, then 5 ones. Empty where all are
        zero.
    """
    flat = values.ravel()
    if not flat.any():
        return ""
    starts = np.flatnonzero(np.concatenate([[True], flat[1:] != flat[:-1]]))
    lengths = np.diff(np.append(starts, flat.size))
    words = []
    for value, length in zip(flat[starts].tolist(), lengths.tolist(), strict=True):
        words += [_to_base_36(value), _to_base_36(length)]
    return " ".join(words)


@functools.cache  # few numbers occur, each of them often
def _to_base_36(number: int) -> str:
    return np.base_repr(number, 36).lower()
