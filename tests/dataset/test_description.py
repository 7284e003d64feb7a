from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from samnet.core.errors import DatasetFaults, UserError
from samnet.dataset.description import DatasetDescription
from samnet.dataset.label_scheme import LabelScheme, Regions

GOOD = {
    "channel_names": {"0": "CT"},
    "labels": {"background": 0, "liver": 1, "tumour": 2},
    "numTraining": 3,
    "file_ending": ".nii.gz",
}


def load(folder: Path, **changes: Any) -> DatasetDescription:
    content = {key: value for key, value in {**GOOD, **changes}.items() if value is not ...}
    (folder / "dataset.json").write_text(json.dumps(content), encoding="utf-8")
    return DatasetDescription.load(folder / "dataset.json")


def test_description_reads_the_keys_of_nnunet(tmp_path: Path) -> None:
    description = load(tmp_path, reference="any other key")
    assert description.channel_names == ("CT",)
    assert description.labels == {"background": 0, "liver": 1, "tumour": 2}
    assert description.label_scheme == LabelScheme(description.labels)
    assert description.label_scheme.class_names == ("liver", "tumour")
    assert description.label_scheme.num_classes == 2
    assert description.file_ending == ".nii.gz"
    assert description.num_training == 3
    assert description.ignore_label is None
    assert description.patient_key is None


def test_description_is_read_as_it_was_written(tmp_path: Path) -> None:
    described = DatasetDescription(("T1", "T2"), {"background": 0, "a": 1}, 2, ".png")
    assert described.as_json() == {
        "channel_names": {"0": "T1", "1": "T2"},
        "labels": {"background": 0, "a": 1, "ignore": 2},
        "file_ending": ".png",
    }
    regions = {"background": 0, "whole": (1, 2), "core": 2}
    with_regions = replace(described, labels=regions, ignore_label=3, regions_class_order=(1, 2))
    for description in (described, with_regions):
        (tmp_path / "dataset.json").write_text(json.dumps(description.as_json()), encoding="utf-8")
        assert DatasetDescription.load(tmp_path / "dataset.json") == description


def test_description_has_channels_and_labels_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    channels = {str(number): f"channel {number}" for number in reversed(range(12))}
    labels = {"b": 2, "ignore": 3, "größe": 1, "background": 0}
    description = load(tmp_path, channel_names=channels, labels=labels)
    assert description.channel_names == tuple(f"channel {number}" for number in range(12))
    assert description.label_scheme.class_names == ("größe", "b")
    assert list(description.labels) == ["background", "größe", "b"]
    assert description.ignore_label == description.label_scheme.ignore_label == 3


def test_description_reads_the_older_name_of_the_channels(tmp_path: Path) -> None:
    assert load(tmp_path, channel_names=..., modality={"0": "MRI"}).channel_names == ("MRI",)


