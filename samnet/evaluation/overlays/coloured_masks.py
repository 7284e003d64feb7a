"""Predictions in colour, for people who look at images and not at label maps."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from samnet.core.figures import drawing_may_fail, save_figure
from samnet.core.files import atomic_path
from samnet.core.progress import ProgressBar
from samnet.dataset.cases import Case
from samnet.dataset.description import DatasetDescription
from samnet.dataset.label_scheme import LabelScheme, mask_of
from samnet.evaluation.overlays.case_figure import draw_case
from samnet.evaluation.overlays.colours import class_colour
from samnet.evaluation.overlays.sheets import DPI
from samnet.evaluation.overlays.shown_case import CaseFiles, ShownCase

COLOUR_FOLDER = "colour"
_PIXELS_PER_WIDTH = 400  # so long a side has outlines of one pixel, twice as long a one of two

log = logging.getLogger(__name__)


def draw_coloured_masks(
    cases: Sequence[Case],
    file_of: Callable[[Case], Path],
    description: DatasetDescription,
    output: Path,
) -> list[Path]:
    """Draw predictions in colour into the folder `colour`, as PNG files named as their cases.

    A 2D image keeps its size, every pixel and its colours; the classes are outlined on it. Of a
    volume, three planes that hold most foreground are drawn as by `draw_case`. What cannot be drawn
    is a line in the log and ends nothing.

    Args:
        cases: The predicted cases.
        file_of: Returns the label map of a case.
        description: The data set, which declares channels and labels.
        output: The folder of the label maps.

    Returns:
        The files that are drawn.
    """
    folder = output / COLOUR_FOLDER
    drawn = []
    with ProgressBar(cases, desc="drawing", unit="case") as bar:
        for case in bar:
            prediction, file = file_of(case), folder / f"{case.identifier}.png"
            if not prediction.is_file():
                continue
            with drawing_may_fail(file):
                shown = ShownCase(CaseFiles(case, prediction), description)
                if shown.is_2d:
                    write_outlined(shown, file)
                else:
                    save_figure(draw_case(shown, "prediction"), file, DPI)
                drawn.append(file)
    return drawn


def write_outlined(shown: ShownCase, file: Path) -> None:
    """Write a 2D image with the outlines of its prediction, pixel by pixel.

    Args:
        shown: The case, a 2D image.
        file: The PNG file; written whole or not at all.
    """
    from PIL import Image

    plane = shown.volume.plane(0, (0, 0, 0))
    colours = outline_classes(
        shown.image_of(plane, step=1), plane.cut(shown.prediction), shown.label_scheme
    )
    with atomic_path(file) as temporary:
        Image.fromarray(colours).save(temporary, format="PNG")


def outline_classes(
    image: np.ndarray, label_map: np.ndarray, label_scheme: LabelScheme
) -> np.ndarray:
    """Return an image in colour with the outlines of classes or regions on it.

    The outlines lie inside of the structures, so structures of one class that are one pixel apart
    stay apart. They are wider on larger images. The pixels around a structure are darkened.

    Args:
        image: Numbers from 0 to 1, `(rows, columns)` or `(rows, columns, 3)`.
        label_map: Whole numbers `(rows, columns)`.
        label_scheme: The classes or regions.

    Returns:
        Colours `(rows, columns, 3)`, uint8.
    """
    from scipy.ndimage import binary_dilation, binary_erosion  # slow to load

    grey = image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=-1)
    colours = np.rint(grey * 255).astype(np.uint8)
    width = max(1, round(max(label_map.shape) / _PIXELS_PER_WIDTH))
    for number, values in enumerate(label_scheme.label_sets, 1):
        mask = mask_of(label_map, values)
        if not mask.any():
            continue
        around = binary_dilation(mask) & ~mask
        colours[around] //= 2  # a dark rim, for bright images
        # The edge of the image is no outline: the structure may continue beyond it.
        inside = binary_erosion(mask, iterations=width, border_value=1)
        colours[mask & ~inside] = np.rint(np.array(class_colour(number)) * 255)
    return colours
