"""Whether structures are copied from slice to slice, and which.

Every rule takes the `Facts` and returns the value and the reason.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from samnet.planning.rules.facts import Facts

RARE_SHARE = 0.5  # most slices that show a class that is rare
SMALL_AREA = 0.1  # largest part of a slice that a small structure takes
COMPACT_WIDTH = 0.5  # least inscribed width for each diameter; 1 for a disc, 0.1 for a thin tube


@dataclass(frozen=True)
class _Form:
    """How a class looks in slices across the slicing axis.

    Attributes:
        name: The class or region.
        shown: Share of all slices that show it.
        area: The part of a slice that it takes there, in the median.
        width: Its largest inscribed width for each diameter, in the median.
    """

    name: str
    shown: float
    area: float
    width: float

    @property
    def may_be_copied(self) -> bool:
        """Whether it is rare, small and compact."""
        is_small = self.area <= SMALL_AREA and self.width >= COMPACT_WIDTH
        return self.shown <= RARE_SHARE and is_small

    def __str__(self) -> str:
        return (
            f"{self.name!r} is in {self.shown:.0%} of the slices, takes {self.area:.1%} of them "
            f"there, and is {self.width:.1f} times as wide as a disc of its area"
        )


def structure_copying(facts: Facts) -> tuple[float, str]:
    """Copy nothing, which short runs did not gain from."""
    return 0.0, "nothing is copied: short runs on tumours were measured to gain nothing from it"


def copied_labels(facts: Facts) -> tuple[tuple[int, ...], str]:
    """Take the labels of classes that are rare, small and compact."""
    forms = [form for form in _forms(facts) if form.may_be_copied]
    if not forms:
        return (), (
            f"no class is in at most {RARE_SHARE:.0%} of the slices, takes at most "
            f"{SMALL_AREA:.0%} of them there and is compact"
        )
    foreground = facts.fingerprint.label_scheme
    sets = dict(zip(foreground.class_names, foreground.label_sets, strict=True))
    values: set[int] = set()
    for form in forms:
        values.update(sets[form.name])
    return tuple(sorted(values)), "; ".join(map(str, forms))


def _forms(facts: Facts) -> list[_Form]:
    axis = facts.values["slicing_axis"]
    cases = facts.fingerprint.cases.values()
    num_slices = sum(case.shape[axis] for case in cases)
    areas = []
    for case in cases:
        lengths = np.delete(np.array(case.cropped_shape) * np.array(case.spacing), axis)
        areas.append(float(np.prod(lengths)))
    slice_area = float(np.median(areas))
    forms = []
    for name in facts.fingerprint.label_scheme.class_names:
        diameter = facts.fingerprint.diameter(name, axis, 50)
        thickness = facts.fingerprint.thickness(name, axis, 50)
        if diameter is None or thickness is None:
            continue
        showing = sum(case.classes[name].slices[axis] for case in cases if name in case.classes)
        area = math.pi / 4 * diameter**2 / slice_area
        forms.append(_Form(name, showing / num_slices, area, thickness / diameter))
    return forms
