"""Grey images that are stored in colour, with three equal channels."""

from __future__ import annotations

import functools
import logging
from pathlib import Path

import numpy as np

from samnet.dataset.formats.image import Image

log = logging.getLogger(__name__)


def is_grey(channels: np.ndarray) -> bool:
    """Tell whether an image has three channels that are all equal.

    Args:
        channels: The image `(C, ...)`.
    """
    return len(channels) == 3 and all(np.array_equal(channels[0], other) for other in channels[1:])


def as_one_channel(image: Image, file: Path) -> Image:
    """Reduce a grey image that is stored in colour to one channel.

    Args:
        image: The image.
        file: Its file, whose folder is named in the log.

    Returns:
        Its first channel, or the image itself where the channels are not three equal ones.
    """
    if not is_grey(image.array):
        return image
    _log_grey(file.parent)
    return Image(image.array[:1], image.grid, image.header)


@functools.cache  # one line for a folder, not one for each of its files
def _log_grey(folder: Path) -> None:
    log.info("%s: images with three equal channels are taken as grey", folder)
