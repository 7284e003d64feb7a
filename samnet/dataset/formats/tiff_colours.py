"""What the samples of a TIFF file mean: grey values, colours, inks, a palette, or opacity."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from samnet.core.errors import UserError
from samnet.dataset.formats.pixels import from_colour_space, from_inks

if TYPE_CHECKING:
    from tifffile import TiffPage

# Values of the tags (TIFF 6.0 and its supplements).
_MINISWHITE, _MINISBLACK, _RGB, _PALETTE, _MASK, _SEPARATED, _YCBCR, _CIELAB, _ICCLAB = (
    *range(7),
    8,
    9,
)
_ALPHAS = (1, 2)
_CMYK_INKS = 1
LOSSY_COMPRESSIONS = (6, 7, 34892, 50001, 33003, 33005, 34712)  # JPEG, WebP and JPEG 2000
_JPEG = (6, 7, 34892)  # decoded to RGB


def split_alpha(samples: np.ndarray, page: TiffPage) -> tuple[np.ndarray, np.ndarray | None]:
    """Take the opacity off the samples of a pixel. Other additional samples are channels.

    Args:
        samples: The samples `(S, ...)` of pixels.
        page: The page that they are from.

    Returns:
        The samples without opacity, and the opacity `(...)` or None.
    """
    extra = tuple(int(kind) for kind in page.extrasamples)
    opacity = [len(samples) - len(extra) + i for i, kind in enumerate(extra) if kind in _ALPHAS]
    if not opacity or len(samples) <= len(extra):
        return samples, None
    others = [index for index in range(len(samples)) if index not in opacity]
    return samples[others], samples[opacity[0]]


def is_plain(page: TiffPage) -> bool:
    """Tell whether the samples of a page are grey values or colours without any conversion.

    Args:
        page: The page.
    """
    return int(page.photometric) in (_MINISBLACK, _RGB, _MASK)


def as_shown(
    samples: np.ndarray,
    page: TiffPage,
    colour_map: np.ndarray | None,
    file: Path,
    is_imagej: bool,
) -> np.ndarray:
    """Convert samples to the grey values or colours that viewers show.

    Args:
        samples: `(S, Z, Y, X)` without opacity.
        page: The page that they are from.
        colour_map: The colours of its palette `(3, N)`, or None.
        file: The file, to be named in messages.
        is_imagej: Whether ImageJ wrote the file. Its colour table is only for the screen.

    Returns:
        Grey values `(1, Z, Y, X)`, red, green and blue `(3, Z, Y, X)`, or channels unchanged.

    Raises:
        UserError: The colour space is not supported.
    """
    kind = int(page.photometric)
    if is_plain(page) or (is_imagej and kind in (_MINISWHITE, _PALETTE)):
        return samples
    if kind == _YCBCR and int(page.compression) in _JPEG:
        return samples
    if kind == _MINISWHITE and samples.dtype.kind in "ub":
        return _inverted(samples, page.bitspersample)
    if kind == _PALETTE and colour_map is not None:
        return _colours_of(samples[0], colour_map)
    if kind == _SEPARATED and _is_cmyk(samples, page):
        return from_inks(samples)
    if kind in (_YCBCR, _CIELAB, _ICCLAB) and samples.dtype == np.uint8 and len(samples) == 3:
        if kind == _ICCLAB:  # a and b with an offset, in place of signed
            samples = np.concatenate([samples[:1], samples[1:] ^ 128])
        mode = "YCbCr" if kind == _YCBCR else "LAB"
        slices = [from_colour_space(samples[:, z], mode) for z in range(samples.shape[1])]
        return np.stack(slices, axis=1)
    name = getattr(page.photometric, "name", kind)
    raise UserError(
        f"{file}: has pixels of the kind {name} with {page.bitspersample} bits; save it in grey or "
        "RGB"
    )


def check_label_samples(page: TiffPage, file: Path, is_imagej: bool) -> None:
    """Check that the samples of a label map are its labels, whatever colours are shown for them.

    Args:
        page: A page of the label map.
        file: The file, to be named in messages.
        is_imagej: Whether ImageJ wrote the file, which inverts the display and not the values.

    Raises:
        UserError: The compression changes values, or 0 stands for white.
    """
    if int(page.compression) in LOSSY_COMPRESSIONS:
        name = getattr(page.compression, "name", page.compression)
        raise UserError(
            f"{file}: is compressed with {name}, which may change label values; use deflate or LZW"
        )
    if int(page.photometric) == _MINISWHITE and not is_imagej:
        raise UserError(
            f"{file}: declares that 0 is white (photometric interpretation MINISWHITE), so it is "
            "not clear which value is background; save it with 0 as black"
        )


def _is_cmyk(samples: np.ndarray, page: TiffPage) -> bool:
    ink_set = page.tags.get("InkSet")
    is_unsigned = samples.dtype.kind == "u"
    return len(samples) == 4 and is_unsigned and (ink_set is None or ink_set.value == _CMYK_INKS)


def _inverted(samples: np.ndarray, bits: int) -> np.ndarray:
    if samples.dtype.kind == "b":
        return ~samples
    return (2**bits - 1 - samples.astype(np.int64)).astype(samples.dtype)


def _colours_of(indices: np.ndarray, colour_map: np.ndarray) -> np.ndarray:
    """Return the colours `(3, ...)` of indices, with 8 bits where the map has no more."""
    colours = np.asarray(colour_map)
    if colours.max() < 256:  # some programs write bytes
        colours = colours.astype(np.uint8)
    elif np.isin(colours & 255, (0,)).all() or (colours >> 8 == colours & 255).all():
        colours = (colours >> 8).astype(np.uint8)
    return colours[:, indices.astype(np.intp)]
