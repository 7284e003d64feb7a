"""The slices of cases that the page shows, within a limit of bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from samnet.core.geometry import bounding_box
from samnet.core.progress import ProgressBar
from samnet.core.worker_pool import describe_error
from samnet.dataset.description import DatasetDescription
from samnet.evaluation.overlays.choice import ChosenCase, choose_cases, spread_cases
from samnet.evaluation.overlays.planes import Plane
from samnet.evaluation.overlays.shown_case import CaseFiles, ShownCase
from samnet.reporting.numbers import show_count, show_score
from samnet.reporting.slice_codes import encode_image, encode_runs
from samnet.reporting.source import ReportedCase

MOST_BYTES = 18_000_000  # of all stacks of a page
_MOST_SLICES = 48  # of a case
_MOST_PIXELS = 512  # along either side of a slice of a volume
_MOST_PIXELS_2D = 1600  # likewise of a 2D image, which has one slice
_BEYOND = 2  # slices that are shown on either side of the structures


@dataclass(frozen=True)
class Stack:
    """The slices of a case that a page shows.

    Attributes:
        identifier: The name of the case.
        heading: Its place among all cases, such as `worst of 40 cases`.
        first: The number of the slice that is shown first, from 0.
        content: What the page's script reads.
        num_bytes: The size of the content.
        left_out: What of the case is not shown, in words; empty for nothing.
        description: What is shown, for people who hear the page.
    """

    identifier: str
    heading: str
    first: int
    content: dict[str, Any]
    num_bytes: int
    left_out: str
    description: str


@dataclass(frozen=True)
class Stacks:
    """The slices of all cases that a page shows.

    Attributes:
        stacks: The cases, the worst first.
        failed: Name of a case that cannot be shown -> the reason.
        left_out: The chosen cases for which there was no room.
    """

    stacks: tuple[Stack, ...]
    failed: dict[str, str]
    left_out: tuple[str, ...]


def make_stacks(
    cases: Sequence[ReportedCase],
    description: DatasetDescription,
    number: int,
    most_bytes: int = MOST_BYTES,
) -> Stacks:
    """Choose cases and slices to show, and encode them.

    The worst cases come first; those without an image are left out. A case that cannot be read does
    not stop the others.

    Args:
        cases: All cases.
        description: Channels and labels.
        number: How many cases to show at most.
        most_bytes: Largest size of all of them.
    """
    stacks: list[Stack] = []
    failed: dict[str, str] = {}
    left_out: list[str] = []
    by_name = {case.identifier: case for case in cases}
    chosen = _choose(cases, number)
    used = 0
    for choice in ProgressBar(chosen, desc="drawing slices", unit="case", disable=not chosen):
        room = min(most_bytes - used, 2 * most_bytes // max(1, len(chosen)))
        try:
            stack = make_stack(by_name[choice.identifier], choice.heading, description, room)
        except Exception as error:  # what one damaged file does must not end the report
            failed[choice.identifier] = describe_error(error)
            continue
        if stack is None:
            left_out.append(choice.identifier)
            continue
        used += stack.num_bytes
        stacks.append(stack)
    return Stacks(tuple(stacks), failed, tuple(left_out))


def _choose(cases: Sequence[ReportedCase], number: int) -> list[ChosenCase]:
    shown = [case for case in cases if case.image is not None]
    if number == 0 or not shown:
        return []
    scores = {case.identifier: case.mean_dice for case in shown}
    if not np.isnan(list(scores.values())).all():
        return choose_cases(scores, number)
    expected = {case.identifier: case.expected_dice for case in shown}
    if np.isnan(list(expected.values())).all():
        return spread_cases(list(expected), number)
    chosen = choose_cases(expected, number)
    headings = {name: f"expected Dice {show_score(value)}" for name, value in expected.items()}
    return [replace(choice, heading=headings[choice.identifier]) for choice in chosen]


def make_stack(
    case: ReportedCase, heading: str, description: DatasetDescription, most_bytes: int
) -> Stack | None:
    """Encode the slices of a case.

    Args:
        case: The case, with its image.
        heading: Its place among all cases.
        description: Channels and labels.
        most_bytes: The largest size. Where all slices are larger, some in between are left out.

    Returns:
        The slices; None where not even one of them has room.

    Raises:
        UserError: A file is missing or unreadable, or a label map does not lie on the grid of the
            image.
    """
    assert case.image is not None
    shown = ShownCase(CaseFiles(case.image, case.prediction, case.reference), description)
    slices = _Slices(shown)
    step = slices.smallest_step
    stack = slices.encode(step)
    # A few tries: each leaves out as many slices as the size of the one before suggests.
    while stack["num_bytes"] > most_bytes and len(stack["slices"]) > 1:
        step = max(step + 1, round(step * stack["num_bytes"] / most_bytes))
        stack = slices.encode(step)
    if stack["num_bytes"] > most_bytes:
        return None
    num_bytes = stack.pop("num_bytes")
    return Stack(
        identifier=case.identifier,
        heading=heading,
        first=stack["first"],
        content=stack,
        num_bytes=num_bytes,
        left_out=slices.describe_left_out(step, len(stack["slices"])),
        description=_describe(shown, slices),
    )


class _Slices:
    """The slices of a case across its main axis, as the page shows them."""

    def __init__(self, shown: ShownCase) -> None:
        self.shown = shown
        self.axis = shown.volume.main_axis()
        shape = shown.volume.grid.shape
        self.count = shape[self.axis]
        box = bounding_box(shown.structures)
        self.start = max(0, box.start[self.axis] - _BEYOND)
        self.stop = min(self.count, box.stop[self.axis] + _BEYOND)
        self.worst = shown.place[self.axis]
        most_pixels = _MOST_PIXELS if self.count > 1 else _MOST_PIXELS_2D
        self.reduction = -(-max(self._plane(self.worst).shape) // most_pixels)

    @property
    def smallest_step(self) -> int:
        """Every how many slices one is shown."""
        return -(-(self.stop - self.start) // _MOST_SLICES)

    def encode(self, step: int) -> dict[str, Any]:
        """Return the slices at a distance from the worst one, as the page's script reads them."""
        indices = list(range(self.worst, self.start - 1, -step))[::-1]
        indices += range(self.worst + step, self.stop, step)
        slices = [self._encode_slice(self._plane(index)) for index in indices]
        plane = self._plane(self.worst)
        edges = plane.edges
        rows, columns = slices[0]["size"]
        height, width = plane.pixel_size
        return {
            "first": indices.index(self.worst),
            "slices": slices,
            "rows": rows,
            "columns": columns,
            "pixel": [height * self.reduction, width * self.reduction],
            "unit": self.shown.unit,
            "edges": [edges.left, edges.right, edges.top, edges.bottom],
            "focus": self._focus(plane),
            "plane": plane.name,
            "has_reference": self.shown.reference is not None,
            "num_bytes": sum(_size_of(entry) for entry in slices),
        }

    def _plane(self, index: int) -> Plane:
        place = list(self.shown.place)
        place[self.axis] = index
        z, y, x = place
        return self.shown.volume.plane(self.axis, (z, y, x))

    def _encode_slice(self, plane: Plane) -> dict[str, Any]:
        shown = self.shown
        image = shown.image_of(plane, self.reduction)
        entry = {
            "size": image.shape[:2],
            "position": plane.position,
            "image": encode_image(image),
            "prediction": self._runs(plane, shown.prediction),
        }
        if shown.reference is not None and shown.errors is not None:
            entry["reference"] = self._runs(plane, shown.reference)
            entry["errors"] = self._runs(plane, shown.errors)
        return entry

    def _runs(self, plane: Plane, labels: np.ndarray) -> str:
        return encode_runs(plane.cut(labels)[:: self.reduction, :: self.reduction])

    def _focus(self, plane: Plane) -> list[int] | None:
        """Return first row and column of the part to enlarge, and its numbers of both.

        None where the structures take most of the image.
        """
        box = self.shown.enlarged
        if box is None:
            return None
        return [number // self.reduction for number in plane.outline(box)]

    def describe_left_out(self, step: int, num_shown: int) -> str:
        """Say which slices are not shown, and whether they are smaller than the image."""
        sentences = []
        if num_shown < self.count:
            text = f"{num_shown} of {show_count(self.count, 'slice')} are shown"
            if not self.shown.structures.any():
                return f"{text}; nothing is labelled."
            if step > 1:
                text += (
                    f", every {step}th" if step > 3 else f", every {('', '2nd', '3rd')[step - 1]}"
                )
            sentences.append(f"{text}, those with structures and {_BEYOND} on either side.")
        if self.reduction > 1:
            sentences.append(
                f"One of {self.reduction} pixels along each side is shown; very small errors may "
                "be missing."
            )
        return " ".join(sentences)


def _size_of(entry: dict[str, Any]) -> int:
    return sum(len(value) for value in entry.values() if isinstance(value, str)) + 100


def _describe(shown: ShownCase, slices: _Slices) -> str:
    layers = "prediction, reference and errors" if shown.errors is not None else "prediction"
    return f"Slices of {shown.identifier} with {layers}, beginning at slice {slices.worst + 1}"
