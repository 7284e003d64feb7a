"""Figures of label maps that are drawn over the slices of their images."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from samnet.core.errors import UserError
from samnet.core.figures import name_legend, new_figure, save_figure
from samnet.dataset.cases import Case, label_file_of
from samnet.dataset.images import (
    Image,
    ending_of,
    is_2d_image,
    label_ending_for,
    read_image,
    read_labels,
)
from samnet.dataset.label_scheme import LabelScheme, mask_of
from samnet.evaluation.metrics import dice_per_class
from samnet.evaluation.slice_view import SliceView, intensity_window, scale_intensities

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ENDINGS = (".png", ".pdf", ".svg", ".jpg")
GOLDEN_SECTION = 0.618034

_FILL_OPACITY = 0.3
_PANEL_INCHES = 3.4


@dataclass(frozen=True)
class OverlayRow:
    """One row of a figure: a slice of a case.

    Attributes:
        title: Title of the image.
        image: Numbers from 0 to 1, `(rows, columns)`, or `(rows, columns, 3)` in colours.
        label_maps: Title -> whole numbers `(rows, columns)`.
        aspect: Height of a pixel, divided by its width.
    """

    title: str
    image: np.ndarray
    label_maps: dict[str, np.ndarray]
    aspect: float


def draw_overlays(
    cases: Sequence[Case],
    predictions: Path,
    references: Path | None,
    label_scheme: LabelScheme,
    file: Path,
    max_cases: int = 6,
) -> None:
    """Draw cases, one in each row: the image, the prediction on it, and the reference on it.

    The slice with most foreground is shown (of the reference, where there is one), across the
    coarsest axis of an anisotropic volume, with the patient's right on the left.

    Args:
        cases: The cases.
        predictions: Folder of label maps named after the cases.
        references: Folder of the true label maps, or None.
        label_scheme: The classes or regions. Later regions are drawn over earlier ones.
        file: Ends in .png, .pdf, .svg or .jpg; written whole or not at all.
        max_cases: Number of cases to draw, the first ones.

    Raises:
        UserError: There is nothing to draw, a file is missing or unreadable, or does not lie on the
            grid of its image.
    """
    file = Path(file)
    if file.suffix.lower() not in ENDINGS:
        raise UserError(f"{file}: cannot draw a file of this ending; use {', '.join(ENDINGS)}")
    if not cases or max_cases < 1:
        raise UserError(
            f"{file}: nothing to draw, there are {len(cases)} cases, of which {max_cases} are to "
            "be drawn"
        )
    rows = [load_row(case, predictions, references, label_scheme) for case in cases[:max_cases]]
    figure = draw_figure(rows, label_scheme)
    save_figure(figure, file, dpi=110)


def load_row(
    case: Case, predictions: Path, references: Path | None, label_scheme: LabelScheme
) -> OverlayRow:
    """Read a case and choose its slice.

    Args:
        case: The case.
        predictions: Folder of its predicted label map.
        references: Folder of its true label map, or None.
        label_scheme: The classes or regions.

    Returns:
        The slice of the image, of the prediction, whose title says the mean Dice of the volume
        where there is a reference, and of the reference.

    Raises:
        UserError: A file is missing or unreadable, or does not lie on the grid of the image.
    """
    image = read_image(case.image_files)
    prediction = _read_label_map(predictions, case, image)
    reference = None if references is None else _read_label_map(references, case, image)
    view = SliceView(
        image.grid,
        prediction if reference is None else reference,
        is_2d=_is_2d(case, image),
        highest_label=label_scheme.values[-1],
    )
    if reference is None:
        label_maps = {"prediction": view.cut(prediction)}
    else:
        title = f"prediction, {_describe_dice(prediction, reference, label_scheme)}"
        label_maps = {title: view.cut(prediction), "reference": view.cut(reference)}
    shown = _cut_image(case, image, view)
    return OverlayRow(case.identifier, shown, label_maps, view.aspect)


def _read_label_map(folder: Path, case: Case, image: Image) -> np.ndarray:
    """Read the label map `(Z, Y, X)` of a case, which lies on the native grid of its image."""
    image_file = case.image_files[0]
    file = label_file_of(case, Path(folder))
    if file is None:
        expected = Path(folder) / f"{case.identifier}{label_ending_for(image_file)}"
        raise UserError(
            f"{expected}: missing, the label map of {image_file}; predict the case, or leave it out"
        )
    labels = read_labels(file)
    difference = labels.grid.difference(image.grid)
    if difference is not None:
        remedy = "resample the label map to the grid of its image"
        if difference.kind != "shape":
            remedy += ", or correct the wrong header"
        raise UserError(f"{file}: {difference.describe(str(image_file))}; {remedy}")
    return labels.array[0]


def _cut_image(case: Case, image: Image, view: SliceView) -> np.ndarray:
    """Return the slice of an image, from 0 to 1: its colours, or its first channel in grey."""
    if _is_colour(case, image):
        channels, window = image.array, None
    else:
        channels, window = image.array[:1], intensity_window(image.array[0], view.foreground)
    planes = [view.cut(channel) for channel in channels]
    return scale_intensities(np.stack(planes, axis=-1), window)


def _is_2d(case: Case, image: Image) -> bool:
    ending = ending_of(case.image_files[0])
    return ending is not None and is_2d_image(ending, image.grid.shape[0])


def _is_colour(case: Case, image: Image) -> bool:
    has_three_channels = image.array.shape[0] == 3
    return has_three_channels and (_is_2d(case, image) or len(case.image_files) == 1)


def _describe_dice(prediction: np.ndarray, reference: np.ndarray, label_scheme: LabelScheme) -> str:
    dice = dice_per_class(prediction, reference, label_scheme)
    present = dice[~np.isnan(dice)]
    return f"mean Dice {present.mean():.3f}" if present.size else "no class present"


def class_colour(number: int) -> tuple[float, float, float]:
    """Return the colour of a class or region.

    Hues are a golden section apart, so that any number of classes have different colours.

    Args:
        number: Number of the class or region, from 1 on.

    Returns:
        Red, green and blue from 0 to 1.
    """
    hue = (0.33 + GOLDEN_SECTION * (number - 1)) % 1.0
    saturation = 0.9 if number % 2 else 0.7
    return colorsys.hsv_to_rgb(hue, saturation, 1.0)


def shown_classes(label_map: np.ndarray, label_scheme: LabelScheme) -> list[int]:
    """Return which classes or regions a label map shows.

    Args:
        label_map: Whole numbers of any shape.
        label_scheme: The classes or regions.

    Returns:
        Their numbers, from 1 on, in the order of the label scheme.
    """
    present = np.unique(label_map)
    numbered = enumerate(label_scheme.label_sets, 1)
    return [number for number, values in numbered if np.isin(values, present).any()]


def draw_figure(rows: Sequence[OverlayRow], label_scheme: LabelScheme) -> Figure:
    """Draw rows as a figure with a legend.

    Args:
        rows: At least one row, all with equally many label maps.
        label_scheme: The classes or regions.

    Returns:
        The figure. Its panels are in rows: the image, and the image with each label map.
    """
    heights = [min(2.0, row.image.shape[0] * row.aspect / row.image.shape[1]) for row in rows]
    num_columns = 1 + len(rows[0].label_maps)
    titles = 0.35 * len(rows) + 0.5  # inches for the titles and the legend
    figure = new_figure(_PANEL_INCHES * num_columns, _PANEL_INCHES * sum(heights) + titles)
    axes = figure.subplots(len(rows), num_columns, squeeze=False, height_ratios=heights)
    for row, panels in zip(rows, axes, strict=True):
        _draw_image(panels[0], row, row.title)
        for (title, labels), panel in zip(row.label_maps.items(), panels[1:], strict=True):
            _draw_image(panel, row, title)
            _draw_labels(panel, row, labels, label_scheme)
    _add_legend(figure, rows, label_scheme)
    return figure


def _draw_image(panel: Axes, row: OverlayRow, title: str) -> None:
    panel.imshow(row.image, cmap="gray", vmin=0, vmax=1, aspect=row.aspect, interpolation="nearest")
    panel.set_title(title, fontsize=9)
    panel.set_axis_off()


def _draw_labels(
    panel: Axes, row: OverlayRow, labels: np.ndarray, label_scheme: LabelScheme
) -> None:
    height, width = labels.shape
    columns, lines = np.arange(-1, width + 1), np.arange(-1, height + 1)
    fill = np.zeros((height, width, 4), dtype=np.float32)
    for number in shown_classes(labels, label_scheme):
        colour = class_colour(number)
        mask = mask_of(labels, label_scheme.label_sets[number - 1])
        fill[mask] = (*colour, _FILL_OPACITY)
        # A frame of background closes the contour of a structure that touches the border or fills
        # the slice.
        framed = np.pad(mask, 1).astype(np.float32)
        panel.contour(columns, lines, framed, levels=[0.5], colors=[colour], linewidths=0.8)
    panel.imshow(fill, aspect=row.aspect, interpolation="nearest")
    panel.set_xlim(-0.5, width - 0.5)
    panel.set_ylim(height - 0.5, -0.5)


def _add_legend(figure: Figure, rows: Sequence[OverlayRow], label_scheme: LabelScheme) -> None:
    """Name the classes or regions that the figure shows."""
    from matplotlib.patches import Patch

    shown: set[int] = set()
    for row in rows:
        for labels in row.label_maps.values():
            shown.update(shown_classes(labels, label_scheme))
    if not shown:
        return
    numbers = sorted(shown)
    patches = [Patch(color=class_colour(number), label=f"class {number}") for number in numbers]
    legend = figure.legend(
        handles=patches,
        loc="outside lower center",
        ncol=min(len(patches), 6),
        fontsize=9,
        frameon=False,
    )
    name_legend(legend, [label_scheme.class_names[number - 1] for number in numbers])
