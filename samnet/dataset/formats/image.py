"""The common form that images of every format are read into, and the description of a format."""

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

    Attributes:
        array: Values `(C, Z, Y, X)` of the stored type (scaled where the header has a slope) in
            this machine's byte order; floats wider than 32 bits become float32.
        grid: Shape and affine.
        header: What a writer needs to give a label map the same geometry. Only the format that
            read the file knows its type.
    """

    array: np.ndarray
    grid: Grid
    header: Any


def _no_companions(file: Path) -> list[Path]:
    return []


@dataclass(frozen=True)
class Format:
    """How files of one format are read and written.

    Attributes:
        read: Function that reads a file as an image.
        read_mask: Function that reads a file as a mask, grey or in colour.
        read_labels: Function that reads a file as a label map.
        write: Function that writes labels `(Z, Y, X)`; it takes the labels, the image whose
            geometry they get, and the file.
        serves: Function that says whether an image's header has what `write` needs.
        companions: Function that returns the other files that a file's content comes from.
        highest_label: Highest label that a label map can hold; 0 where compression changes values.
    """

    read: Callable[[Path], Image]
    read_mask: Callable[[Path], Image]
    read_labels: Callable[[Path], Image]
    write: Callable[[np.ndarray, Image, Path], None]
    serves: Callable[[Image], bool]
    companions: Callable[[Path], list[Path]] = _no_companions
    highest_label: int = 65535
