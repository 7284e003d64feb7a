from __future__ import annotations

import pytest

from samnet.dataset.dicom_studies.near_duplicates import find_similar


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Liver", "LIVER"),
        ("liver", "Livr"),
        ("Kidney_L", "kidney left"),
        ("LungLeft", "lung_l"),
        ("PTV 01", "ptv_1"),
        ("Spinal Cord", "SpinalCord"),
        ("Rückenmark", "RUECKENMARK"),
    ],
)
def test_spellings_of_one_name_are_found(one: str, other: str) -> None:
    assert find_similar([one, other, "heart"]) == {one: [other], other: [one]}


@pytest.mark.parametrize(
    ("one", "other"),
    [("Kidney_L", "Kidney_R"), ("PTV1", "PTV2"), ("GTV", "PTV"), ("Lung li", "Lung re")],
)
def test_sides_and_numbers_are_no_spellings(one: str, other: str) -> None:
    assert find_similar([one, other]) == {}