def test_description_has_optional_keys(tmp_path: Path) -> None:
    assert load(tmp_path, numTraining=...).num_training is None
    assert load(tmp_path, patient_key=r"^(p\d+)").patient_key == r"^(p\d+)"


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("channel_names", ..., r'"channel_names" is missing; write for example {"0": "CT"}'),
        ("channel_names", {}, r'"channel_names" is {}; write for example'),
        ("channel_names", ["CT"], r"""is ['CT']; write for example {"0": "CT"}"""),
        ("channel_names", {"1": "CT"}, r"has the keys ['1']; expected ['0']"),
        ("channel_names", {"CT": "0"}, r"has the keys ['CT']; expected ['0']"),
        ("labels", ..., r'"labels" is missing; write for example {"background": 0, "liver": 1}'),
        ("labels", [0, 1], '"labels" is [0, 1]; write'),
        (
            "labels",
            {"background": 0, "whole": [1, 2], "core": 2},
            '"regions_class_order" is missing; write a list of 2',
        ),
        (
            "labels",
            {"background": 0, "whole": [1, 2.5]},
            "the labels ['whole'] have no whole number",
        ),
        ("labels", {"background": 0, "whole": []}, "the labels ['whole'] have no whole number"),
        (
            "labels",
            {"background": 0, "whole": [0, 1]},
            "the regions ['whole'] contain 0, the background",
        ),
        (
            "labels",
            {"background": 0, "a": [1, 2], "b": [2, 1]},
            "'a' and 'b' have the same labels [2, 1]",
        ),
        (
            "labels",
            {"background": 0, "whole": [1, 3]},
            "[0, 1, 3]; expected 0 (background), 1, 2, ... without gaps",
        ),
        ("labels", {"whole": [1, 2]}, "[1, 2]; expected 0 (background)"),
        (
            "labels",
            {"background": 0, "whole": [1, 2], "ignore": 2},
            "ignore label is 2; it has to be the highest value, 3",
        ),
        (
            "labels",
            {"background": 0, "whole": [1, 2], "ignore": [3, 4]},
            "ignore label is [3, 4]; it has to be a single",
        ),
        ("labels", {"0": "background", "1": "liver"}, "the labels ['0', '1'] have no whole number"),
        ("labels", {"background": 0, "liver": True}, "the labels ['liver'] have no whole number"),
        ("labels", {"background": 0, "liver": 1.5}, "the labels ['liver'] have no whole number"),
        (
            "labels",
            {"background": 0, "liver": 2},
            "[0, 2]; expected 0 (background), 1, 2, ... without gaps",
        ),
        ("labels", {"background": 0, "a": 1, "b": 1}, "[0, 1, 1]; expected"),
        ("labels", {"liver": 1, "tumour": 2}, "[1, 2]; expected 0 (background)"),
        ("labels", {"background": 0}, "no foreground class"),
        ("labels", {"background": 0, "ignore": 1}, "no foreground class"),
        (
            "labels",
            {"background": 0, "liver": 1, "ignore": 9},
            "ignore label is 9; it has to be the highest value, 2",
        ),
        ("file_ending", ..., '"file_ending" is missing; supported are .nii.gz, .nii'),
        ("file_ending", "nii.gz", "\"file_ending\" is 'nii.gz'; supported are"),
        ("file_ending", [".nii.gz"], "supported are"),
        ("numTraining", "3", "\"numTraining\" is '3'; write the number of cases"),
        (
            "label_file_ending",
            ".jpg",
            "\"label_file_ending\" is '.jpg'; label maps may be .nii.gz, .nii",
        ),
        ("label_file_ending", [".png"], "\"label_file_ending\" is ['.png']; label maps"),
        ("patient_key", "(p", "\"patient_key\" '(p' is not a regular expression"),
        ("patient_key", 7, '"patient_key" 7 is not a regular expression'),
    ],
)
def test_description_names_a_bad_value_with_file_and_remedy(
    tmp_path: Path, key: str, value: Any, reason: str
) -> None:
    with pytest.raises(UserError) as caught:
        load(tmp_path, **{key: value})
    assert str(caught.value).startswith(f"{tmp_path / 'dataset.json'}: ")
    assert reason in str(caught.value)


NESTED = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": [3], "ignore": 4}


def test_description_reads_regions_in_the_order_given(tmp_path: Path) -> None:
    description = load(tmp_path, labels=NESTED, regions_class_order=[1, 2, 3])
    assert description.regions_class_order == (1, 2, 3)
    scheme = description.label_scheme
    assert (
        description.labels
        == scheme.labels
        == {
            "background": 0,
            "whole": (1, 2, 3),
            "core": (2, 3),
            "enhancing": 3,
        }
    )
    assert scheme.class_names == ("whole", "core", "enhancing")
    assert (scheme.ignore_label, scheme.num_classes, scheme.num_outputs) == (4, 3, 3)
    assert scheme.regions == Regions(((1, 2, 3), (2, 3), (3,)), (1, 2, 3))
    inner_label_first = load(
        tmp_path,
        labels={"masses": [3, 2], "background": 0, "tumour": 2, "cyst": 3, "rest": 1},
        regions_class_order=[2, 2, 3, 1],
    )
    assert inner_label_first.label_scheme.class_names == ("masses", "tumour", "cyst", "rest")


def test_description_reads_lists_of_single_values_as_classes(tmp_path: Path) -> None:
    labels = {"background": [0], "tumour": [2], "liver": 1}
    scheme = load(tmp_path, labels=labels, regions_class_order=None).label_scheme
    assert scheme.labels == {"background": 0, "liver": 1, "tumour": 2}
    assert scheme.class_names == ("liver", "tumour")
    assert (scheme.num_outputs, scheme.regions) == (3, None)


