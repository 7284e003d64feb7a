"""Predictions and references that do not belong together are found before anything is scored."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from builders.label_maps import write_label_map, write_predicted_dataset

from samnet.core.errors import UserError
from samnet.dataset.description import DatasetDescription
from samnet.evaluation.pairing import Pair, check_pair, pair_files, read_pair

ENDINGS = [".nii.gz"]


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    return write_predicted_dataset(tmp_path)


def test_pair_files_matches_label_maps_by_name(dataset: Path) -> None:
    (dataset / "preds" / "case_1.nii.gz").unlink()
    write_label_map(dataset / "preds" / "surplus.nii.gz", np.zeros((2, 2, 2), dtype=np.uint8))
    pairing = pair_files(dataset / "preds", dataset / "labelsTs", ENDINGS)
    assert [pair.identifier for pair in pairing.pairs] == ["case_0", "case_2"]
    assert pairing.pairs[0].prediction_file == dataset / "preds" / "case_0.nii.gz"
    assert pairing.pairs[0].reference_file == dataset / "labelsTs" / "case_0.nii.gz"
    assert pairing.skipped == ("case_1", "surplus")
    assert [fault.split(":")[0] for fault in pairing.faults] == [
        str(dataset / "preds" / "case_1.nii.gz"),
        str(dataset / "preds" / "surplus.nii.gz"),
    ]


def test_pair_files_refuses_folders_without_label_maps(dataset: Path) -> None:
    (dataset / "empty").mkdir()
    with pytest.raises(UserError, match=r"empty: holds no \.nii\.gz file"):
        pair_files(dataset / "empty", dataset / "labelsTs", ENDINGS)
    with pytest.raises(UserError, match="absent: no such folder"):
        pair_files(dataset / "preds", dataset / "absent", ENDINGS)


def make_pair(dataset: Path, name: str) -> Pair:
    return Pair(name, dataset / "preds" / f"{name}.nii.gz", dataset / "labelsTs" / f"{name}.nii.gz")


def test_pair_faults_advise_to_map_the_white_of_a_mask_to_one(dataset: Path) -> None:
    description = DatasetDescription.load(dataset / "dataset.json")
    description = replace(description, labels={"background": 0, "organ": 1})
    mask = np.zeros((2, 3, 4), dtype=np.uint8)
    write_label_map(dataset / "labelsTs" / "mask.nii.gz", mask)
    mask[0, 1, 1:3] = 255
    write_label_map(dataset / "preds" / "mask.nii.gz", mask)
    (fault,) = check_pair(make_pair(dataset, "mask"), description).faults
    assert fault.startswith(f"{dataset / 'preds' / 'mask.nii.gz'}: has the label 255")
    assert fault.endswith("; map 255 to 1, as samnet_convert_folder does")


def test_read_pair_names_every_file_that_cannot_be_read(dataset: Path) -> None:
    pair = make_pair(dataset, "case_0")
    for file in (pair.prediction_file, pair.reference_file):
        file.write_bytes(b"")
    with pytest.raises(UserError) as error:
        read_pair(pair)
    assert str(pair.prediction_file) in str(error.value)
    assert str(pair.reference_file) in str(error.value)
