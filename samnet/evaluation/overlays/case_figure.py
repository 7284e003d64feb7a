"""The figure of a case: its image and its errors at the place where the largest error is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from samnet.evaluation.overlays.error_maps import NOTHING, class_error_map, is_wrong
from samnet.evaluation.overlays.layers import (
    class_areas,
    class_legend,
    class_outlines,
    compared_outlines,
    error_areas,
    error_legend,
    present_classes,
    without_colours,
)
from samnet.evaluation.overlays.panels import Panel
from samnet.evaluation.overlays.places import box_around, place_of_largest_error
from samnet.evaluation.overlays.planes import Plane
from samnet.evaluation.overlays.sheets import LegendEntry, Row, draw_sheet
from samnet.evaluation.overlays.shown_case import ShownCase, step_of
from samnet.evaluation.summary import mean_dice

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_CLASSES = 6  # that have panels of their own
_MOST_NAMED = 12  # classes whose Dice is named in the title, whatever it is
_OVERVIEW_HEIGHT = 300  # screen pixels
_HEIGHT = 440
_HEIGHT_OF_2D = 640
_CLASS_CELL = 300
_HIGH = 3.0  # times as high as wide: the panels are given more height
_HEIGHT_OF_HIGH = 640
_WIDE = 2.0  # times as wide as high: the panels are below each other


def draw_case(shown: ShownCase, heading: str = "") -> Figure:
    """Draw a case.

    With a reference: three planes through the place of the largest error, see
    `place_of_largest_error`; first the image alone, then true, missed and false voxels on it, and
    of several classes each one at the place of its own largest error. Without a reference: three
    planes that hold most foreground, with the outlines of the classes. Where the structure there is
    a small part of the volume, it is enlarged below the whole planes, in which a frame shows it. A
    2D image has a single plane and is shown pixel by pixel.

    Args:
        shown: The case.
        heading: Its place among the cases, such as `worst of 40`.

    Returns:
        The figure, to be saved with `sheets.DPI`.
    """
    rows = _rows_of_2d_image(shown) if shown.is_2d else _rows_of_volume(shown)
    by_class = _row_by_class(shown)
    if by_class is not None:
        rows.append(by_class)
    title = [f"{shown.identifier}: {heading}" if heading else shown.identifier]
    if shown.reference is not None:
        title.append(describe_dice(shown.dice()))
    return draw_sheet(title, rows, legend_of(shown))


def describe_dice(dice: Mapping[str, float]) -> str:
    """Return the Dice of classes as text; of many classes that of the lowest ones.

    Args:
        dice: Name of a class -> its Dice; NaN where it is in neither label map.

    Returns:
        Such as `Dice: liver 0.910, spleen 0.400; mean 0.655`.
    """
    title, named = "Dice", dict(dice)
    known = {name: value for name, value in dice.items() if not math.isnan(value)}
    if len(dice) > _MOST_NAMED:
        lowest = sorted(known, key=lambda name: known[name])[:MOST_CLASSES]
        named = {name: known[name] for name in lowest}
        title = f"lowest Dice of {len(known)} classes"
    parts = []
    for name, value in named.items():
        parts.append(f"{name} absent" if math.isnan(value) else f"{name} {value:.3f}")
    text = f"{title}: {', '.join(parts)}"
    return (
        f"{text}; mean {mean_dice(list(known.values())):.3f}" if len(dice) > 1 and known else text
    )


def _rows_of_volume(shown: ShownCase) -> list[Row]:
    """Return the whole planes, where a part is enlarged, then the image, then what lies on it."""
    whole = shown.volume.planes(shown.place)
    rows, planes, prefix = [], whole, ""
    if shown.enlarged is not None:
        panels = [main_panel(shown, plane, framed=True) for plane in whole]
        rows += _arrange(f"Whole planes: {_subject(shown)}", panels, _OVERVIEW_HEIGHT)
        planes, prefix = shown.volume.planes(shown.place, shown.enlarged), "Enlarged: "
    panels = [image_panel(shown, plane) for plane in planes]
    rows += _arrange(f"{prefix}image", panels, _HEIGHT)
    if _has_class_panels(shown):
        panels = [class_panel(shown, plane) for plane in planes]
        rows += _arrange(f"{prefix}prediction filled, reference outlined", panels, _HEIGHT)
    panels = [main_panel(shown, plane) for plane in planes]
    return [*rows, *_arrange(f"{prefix}{_subject(shown)}", panels, _HEIGHT)]


def _arrange(heading: str, panels: list[Panel], tallest: int) -> list[Row]:
    """Return the panels of a volume as a row, or as two where they are wide and low."""
    heading = heading[0].upper() + heading[1:]
    proportions = [panel.size[1] / panel.size[0] for panel in panels]
    if min(proportions) < 1 / _HIGH:
        tallest = max(tallest, _HEIGHT_OF_HIGH)
    if len(panels) == 1 or min(proportions[:2]) <= _WIDE:
        return [Row(heading, tuple(panels), tallest=tallest)]
    above, below = tuple(panels[:1]), tuple(panels[1:])
    return [Row(heading, above, tallest=tallest), Row("", below, tallest=tallest)]


def _rows_of_2d_image(shown: ShownCase) -> list[Row]:
    """Return the whole image next to what lies on it, then the same enlarged."""
    whole = shown.volume.planes(shown.place)[0]
    step = step_of(whole)
    name = "Image" if step == 1 else f"Image (means of {step} x {step} pixels)"
    rows = _rows_of_plane(shown, whole, name, framed=shown.enlarged is not None)
    if shown.enlarged is not None:
        part = shown.volume.planes(shown.place, shown.enlarged)[0]
        rows += _rows_of_plane(shown, part, "Enlarged: image", framed=False)
    return rows


def _rows_of_plane(shown: ShownCase, plane: Plane, name: str, *, framed: bool) -> list[Row]:
    panels = [image_panel(shown, plane)]
    if _has_class_panels(shown):
        panels.append(class_panel(shown, plane))
        name += "; prediction filled, reference outlined"
    panels.append(main_panel(shown, plane, framed=framed))
    heading = f"{name}; {_subject(shown)}"
    height, width = plane.shape
    groups = [(panel,) for panel in panels] if width > _WIDE * height else [tuple(panels)]
    headings = [heading, *[""] * (len(groups) - 1)]
    return [
        Row(text, group, is_pixel_exact=True, tallest=_HEIGHT_OF_2D)
        for text, group in zip(headings, groups, strict=True)
    ]


def _subject(shown: ShownCase) -> str:
    return "prediction" if shown.reference is None else "errors"


def _has_class_panels(shown: ShownCase) -> bool:
    return shown.reference is not None and shown.label_scheme.num_classes > 1


def image_panel(shown: ShownCase, plane: Plane) -> Panel:
    """Return the image of a plane alone.

    Args:
        shown: The case.
        plane: One of its planes.

    Returns:
        A panel with directions and scale.
    """
    step = step_of(plane)
    height, width = plane.pixel_size
    row, column = plane.marked
    # A 2D image is shown whole, and without a reference no place of it is special.
    has_place = shown.reference is not None or not shown.is_2d
    return Panel(
        image=shown.image_of(plane),
        pixel_size=(height * step, width * step),
        unit=shown.unit,
        caption="" if shown.is_2d else f"{plane.name} {plane.position}",
        edges=plane.edges,
        marked=(row / step, column / step) if has_place else None,
    )


def main_panel(shown: ShownCase, plane: Plane, *, framed: bool = False) -> Panel:
    """Return the errors on a plane in grey, or the prediction where there is no reference.

    Args:
        shown: The case.
        plane: One of its planes.
        framed: Whether to frame the enlarged part.

    Returns:
        The panel.
    """
    panel = image_panel(shown, plane)
    prediction = _cut(plane, shown.prediction)
    if shown.errors is None or shown.reference is None:
        panel = replace(panel, outlines=tuple(class_outlines(prediction, shown.label_scheme)))
    else:
        reference, label_sets = _cut(plane, shown.reference), shown.label_scheme.label_sets
        panel = replace(
            panel,
            image=without_colours(panel.image),
            areas=tuple(error_areas(_cut(plane, shown.errors))),
            outlines=tuple(compared_outlines(prediction, reference, label_sets)),
        )
    if framed and shown.enlarged is not None:
        top, left, height, width = (
            length / step_of(plane) for length in plane.outline(shown.enlarged)
        )
        panel = replace(panel, frame=(top, left, height, width))
    return panel


def class_panel(shown: ShownCase, plane: Plane) -> Panel:
    """Return the predicted classes as areas and those of the reference as outlines.

    Args:
        shown: The case.
        plane: One of its planes.

    Returns:
        The panel. Without a reference the prediction is outlined as well.
    """
    reference = shown.prediction if shown.reference is None else shown.reference
    panel = image_panel(shown, plane)
    return replace(
        panel,
        image=without_colours(panel.image),
        areas=tuple(class_areas(_cut(plane, shown.prediction), shown.label_scheme)),
        outlines=tuple(class_outlines(_cut(plane, reference), shown.label_scheme)),
    )


def _cut(plane: Plane, volume: np.ndarray) -> np.ndarray:
    """Return a plane of a label map or error map, with the pixels of its image."""
    step = step_of(plane)
    return plane.cut(volume)[::step, ::step]


def _row_by_class(shown: ShownCase) -> Row | None:
    """Return a panel for each class with errors, the worst first; None for a single class."""
    if not _has_class_panels(shown):
        return None
    dice = shown.dice()
    wrong = [name for name, value in dice.items() if value < 1]
    wrong.sort(key=lambda name: dice[name])
    if not wrong:
        return None
    panels = [_panel_of_class(shown, name, dice[name]) for name in wrong[:MOST_CLASSES]]
    left_out = f" (worst {MOST_CLASSES} of {len(wrong)})" if len(wrong) > MOST_CLASSES else ""
    heading = f"Errors by class{left_out}: each at the place of its own largest error"
    return Row(heading, tuple(panels), cell=_CLASS_CELL)


def _panel_of_class(shown: ShownCase, name: str, dice: float) -> Panel:
    """Return the errors of one class, in the usual plane through its own largest error."""
    scheme, volume = shown.label_scheme, shown.volume
    values = scheme.label_sets[scheme.class_names.index(name)]
    reference = shown.prediction if shown.reference is None else shown.reference
    errors = class_error_map(shown.prediction, reference, values, scheme.ignore_label)
    place = place_of_largest_error(is_wrong(errors), volume.grid.spacing) or shown.place
    box = box_around(errors != NOTHING, place, volume.grid.spacing)
    plane = volume.plane(volume.main_axis(), place, box)
    panel = image_panel(shown, plane)
    outlines = compared_outlines(_cut(plane, shown.prediction), _cut(plane, reference), [values])
    return replace(
        panel,
        image=without_colours(panel.image),
        caption=f"{name}: Dice {dice:.3f}\n{panel.caption}".strip(),
        areas=tuple(error_areas(_cut(plane, errors))),
        outlines=tuple(outlines),
    )


def legend_of_panel(shown: ShownCase) -> list[LegendEntry]:
    """Return what the colours and lines of a case's main panel mean.

    Args:
        shown: The case.

    Returns:
        The entries: of the errors, or of the classes where there is no reference.
    """
    scheme = shown.label_scheme
    if shown.reference is not None:
        return error_legend(has_several_classes=scheme.num_classes > 1)
    return class_legend(scheme, present_classes(scheme, shown.prediction, None))


def legend_of(shown: ShownCase) -> list[LegendEntry]:
    """Return what the colours and lines of a case's figure mean.

    Args:
        shown: The case.

    Returns:
        The entries.
    """
    scheme = shown.label_scheme
    entries = legend_of_panel(shown)
    if shown.reference is not None and scheme.num_classes > 1:
        numbers = present_classes(scheme, shown.prediction, shown.reference)
        entries += class_legend(scheme, numbers)
    return entries
