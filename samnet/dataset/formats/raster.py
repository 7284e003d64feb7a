"""PNG, JPEG and BMP: 2D, grey or colour, without a spacing."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from samnet.core.errors import UserError
from samnet.core.geometry import Grid, spacing_affine
from samnet.dataset.formats.image import Image


def read(file: Path) -> Image:
    from skimage import io

    picture = io.imread(file)
    if picture.ndim == 2:
        picture = picture[..., None]
    if picture.ndim != 3 or picture.shape[-1] > 4:
        raise UserError(
            f"{file}: has shape {picture.shape}; expected a grey or colour picture (height, width[, 3])"
        )
    array = without_alpha(np.moveaxis(picture, -1, 0))[:, None]
    return Image(array, Grid(array.shape[1:], spacing_affine((1.0, 1.0, 1.0))), None)


def without_alpha(colours: np.ndarray) -> np.ndarray:
    """Grey or red, green and blue from 1 to 4 samples a pixel `(S, ...)`: opacity says nothing of tissue."""
    return colours[:3] if len(colours) >= 3 else colours[:1]


def write(labels: np.ndarray, reference: Image, file: Path) -> None:
    from skimage import io

    io.imsave(file, labels[0], check_contrast=False)


def serves(image: Image) -> bool:
    return image.header is None