def test_description_ignores_the_order_of_regions_where_there_are_none(tmp_path: Path) -> None:
    # As nnU-Net does.
    assert load(tmp_path, regions_class_order=[2, 1]).label_scheme.regions is None


@pytest.mark.parametrize(
    ("order", "reason"),
    [
        (
            3,
            '"regions_class_order" is 3; write a list of 3 labels, '
            "the one to be written for each of 'whole',",
        ),
        ([1, 2], "is [1, 2]; write a list of 3 labels"),
        ([1, 2, "3"], "is [1, 2, '3']; write a list"),
        ([1, 2, True], "is [1, 2, True]; write a list"),
        ([0, 2, 3], "has [0], which no region has; choose from [1, 2, 3]"),
        ([1, 2, 4], "has [4], which no region has"),
        (
            [3, 2, 1],
            "label 1 is in whole, but would be written as 3, "
            "which is in whole and core and enhancing",
        ),
        ([1, 3, 3], "label 2 is in whole and core, but would be written as 3"),
    ],
)
def test_description_names_a_bad_order_of_regions(tmp_path: Path, order: Any, reason: str) -> None:
    with pytest.raises(UserError) as caught:
        load(tmp_path, labels=NESTED, regions_class_order=order)
    assert str(caught.value).startswith(f"{tmp_path / 'dataset.json'}: ")
    assert reason in str(caught.value)


def test_description_of_overlapping_regions_needs_a_region_for_what_they_share(
    tmp_path: Path,
) -> None:
    overlapping = {"background": 0, "a": [1, 3], "b": [2, 3]}
    with pytest.raises(
        UserError, match="label 3 is in a and b, but would be written as 2, which is in b"
    ):
        load(tmp_path, labels=overlapping, regions_class_order=[1, 2])
    with_both = overlapping | {"both": 3}
    description = load(tmp_path, labels=with_both, regions_class_order=[1, 2, 3])
    assert description.label_scheme.num_outputs == 3
    inner_first = {"background": 0, "core": 2, "whole": [1, 2]}
    with pytest.raises(UserError, match="label 2 is in core and whole, but would be written as 1"):
        load(tmp_path, labels=inner_first, regions_class_order=[2, 1])


@pytest.mark.parametrize(
    ("images", "declared", "labels", "maps"),
    [
        (".nii.gz", ..., ".nii.gz", (".nii.gz", ".nii")),
        (".jpg", ..., ".png", (".png",)),
        (".mha", ".nrrd", ".nrrd", (".nrrd", ".nhdr", ".mha", ".mhd")),
    ],
)
def test_description_tells_the_endings_of_label_maps(
    tmp_path: Path, images: str, declared: Any, labels: str, maps: tuple[str, ...]
) -> None:
    description = load(tmp_path, file_ending=images, label_file_ending=declared)
    assert description.label_file_ending == labels
    assert description.label_map_endings == maps


def test_description_reports_all_bad_values_together(tmp_path: Path) -> None:
    with pytest.raises(DatasetFaults) as caught:
        load(
            tmp_path,
            channel_names=...,
            labels={"background": 0},
            file_ending=".gif",
            numTraining="x",
            patient_key="(",
        )
    assert len(caught.value.faults) == 5
    for part in (
        "channel_names",
        "foreground",
        ".gif",
        "numTraining",
        "patient_key",
        tmp_path.name,
    ):
        assert part in str(caught.value)


@pytest.mark.parametrize("content", ["[]", "7", "{", ""])
def test_description_names_a_file_that_is_no_object(tmp_path: Path, content: str) -> None:
    (tmp_path / "dataset.json").write_text(content)
    with pytest.raises(UserError, match=r"dataset\.json"):
        DatasetDescription.load(tmp_path / "dataset.json")


def test_description_names_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"dataset\.json: no such file"):
        DatasetDescription.load(tmp_path / "dataset.json")


def test_description_reads_those_of_the_real_data_sets(real_data: Path) -> None:
    for folder in real_data.glob("Dataset*"):
        description = DatasetDescription.load(folder / "dataset.json")
        assert description.label_scheme.num_classes >= 1
