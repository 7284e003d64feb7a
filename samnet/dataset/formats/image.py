"""The one form that images of every format are read to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from samnet.core.geometry import Grid


@dataclass(frozen=True)
class Image:
    """An image on its native grid.

    array: `(C, Z, Y, X)`, numbers of the stored type (scaled where the header has a slope) in this machine's byte
        order; floats wider than 32 bits become float32.
    grid: shape and affine.
    header: what a writer needs to give a label map the same geometry; opaque elsewhere.
    """

    array: np.ndarray
    grid: Grid
    header: Any


@dataclass(frozen=True)
class Format:
    """How files of one format are read and written.

    write: takes labels `(Z, Y, X)`, the image whose geometry they get, and the file.
    serves: whether an image's header has what `write` needs.
    companions: the files, besides itself, that a file's content comes from.
    highest_label: that a label map can hold; 0 where values change as they are compressed.
    """

    read: Callable[[Path], Image]
    write: Callable[[np.ndarray, Image, Path], None]
    serves: Callable[[Image], bool]
    companions: Callable[[Path], list[Path]] = lambda file: []
    highest_label: int = 65535
