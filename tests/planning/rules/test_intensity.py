"""The rules for intensity windows, and for what is outside the field of view."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from builders.fingerprint import make_fingerprint
from builders.planned import decide, values

from samnet.fingerprint.records import BlankVoxels, Fingerprint
from samnet.plan.configuration import IntensityWindow


def windows_of(fingerprint: Fingerprint) -> tuple[IntensityWindow, ...]:
    return values(fingerprint)["intensity"]


@pytest.mark.parametrize("name", ["CT", "ct", " CT ", "CTA", "cbct", "Computed Tomography"])
def test_intensity_recognises_ct_by_its_name(name: str) -> None:
    fingerprint = make_fingerprint(channels=(name,), values=(0, 255), foreground=(90.123, 180.0))
    assert windows_of(fingerprint) == (IntensityWindow("fixed", 90.123, 180.0),)


@pytest.mark.parametrize(("lowest", "highest"), [(-1024, 3071), (-1000, 400), (-2048, 2000)])
def test_intensity_recognises_ct_by_its_values(lowest: float, highest: float) -> None:
    fingerprint = make_fingerprint(
        channels=("scan",), values=(lowest, highest), foreground=(-20, 180)
    )
    assert windows_of(fingerprint) == (IntensityWindow("fixed", -20.0, 180.0),)
    assert "look like HU" in decide(fingerprint)["intensity"].because


@pytest.mark.parametrize("values", [(0, 4095), (-3, 900), (-800, 100), (-32768, 32767)])
def test_intensity_takes_other_values_image_by_image(values: tuple[float, float]) -> None:
    fingerprint = make_fingerprint(channels=("scan",), values=values)
    assert windows_of(fingerprint) == (IntensityWindow("percentiles", 0.5, 99.5),)


@pytest.mark.parametrize("foreground", [None, (0.0, 0.0), (50.0, 50.0), (50.0, 50.00001)])
def test_intensity_takes_ct_without_a_foreground_range_image_by_image(
    foreground: tuple[float, float] | None,
) -> None:
    fingerprint = make_fingerprint(channels=("CT",), foreground=foreground)
    assert windows_of(fingerprint) == (IntensityWindow("percentiles", 0.5, 99.5),)


def test_intensity_keeps_the_digits_of_small_numbers() -> None:
    fingerprint = make_fingerprint(
        channels=("CT",), values=(0, 1), foreground=(0.431, 0.4334), whole_numbers=False
    )
    assert windows_of(fingerprint) == (IntensityWindow("fixed", 0.431, 0.4334),)


@pytest.mark.parametrize(
    ("values", "whole_numbers", "upper"),
    [
        ((0, 255), True, 255),
        ((0, 60000), True, 65535),
        ((0, 4000), True, 4095),
        ((0, 1), False, 1),
    ],
)
def test_intensity_keeps_the_range_of_colours(
    values: tuple[float, float], whole_numbers: bool, upper: float
) -> None:
    fingerprint = make_fingerprint(
        channels=("R", "G", "B"),
        file_ending=".png",
        values=values,
        whole_numbers=whole_numbers,
        shape=(1, 90, 90),
    )
    assert windows_of(fingerprint) == (IntensityWindow("fixed", 0.0, upper),) * 3


def test_intensity_gives_every_channel_its_own_window() -> None:
    windows = windows_of(make_fingerprint(channels=("CT", "PET")))
    assert [window.scheme for window in windows] == ["fixed", "percentiles"]
    because = decide(make_fingerprint(channels=("CT", "PET")))["intensity"].because
    assert "CT: named CT" in because
    assert "PET: no fixed scale" in because


@pytest.mark.parametrize(
    ("blank", "is_on", "because"),
    [
        (BlankVoxels(0.2, 0.01, 0), True, "20.0% of the voxels have the lowest intensity"),
        (BlankVoxels(0.2, 0.02, 0), False, "structures may be as black .*: 2.0% of a structure"),
        (BlankVoxels(0.2, 0.001, 1), False, "labels of 6 of 6 cases lie there: 1 voxels of a"),
        (BlankVoxels(0.009, 0.0, 0), False, "0.90% of the voxels .*: nothing is gained"),
        (None, False, "an older fingerprint"),
    ],
)
def test_background_outside_is_planned_if_no_structure_can_be_there(
    blank: BlankVoxels | None, is_on: bool, because: str
) -> None:
    decision = decide(make_fingerprint(blank=blank))["background_outside"]
    assert decision.value == is_on
    assert re.search(because, decision.because)


def test_background_outside_is_off_where_a_single_case_speaks_against_it() -> None:
    fingerprint = make_fingerprint(blank=BlankVoxels(0.2, 0.0, 0))
    for odd in (BlankVoxels(0.2, 0.3, 0), BlankVoxels(0.2, 0.0, 5), None):
        case = replace(fingerprint.cases["b"], blank=odd)
        cases = fingerprint.cases | {"b": case}
        assert not values(replace(fingerprint, cases=cases))["background_outside"]
    assert not values(make_fingerprint(blank=BlankVoxels(0.2, 0.0, 0), labelled_slices=0))[
        "background_outside"
    ]
