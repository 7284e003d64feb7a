"""What the fingerprint says of all cases together."""

from __future__ import annotations

from dataclasses import replace

import pytest
from builders.fingerprint import make_fingerprint


@pytest.mark.parametrize(
    ("depths", "is_2d"), [((1, 1), True), ((1, 5), False), ((5, 1), False), ((5, 5), False)]
)
def test_tiff_images_are_2d_where_no_case_is_a_stack(depths: tuple[int, ...], is_2d: bool) -> None:
    shapes = tuple((depth, 20, 30) for depth in depths)
    fingerprint = make_fingerprint(
        shapes=shapes, case_names=("a", "b"), file_ending=".tif", labelled_slices=1
    )
    assert fingerprint.is_2d is is_2d
    assert fingerprint.unit == ("pixels" if is_2d else "mm")


def test_lengths_are_in_mm_where_every_case_states_its_spacing() -> None:
    known = make_fingerprint(case_names=("a", "b"))
    without = replace(known.cases["b"], has_spacing=False)
    assert known.unit == "mm"
    assert replace(known, cases=known.cases | {"b": without}).unit == "voxels"


def test_labelled_part_is_the_median_over_cases_with_foreground() -> None:
    fingerprint = make_fingerprint(shape=(10, 20, 40), case_names=("a", "b", "c"))
    slices = {"a": (5, 10, 10), "b": (10, 20, 20), "c": (0, 0, 0)}
    cases = {
        name: replace(fingerprint.cases[name], labelled_slices=labelled)
        for name, labelled in slices.items()
    }
    part = (0.5 * 0.5 * 0.25 + 1 * 1 * 0.5) / 2
    assert replace(fingerprint, cases=cases).labelled_part == pytest.approx(part)
    assert replace(fingerprint, cases={"c": cases["c"]}).labelled_part is None
