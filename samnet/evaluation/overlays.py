"""Pictures to look at: label maps drawn over the slices of their images."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from samnet.core.errors import UserError
from samnet.core.files import atomic_path
from samnet.core.geometry import Grid, Reorientation
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

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ENDINGS = (".png", ".pdf", ".svg", ".jpg")
ANISOTROPIC = 1.5

_MOST_PIXELS = 1024
_FILL_OPACITY = 0.3
_PANEL_INCHES = 3.4


@dataclass(frozen=True)
class _Row:
    """One case of the picture, at one slice.

    image: `(rows, columns)` or `(rows, columns, 3)`, 0 to 1.
    label_maps: title -> `(rows, columns)`.
    aspect: height of a pixel divided by its width.
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
    """Draw cases, one a row: the image, the prediction on it, and the reference on it.

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
    rows = [_load_row(case, predictions, references, label_scheme) for case in cases[:max_cases]]
    figure = _draw(rows, label_scheme)
    with atomic_path(file) as temporary:
        figure.savefig(temporary, dpi=110)


def _load_row(
    case: Case, predictions: Path, references: Path | None, label_scheme: LabelScheme
) -> _Row:
    image = read_image(case.image_files)
    prediction = _read_label_map(predictions, case, image)
    reference = None if references is None else _read_label_map(references, case, image)
    views = _Views(
        image.grid,
        prediction if reference is None else reference,
        _is_flat(case, image),
        label_scheme.values[-1],
    )
    if reference is None:
        label_maps = {"prediction": views.cut(prediction)}
    else:
        title = f"prediction, {_describe_dice(prediction, reference, label_scheme)}"
        label_maps = {title: views.cut(prediction), "reference": views.cut(reference)}
    window = (
        None if _is_colour(case, image) else _intensity_window(image.array[0], views.foreground)
    )
    channels = [
        views.cut(channel) for channel in (image.array if window is None else image.array[:1])
    ]
    return _Row(
        case.identifier, _scale(np.stack(channels, axis=-1), window), label_maps, views.aspect
    )


def _read_label_map(folder: Path, case: Case, image: Image) -> np.ndarray:
    """The label map `(Z, Y, X)` of a case on the native grid of its image."""
    file = label_file_of(case, Path(folder))
    if file is None:
        expected = Path(folder) / f"{case.identifier}{label_ending_for(case.image_files[0])}"
        raise UserError(
            f"{expected}: missing, the label map of {case.image_files[0]}; predict the case, or leave it out"
        )
    labels = read_labels(file)
    difference = labels.grid.difference(image.grid)
    if difference is not None:
        remedy = "resample the label map to the grid of its image"
        if difference.kind != "shape":
            remedy += ", or correct the wrong header"
        found = difference.describe(str(case.image_files[0]))
        raise UserError(f"{file}: {found}; {remedy}")
    return labels.array[0]


def _is_flat(case: Case, image: Image) -> bool:
    ending = ending_of(case.image_files[0])
    return ending is not None and is_2d_image(ending, image.grid.shape[0])


def _is_colour(case: Case, image: Image) -> bool:
    return image.array.shape[0] == 3 and (_is_flat(case, image) or len(case.image_files) == 1)


def _describe_dice(prediction: np.ndarray, reference: np.ndarray, label_scheme: LabelScheme) -> str:
    dice = dice_per_class(prediction, reference, label_scheme)
    present = dice[~np.isnan(dice)]
    return f"mean Dice {present.mean():.3f}" if present.size else "no class present"


class _Views:
    """The one slice of a volume that is shown, and how it is turned for the reader."""

    def __init__(self, grid: Grid, labels: np.ndarray, flat: bool, num_classes: int) -> None:
        self.foreground = (labels > 0) & (labels <= num_classes)
        self._reorientation = Reorientation(grid)
        self._flat = flat
        canonical = self._reorientation.canonical_grid
        self._axis = _slicing_axis(canonical)
        others = tuple(axis for axis in range(3) if axis != self._axis)
        counts = self._reorientation.to_canonical(self.foreground).sum(axis=others)
        self._index = int(counts.argmax()) if counts.any() else len(counts) // 2
        self._steps = tuple(-(-canonical.shape[axis] // _MOST_PIXELS) for axis in others)
        height, width = (
            canonical.spacing[axis] * step for axis, step in zip(others, self._steps, strict=True)
        )
        self.aspect = height / width

    def cut(self, volume: np.ndarray) -> np.ndarray:
        """The slice `(rows, columns)` of a native volume `(Z, Y, X)`, thinned out where no screen could show it."""
        plane = self._reorientation.to_canonical(volume).take(self._index, axis=self._axis)
        plane = plane[:: self._steps[0], :: self._steps[1]]
        # Canonical axes run to the right, the front and the head; on a screen those are the left and the top.
        return plane if self._flat else plane[::-1, ::-1]


def _slicing_axis(grid: Grid) -> int:
    if 1 in grid.shape:
        return grid.shape.index(1)
    spacing = np.array(grid.spacing)
    return int(spacing.argmax()) if spacing.max() / spacing.min() > ANISOTROPIC else 0


def _intensity_window(channel: np.ndarray, foreground: np.ndarray) -> tuple[float, float]:
    """The range of intensities to show: that of the foreground and as much on either side, within the image's own.

    By the whole image alone, the air around a CT would leave a few grey levels to all the organs.
    """
    lowest, highest = np.nanpercentile(channel, (0.5, 99.5))
    if foreground.any():
        inner, outer = np.nanpercentile(channel[foreground], (1, 99))
        margin = outer - inner
        if margin > 0:
            lowest, highest = max(lowest, inner - margin), min(highest, outer + margin)
    return float(lowest), float(highest)


def _scale(picture: np.ndarray, window: tuple[float, float] | None) -> np.ndarray:
    """`(rows, columns, channels)` to 0 .. 1, with the last axis dropped where it holds one channel."""
    if window is None:
        window = (
            (0.0, 255.0)
            if picture.dtype == np.uint8
            else (float(picture.min()), float(picture.max()))
        )
    lowest, highest = window
    scaled = np.clip((picture.astype(np.float32) - lowest) / max(highest - lowest, 1e-6), 0, 1)
    return scaled[..., 0] if scaled.shape[-1] == 1 else scaled


def _colour(number: int) -> tuple[float, float, float]:
    """The colour of a class: hues a golden section apart, so that any number of classes differ."""
    return colorsys.hsv_to_rgb(
        (0.33 + 0.618034 * (number - 1)) % 1.0, 0.9 if number % 2 else 0.7, 1.0
    )


def _draw(rows: Sequence[_Row], label_scheme: LabelScheme) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    heights = [min(2.0, row.image.shape[0] * row.aspect / row.image.shape[1]) for row in rows]
    num_columns = 1 + len(rows[0].label_maps)
    size = (_PANEL_INCHES * num_columns, _PANEL_INCHES * sum(heights) + 0.35 * len(rows) + 0.5)
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(rows), num_columns, squeeze=False, height_ratios=heights)
    for row, row_axes in zip(rows, axes, strict=True):
        _draw_panel(row_axes[0], row, row.title, None, ())
        for (title, labels), panel in zip(row.label_maps.items(), row_axes[1:], strict=True):
            _draw_panel(panel, row, title, labels, label_scheme.label_sets)
    _add_legend(figure, rows, label_scheme)
    return figure


def _draw_panel(
    panel: Axes,
    row: _Row,
    title: str,
    labels: np.ndarray | None,
    label_sets: Sequence[Sequence[int]],
) -> None:
    panel.imshow(row.image, cmap="gray", vmin=0, vmax=1, aspect=row.aspect, interpolation="nearest")
    panel.set_title(title, fontsize=9)
    panel.set_axis_off()
    if labels is None:
        return
    fill = np.zeros((*labels.shape, 4), dtype=np.float32)
    for number in _values_in(labels, label_sets):
        mask = mask_of(labels, label_sets[number - 1])
        fill[mask] = (*_colour(number), _FILL_OPACITY)
        # A frame of background closes the contours of what touches the border, or fills the slice.
        framed = np.pad(mask, 1).astype(np.float32)
        columns, lines = np.arange(-1, labels.shape[1] + 1), np.arange(-1, labels.shape[0] + 1)
        panel.contour(
            columns, lines, framed, levels=[0.5], colors=[_colour(number)], linewidths=0.8
        )
    panel.imshow(fill, aspect=row.aspect, interpolation="nearest")
    panel.set_xlim(-0.5, labels.shape[1] - 0.5)
    panel.set_ylim(labels.shape[0] - 0.5, -0.5)


def _values_in(labels: np.ndarray, label_sets: Sequence[Sequence[int]]) -> list[int]:
    """Return the numbers, from 1 on, of the classes or regions that a label map shows."""
    present = np.unique(labels)
    return [number for number, values in enumerate(label_sets, 1) if np.isin(values, present).any()]


def _add_legend(figure: Figure, rows: Sequence[_Row], label_scheme: LabelScheme) -> None:
    """Name the classes or regions that can be seen."""
    from matplotlib.patches import Patch

    names, shown = label_scheme.class_names, set[int]()
    for row in rows:
        for labels in row.label_maps.values():
            shown.update(_values_in(labels, label_scheme.label_sets))
    if shown:
        patches = [
            Patch(color=_colour(number), label=names[number - 1]) for number in sorted(shown)
        ]
        figure.legend(
            handles=patches,
            loc="outside lower center",
            ncol=min(len(patches), 6),
            fontsize=9,
            frameon=False,
        )
