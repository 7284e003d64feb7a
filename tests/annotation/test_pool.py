"""Which cases are unlabelled, and which are labelled."""

from __future__ import annotations

from pathlib import Path

import pytest
from builders.data import write_dataset
from builders.tiny import use_folders

from samnet.annotation.pool import Pool, find_labelled
from samnet.core.errors import UserError
from samnet.dataset.dataset_folder import DatasetFolder


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DatasetFolder:
    write_dataset(tmp_path / "raw", num_cases=3)
    use_folders(tmp_path, tmp_path / "results", monkeypatch)
    return DatasetFolder.find(501)


def names(cases: list) -> list[str]:
    return [case.identifier for case in cases]


def test_cases_without_a_label_map_are_unlabelled(folder: DatasetFolder) -> None:
    (folder.training_labels / "case_01.nii.gz").unlink()
    pool = Pool.find(folder, folder.training_images)
    assert names(pool.unlabelled) == ["case_01"]
    assert names(pool.labelled) == ["case_00", "case_02"]


def test_folder_of_labelled_cases_is_refused(folder: DatasetFolder) -> None:
    with pytest.raises(UserError, match="all 3 cases in it have the name of a labelled case"):
        Pool.find(folder, folder.training_images)


@pytest.mark.parametrize("keeps_folder", [True, False])
def test_data_set_may_have_no_labels_yet(folder: DatasetFolder, keeps_folder: bool) -> None:
    for file in folder.training_labels.iterdir():
        file.unlink()
    if not keeps_folder:
        folder.training_labels.rmdir()
    unlabelled = folder.training_images.rename(folder.raw / "new")
    assert find_labelled(folder) == []
    assert len(Pool.find(folder, unlabelled).unlabelled) == 3
