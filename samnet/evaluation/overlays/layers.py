"""What lies on the images of a figure: areas and outlines of classes and errors, and a legend."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from samnet.dataset.label_scheme import LabelScheme, mask_of
from samnet.evaluation.overlays.colours import (
    ERROR_STYLES,
    WHITE,
    YELLOW,
    class_colour,
    class_line_style,
)
from samnet.evaluation.overlays.error_maps import CONFUSED
from samnet.evaluation.overlays.panels import Area, Outline
from samnet.evaluation.overlays.sheets import LegendEntry

_FILL_OPACITY = 0.4
_RED_GREEN_BLUE = (0.299, 0.587, 0.114)  # weights of the luminance, ITU-R BT.601


def without_colours(image: np.ndarray) -> np.ndarray:
    """Return an image in grey: on stained tissue, the colours of errors would not be told apart.

    Args:
        image: Numbers from 0 to 1, `(rows, columns)` or `(rows, columns, 3)`.

    Returns:
        Numbers from 0 to 1, `(rows, columns)`.
    """
    return image if image.ndim == 2 else image @ np.array(_RED_GREEN_BLUE, np.float32)


def error_areas(errors: np.ndarray) -> list[Area]:
    """Return the areas of the kinds of voxels of an error map.

    Args:
        errors: An error map `(rows, columns)`.

    Returns:
        An area for each kind that is there.
    """
    areas = []
    for kind, style in ERROR_STYLES.items():
        mask = errors == kind
        if mask.any():
            areas.append(Area(mask, style.colour, style.opacity, style.hatch))
    return areas


def compared_outlines(
    prediction: np.ndarray, reference: np.ndarray, label_sets: Sequence[Sequence[int]]
) -> list[Outline]:
    """Return the outlines of classes in the reference, and dashed those in the prediction.

    Args:
        prediction: Whole numbers `(rows, columns)`.
        reference: Whole numbers of the same shape.
        label_sets: The values of each class or region.

    Returns:
        Two outlines for each class or region.
    """
    outlines = []
    for values in label_sets:
        outlines.append(Outline(mask_of(reference, values), WHITE))
        outlines.append(Outline(mask_of(prediction, values), YELLOW, "dashed"))
    return outlines


def class_areas(label_map: np.ndarray, label_scheme: LabelScheme) -> list[Area]:
    """Return the areas of classes or regions in their colours, later regions over earlier ones.

    Args:
        label_map: Whole numbers `(rows, columns)`.
        label_scheme: The classes or regions.

    Returns:
        An area for each that is there.
    """
    areas = []
    for number, values in enumerate(label_scheme.label_sets, 1):
        mask = mask_of(label_map, values)
        if mask.any():
            areas.append(Area(mask, class_colour(number), _FILL_OPACITY))
    return areas


def class_outlines(label_map: np.ndarray, label_scheme: LabelScheme) -> list[Outline]:
    """Return the outlines of classes or regions in their colours and line styles.

    Args:
        label_map: Whole numbers `(rows, columns)`.
        label_scheme: The classes or regions.

    Returns:
        An outline for each that is there.
    """
    outlines = []
    for number, values in enumerate(label_scheme.label_sets, 1):
        mask = mask_of(label_map, values)
        if mask.any():
            outlines.append(Outline(mask, class_colour(number), class_line_style(number)))
    return outlines


def present_classes(label_scheme: LabelScheme, *label_maps: np.ndarray | None) -> list[int]:
    """Return which classes or regions label maps hold.

    Args:
        label_scheme: The classes or regions.
        *label_maps: Whole numbers of any shape; None for none.

    Returns:
        Their numbers, from 1 on.
    """
    values: set[int] = set()
    for label_map in label_maps:
        if label_map is not None:
            values.update(np.unique(label_map).tolist())
    numbered = enumerate(label_scheme.label_sets, 1)
    return [number for number, members in numbered if values.intersection(members)]


def error_legend(*, has_several_classes: bool) -> list[LegendEntry]:
    """Return the entries of errors and outlines in a legend.

    Args:
        has_several_classes: Whether one class can be taken for another.

    Returns:
        An entry for each kind of voxel and each outline.
    """
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    entries = []
    for kind, style in ERROR_STYLES.items():
        if kind != CONFUSED or has_several_classes:
            patch = Patch(
                facecolor=(*style.colour, style.opacity), edgecolor=style.colour, hatch=style.hatch
            )
            entries.append(LegendEntry(style.name, patch))
    # White would not be seen beside the panels.
    line = Line2D([], [], color="0.6", linestyle="solid")
    entries.append(LegendEntry("outline of the reference", line))
    line = Line2D([], [], color=YELLOW, linestyle="dashed")
    entries.append(LegendEntry("outline of the prediction", line))
    return entries


def class_legend(label_scheme: LabelScheme, numbers: Sequence[int]) -> list[LegendEntry]:
    """Return the entries of classes or regions in a legend.

    Args:
        label_scheme: The classes or regions.
        numbers: The numbers of those to name, from 1 on.

    Returns:
        An entry for each.
    """
    from matplotlib.patches import Patch

    entries = []
    for number in numbers:
        colour = class_colour(number)
        patch = Patch(
            facecolor=(*colour, _FILL_OPACITY),
            edgecolor=colour,
            linestyle=class_line_style(number),
            linewidth=1.5,
        )
        entries.append(LegendEntry(label_scheme.class_names[number - 1], patch))
    return entries
