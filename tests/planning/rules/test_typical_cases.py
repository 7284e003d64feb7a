"""Planned values are those of typical cases: one case that is unlike the others changes none."""

from __future__ import annotations

from dataclasses import replace

import pytest
from builders.fingerprint import make_fingerprint
from builders.planned import values

from samnet.fingerprint.records import SHAPE_PERCENTILES, CaseFingerprint, Fingerprint

UNLIKE = {
    "slicing_axis": {"spacing": (1.0, 1.0, 90.0)},
    "in_plane_spacing": {"spacing": (3.0, 50.0, 50.0)},
    "channel_layout": {"spacing": (60.0, 1.0, 1.0)},
    "zoom": {"cropped_shape": (40, 9000, 9000)},
    "views": {"labelled_slices": (40, 200, 160)},
}


def with_an_unlike_case(fingerprint: Fingerprint, key: str) -> Fingerprint:
    first: CaseFingerprint = next(iter(fingerprint.cases.values()))
    return replace(fingerprint, cases=fingerprint.cases | {"unlike": replace(first, **UNLIKE[key])})


@pytest.mark.parametrize("key", UNLIKE)
def test_value_does_not_change_with_one_unlike_case(key: str) -> None:
    fingerprint = make_fingerprint(spacing=(2.9, 1.0, 1.0), labelled_slices=(18, 90, 80))
    assert values(with_an_unlike_case(fingerprint, key))[key] == values(fingerprint)[key]
    # The case alone would change it.
    unlike = with_an_unlike_case(fingerprint, key).cases["unlike"]
    assert values(replace(fingerprint, cases={"unlike": unlike}))[key] != values(fingerprint)[key]


def test_sizes_of_a_class_are_its_tenth_percentile_and_its_median() -> None:
    """The input size follows the small ones of a class, the head its typical thickness."""
    fingerprint = make_fingerprint()
    small = tuple(4.0 if percentile < 15 else 80.0 for percentile in SHAPE_PERCENTILES)
    thin = tuple(2.0 if percentile < 55 else 80.0 for percentile in SHAPE_PERCENTILES)
    shapes = tuple(
        replace(shape, diameters=small, thicknesses=thin) for shape in fingerprint.shapes["organ"]
    )
    planned = values(replace(fingerprint, shapes={"organ": shapes}))
    assert planned["input_size"] == 896
    assert planned["head"] == "upsampling"
    seldom = tuple(4.0 if percentile < 5 else 80.0 for percentile in SHAPE_PERCENTILES)
    half = tuple(2.0 if percentile < 45 else 80.0 for percentile in SHAPE_PERCENTILES)
    shapes = tuple(replace(shape, diameters=seldom, thicknesses=half) for shape in shapes)
    planned = values(replace(fingerprint, shapes={"organ": shapes}))
    assert planned["input_size"] == 224
    assert planned["head"] == "mask_decoder"
