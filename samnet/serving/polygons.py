"""Outlines of labels as polygons, in the form of ASAP, which QuPath's extension reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from xml.sax.saxutils import quoteattr

import numpy as np

from samnet.serving.errors import BadRequest

_SMALLEST_AREA = 30.0  # in pixels, as QuPath's extension requests it
_COLOURS = ("#e6194b", "#3cb44b", "#ffe119", "#4363d8", "#f58231", "#911eb4", "#46f0f0", "#f032e6")


@dataclass(frozen=True)
class Region:
    """The part of a 2D image that is outlined.

    Attributes:
        x: First column.
        y: First row.
        width: Number of columns; 0 for all.
        height: Number of rows; 0 for all.
        smallest_area: Smaller parts, in pixels, are left out.
    """

    x: int = 0
    y: int = 0
    width: int = 0
    height: int = 0
    smallest_area: float = _SMALLEST_AREA

    @classmethod
    def from_parameters(cls, parameters: Mapping[str, Any]) -> Region:
        """Read a region as QuPath's extension sends it.

        Args:
            parameters: The parameters of the request: `location`, `size` and `min_poly_area`.

        Returns:
            The region.

        Raises:
            BadRequest: They are not two whole numbers each, or the area is no number.
        """
        x, y = _two_numbers(parameters, "location")
        width, height = _two_numbers(parameters, "size")
        area = parameters.get("min_poly_area", _SMALLEST_AREA)
        if type(area) not in (int, float) or not area >= 0:
            raise BadRequest("min_poly_area: is not a number from 0 up")
        return cls(x, y, width, height, float(area))

    def cut(self, labels: np.ndarray) -> np.ndarray:
        """Return the region of a label map.

        Args:
            labels: Labels `(Y, X)`.
        """
        height, width = self.height or labels.shape[0], self.width or labels.shape[1]
        return labels[self.y : self.y + height, self.x : self.x + width]


def _two_numbers(parameters: Mapping[str, Any], key: str) -> tuple[int, int]:
    value = parameters.get(key) or (0, 0)
    if not isinstance(value, Sequence) or len(value) < 2:
        raise BadRequest(f"{key}: has to be two whole numbers")
    first, second = value[:2]
    if type(first) is not int or type(second) is not int or min(first, second) < 0:
        raise BadRequest(f"{key}: has to be two whole numbers from 0 up")
    return first, second


def outlines(mask: np.ndarray, smallest_area: float) -> list[np.ndarray]:
    """Return the outer outlines of the parts of a mask.

    Args:
        mask: Booleans `(Y, X)`.
        smallest_area: Smaller parts, in pixels, are left out. Holes are filled.

    Returns:
        For each part the corners `(N, 2)` of a polygon, x before y, in pixels; the middle of the
        first pixel is (0, 0).
    """
    from skimage.measure import find_contours

    found = []
    for contour in find_contours(np.pad(mask, 1).astype(np.float32), 0.5):
        y, x = (contour - 1).T
        # Negative for holes, which run the other way round.
        area = 0.5 * float(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1]))
        if area >= smallest_area:
            found.append(np.column_stack([x[:-1], y[:-1]]))
    return found


def asap_annotations(labels: np.ndarray, names: Mapping[str, int], region: Region) -> str:
    """Write the outlines of all labels as annotations of ASAP.

    Args:
        labels: Labels `(Y, X)` of the whole image.
        names: Name -> value of each label.
        region: The part of the image to outline.

    Returns:
        The XML. Positions are those in the whole image.
    """
    part = region.cut(labels)
    groups = [
        f'    <Group Name={quoteattr(name)} PartOfGroup="None" Color="{_colour(value)}">'
        "<Attributes /></Group>"
        for name, value in names.items()
    ]
    annotations: list[str] = []
    for name, value in names.items():
        for polygon in outlines(part == value, region.smallest_area):
            annotations += _annotation(name, value, polygon + np.array([region.x, region.y]))
    lines = [
        '<?xml version="1.0"?>',
        "<ASAP_Annotations>",
        "  <Annotations>",
        *annotations,
        "  </Annotations>",
        "  <AnnotationGroups>",
        *groups,
        "  </AnnotationGroups>",
        "</ASAP_Annotations>",
    ]
    return "\n".join(lines) + "\n"


def _annotation(name: str, value: int, polygon: np.ndarray) -> Iterator[str]:
    quoted = quoteattr(name)
    yield (
        f'    <Annotation Name={quoted} Type="Polygon" PartOfGroup={quoted} '
        f'Color="{_colour(value)}"><Coordinates>'
    )
    for number, (x, y) in enumerate(polygon):
        yield f'      <Coordinate Order="{number}" X="{x:g}" Y="{y:g}" />'
    yield "    </Coordinates></Annotation>"


def _colour(value: int) -> str:
    return _COLOURS[(value - 1) % len(_COLOURS)]
