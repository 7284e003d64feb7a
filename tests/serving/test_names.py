"""Names that come from the network, and the names of labels."""

from __future__ import annotations

import pytest

from samnet.dataset.label_scheme import LabelScheme
from samnet.serving.errors import BadRequest
from samnet.serving.names import check_tag, file_name_of, label_names, upload_ending


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("case_01", "case_01"),
        ("case_01.nii.gz", "case_01"),
        ("3: Axial T1 (post)", "3_Axial_T1_post"),
        ("Müller", "M_ller"),
        ("../../etc/passwd", "etc_passwd"),
        ("..\\..\\windows", "windows"),
        ("/etc/passwd", "etc_passwd"),
        (".hidden", "hidden"),
        ("a\0b\nc", "a_b_c"),
        ("x" * 1000, "x" * 100),
    ],
)
def test_names_of_images_become_file_names(given: str, expected: str) -> None:
    assert file_name_of(given) == expected
    assert file_name_of(expected) == expected


@pytest.mark.parametrize("given", ["", "..", "/", ".nii.gz", "\0", "日本"])
def test_names_of_which_nothing_is_left_are_refused(given: str) -> None:
    with pytest.raises(BadRequest):
        file_name_of(given)


def test_tags_are_words() -> None:
    assert check_tag("") == check_tag(None) == "final"
    assert check_tag("reader-2") == "reader-2"
    for tag in ("../labelsTr", "a/b", ".", "-x", "a b", "x" * 33, "final\n"):
        with pytest.raises(BadRequest):
            check_tag(tag)


def test_only_the_ending_of_an_uploaded_file_counts() -> None:
    assert upload_ending("C:\\Temp\\a.b.NII.GZ", ".png") == ".nii.gz"
    assert upload_ending("/tmp/../x.nrrd", ".png") == ".nrrd"
    assert upload_ending("label", ".nii.gz") == upload_ending(None, ".nii.gz") == ".nii.gz"
    for name in ("a.exe", "a.nii.gz/../../b.sh", "a.", ".bashrc"):
        with pytest.raises(BadRequest):
            upload_ending(name, ".nii.gz")


def test_label_names_are_numbered_without_gaps() -> None:
    classes = LabelScheme({"background": 0, "liver": 2, "spleen": 1}, ignore_label=3)
    assert list(label_names(classes).items()) == [("spleen", 1), ("liver", 2), ("ignore", 3)]
    regions = LabelScheme({"background": 0, "whole": (1, 2, 3), "core": (2, 3)}, None, (1, 3))
    assert list(label_names(regions).items()) == [("whole", 1), ("label 2", 2), ("core", 3)]
