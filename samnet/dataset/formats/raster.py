"""PNG, JPEG and BMP: 2D images, grey or colour, without a spacing."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from samnet.core.errors import UserError
from samnet.core.geometry import Grid, spacing_affine
from samnet.dataset.formats.image import Image


def read(file: Path) -> Image:
    """Read a 2D image; its spacing is set to 1 mm.

    Args:
        file: A PNG, JPEG or BMP file.

    Returns:
        The image with the array `(C, 1, Y, X)`: one grey channel, or red, green and blue.

    Raises:
        UserError: The file holds no grey or colour image.
    """
    from skimage import io

    pixels = io.imread(file)
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.ndim != 3 or pixels.shape[-1] > 4:
        raise UserError(
            f"{file}: has shape {pixels.shape}; expected a grey or colour 2D image "
            "(height, width[, 3])"
        )
    array = without_alpha(np.moveaxis(pixels, -1, 0))[:, None]
    return Image(array, Grid(array.shape[1:], spacing_affine((1.0, 1.0, 1.0))), None)


def without_alpha(colours: np.ndarray) -> np.ndarray:
    """Leave out the opacity of pixels, which says nothing about tissue.

    Args:
        colours: 1 to 4 samples a pixel, `(S, ...)`.

    Returns:
        Grey `(1, ...)`, or red, green and blue `(3, ...)`.
    """
    return colours[:3] if len(colours) >= 3 else colours[:1]


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
