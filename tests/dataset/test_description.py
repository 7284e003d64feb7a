from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from samnet.core.errors import DatasetFaults, UserError
from samnet.dataset.description import DatasetDescription

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


def test_the_keys_of_nnunet_are_read(tmp_path: Path) -> None:
    description = load(tmp_path, reference="any other key")
    assert description.channel_names == ("CT",)
    assert description.labels == {"background": 0, "liver": 1, "tumour": 2}
    assert description.class_names == ("liver", "tumour")
    assert description.num_classes == 2
    assert description.file_ending == ".nii.gz"
    assert description.num_training == 3
    assert description.ignore_label is None
    assert description.patient_key is None


def test_channels_and_labels_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    channels = {str(number): f"channel {number}" for number in reversed(range(12))}
    labels = {"b": 2, "ignore": 3, "größe": 1, "background": 0}
    description = load(tmp_path, channel_names=channels, labels=labels)
    assert description.channel_names == tuple(f"channel {number}" for number in range(12))
    assert description.class_names == ("größe", "b")
    assert list(description.labels) == ["background", "größe", "b"]
    assert description.ignore_label == 3


def test_the_older_name_of_the_channels_serves_too(tmp_path: Path) -> None:
    assert load(tmp_path, channel_names=..., modality={"0": "MRI"}).channel_names == ("MRI",)


def test_what_need_not_be_there(tmp_path: Path) -> None:
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
        ("labels", {"background": 0, "whole": [1, 2], "core": 2}, "the labels ['whole'] are regions"),
        ("labels", {"0": "background", "1": "liver"}, "the labels ['0', '1'] have no whole number"),
        ("labels", {"background": 0, "liver": True}, "the labels ['liver'] have no whole number"),
        ("labels", {"background": 0, "liver": 1.5}, "the labels ['liver'] have no whole number"),
        ("labels", {"background": 0, "liver": 2}, "[0, 2]; expected 0 (background), 1, 2, ... without gaps"),
        ("labels", {"background": 0, "a": 1, "b": 1}, "[0, 1, 1]; expected"),
        ("labels", {"liver": 1, "tumour": 2}, "[1, 2]; expected 0 (background)"),
        ("labels", {"background": 0}, "no foreground class"),
        ("labels", {"background": 0, "ignore": 1}, "no foreground class"),
        ("labels", {"background": 0, "liver": 1, "ignore": 9}, "ignore label is 9; it has to be the highest value, 2"),
        ("file_ending", ..., '"file_ending" is missing; supported are .nii.gz, .nii'),
        ("file_ending", "nii.gz", "\"file_ending\" is 'nii.gz'; supported are"),
        ("file_ending", [".nii.gz"], "supported are"),
        ("numTraining", "3", "\"numTraining\" is '3'; write the number of cases"),
        ("label_file_ending", ".jpg", "\"label_file_ending\" is '.jpg'; label maps may be .nii.gz, .nii"),
        ("label_file_ending", [".png"], "\"label_file_ending\" is ['.png']; label maps"),
        ("patient_key", "(p", "\"patient_key\" '(p' is not a regular expression"),
        ("patient_key", 7, '"patient_key" 7 is not a regular expression'),
    ],
)
def test_a_bad_value_is_named_with_the_file_and_the_remedy(tmp_path: Path, key: str, value: Any, reason: str) -> None:
    with pytest.raises(UserError) as caught:
        load(tmp_path, **{key: value})
    assert str(caught.value).startswith(f"{tmp_path / 'dataset.json'}: ")
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    ("images", "declared", "labels", "maps"),
    [
        (".nii.gz", ..., ".nii.gz", (".nii.gz", ".nii")),
        (".jpg", ..., ".png", (".png",)),
        (".mha", ".nrrd", ".nrrd", (".nrrd", ".mha", ".mhd")),
    ],
)
def test_the_ending_of_label_maps(
    tmp_path: Path, images: str, declared: Any, labels: str, maps: tuple[str, ...]
) -> None:
    description = load(tmp_path, file_ending=images, label_file_ending=declared)
    assert description.label_file_ending == labels
    assert description.label_map_endings == maps


def test_all_bad_values_are_reported_together(tmp_path: Path) -> None:
    with pytest.raises(DatasetFaults) as caught:
        load(
            tmp_path, channel_names=..., labels={"background": 0}, file_ending=".gif", numTraining="x", patient_key="("
        )
    assert len(caught.value.faults) == 5
    for part in ("channel_names", "foreground", ".gif", "numTraining", "patient_key", tmp_path.name):
        assert part in str(caught.value)


@pytest.mark.parametrize("content", ["[]", "7", "{", ""])
def test_a_file_that_is_no_object_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "dataset.json").write_text(content)
    with pytest.raises(UserError, match=r"dataset\.json"):
        DatasetDescription.load(tmp_path / "dataset.json")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"dataset\.json: no such file"):
        DatasetDescription.load(tmp_path / "dataset.json")


def test_the_real_data_sets_are_understood(real_data: Path) -> None:
    for folder in real_data.glob("Dataset*"):
        assert DatasetDescription.load(folder / "dataset.json").num_classes >= 1
