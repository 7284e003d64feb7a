from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from samnet.core.errors import UserError
from samnet.dataset.cases import RawDataset
from samnet.dataset.dataset_folder import DatasetFolder
from samnet.dataset.unlabelled_folder import link_unlabelled_images


@pytest.fixture
def folder(folders: dict[str, Path], make_dataset: Callable[..., Path]) -> DatasetFolder:
    make_dataset(folders["raw"], num_cases=1, num_test=1)
    return DatasetFolder.find(501)


@pytest.fixture
def scans(tmp_path: Path, folder: DatasetFolder) -> Path:
    """A folder elsewhere with one image."""
    shutil.copytree(folder.training_images, tmp_path / "scans")
    return tmp_path / "scans"


def test_folder_elsewhere_is_read_as_images_without_labels(
    folder: DatasetFolder, scans: Path
) -> None:
    for _ in range(2):  # the same command again changes nothing
        link_unlabelled_images(folder, scans)
        (case,) = RawDataset.read(folder).unlabelled_cases
        assert case.image_files[0].samefile(scans / "case_00_0000.nii.gz")


def test_path_that_is_relative_is_linked_from_where_it_was_given(
    folder: DatasetFolder, scans: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(scans.parent)
    link_unlabelled_images(folder, Path("scans"))
    assert folder.unlabelled_images.samefile(scans)


def test_images_without_labels_that_are_there_are_not_replaced(
    folder: DatasetFolder, scans: Path, tmp_path: Path
) -> None:
    link_unlabelled_images(folder, scans)
    other = tmp_path / "other"
    other.mkdir()
    with pytest.raises(UserError, match=r"imagesUn is a link to .*scans already, so .*other"):
        link_unlabelled_images(folder, other)
    folder.unlabelled_images.unlink()
    folder.unlabelled_images.mkdir()
    with pytest.raises(UserError, match="imagesUn is a folder already"):
        link_unlabelled_images(folder, scans)


def test_folders_without_usable_images_are_refused(folder: DatasetFolder, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere: no such folder"):
        link_unlabelled_images(folder, tmp_path / "nowhere")
    with pytest.raises(UserError, match="imagesTr has the labelled images"):
        link_unlabelled_images(folder, folder.training_images)
    assert not folder.unlabelled_images.is_symlink()


def test_test_images_are_taken_on_request_with_a_warning(
    folder: DatasetFolder, caplog: pytest.LogCaptureFixture
) -> None:
    link_unlabelled_images(folder, folder.test_images)
    assert "these are the test images" in caplog.text


def test_link_that_cannot_be_written_is_an_error_with_a_remedy(
    folder: DatasetFolder, scans: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    with pytest.raises(UserError, match=r"\(Permission denied\); copy the images into a folder"):
        link_unlabelled_images(folder, scans)
