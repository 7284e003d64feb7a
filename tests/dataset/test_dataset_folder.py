from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from samnet.core.errors import UserError
from samnet.dataset.cases import RawDataset
from samnet.dataset.dataset_folder import DatasetFolder

NAME = "Dataset008_Liver"
RAW_PATHS = {
    "description_file": "dataset.json",
    "training_images": "imagesTr",
    "training_labels": "labelsTr",
    "test_images": "imagesTs",
    "test_labels": "labelsTs",
    "unlabelled_images": "imagesUn",
}
PREPROCESSED_PATHS = {
    "hashes_file": "raw_files.json",
    "fingerprint_file": "dataset_fingerprint.json",
    "plan_file": "samnetPlans.json",
    "splits_file": "splits_final.json",
    "slices": "slices",
    "unlabelled_slices": "slices_unlabelled",
    "embeddings": "embeddings",
}
RESULTS_PATHS = {"choice_file": "best_configuration.json"}


def test_dataset_folder_lies_below_the_three_folders(folders: dict[str, Path]) -> None:
    folder = DatasetFolder.of(NAME)
    assert (folder.name, folder.number) == (NAME, 8)
    assert folder.raw == folders["raw"] / NAME
    assert folder.preprocessed == folders["preprocessed"] / NAME
    assert folder.results == folders["results"] / NAME
    assert not any(path.exists() for path in (folder.raw, folder.preprocessed, folder.results))


@pytest.mark.parametrize(
    ("kind", "paths"),
    [("raw", RAW_PATHS), ("preprocessed", PREPROCESSED_PATHS), ("results", RESULTS_PATHS)],
)
def test_dataset_folder_keeps_the_names_of_its_files(
    folders: dict[str, Path], kind: str, paths: dict[str, str]
) -> None:
    """Data sets on disk have these names, so a renamed one would not be found again."""
    folder = DatasetFolder.of(NAME)
    found = {name: getattr(folder, name) for name in paths}
    assert found == {name: folders[kind] / NAME / file for name, file in paths.items()}


def test_dataset_folder_has_a_folder_for_each_trained_configuration(
    folders: dict[str, Path],
) -> None:
    assert DatasetFolder.of(NAME).model("sam_vit_b") == folders["results"] / NAME / "sam_vit_b"


def test_dataset_folder_follows_the_environment_variables(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = DatasetFolder.of(NAME)
    monkeypatch.setenv("samnet_results", str(tmp_path / "elsewhere"))
    assert DatasetFolder.of(NAME).results == tmp_path / "elsewhere" / NAME
    assert before.results == folders["results"] / NAME


@pytest.mark.parametrize("kind", ["raw", "preprocessed", "results"])
@pytest.mark.parametrize("identifier", [8, "008", NAME])
def test_find_dataset_folder_needs_one_of_the_three_folders(
    folders: dict[str, Path], kind: str, identifier: str | int
) -> None:
    (folders[kind] / NAME).mkdir()
    assert DatasetFolder.find(identifier) == DatasetFolder.of(NAME)


def test_find_dataset_folder_refuses_an_unknown_data_set(folders: dict[str, Path]) -> None:
    with pytest.raises(UserError, match="no data set '9'"):
        DatasetFolder.find(9)


def test_dataset_folder_has_the_paths_of_a_written_data_set(
    folders: dict[str, Path], make_dataset: Callable[..., Path]
) -> None:
    written = make_dataset(folders["raw"], num_cases=1, num_test=1)
    folder = DatasetFolder.find(501)
    assert folder.raw == written
    assert folder.description_file.is_file()
    for part in ("training_images", "training_labels", "test_images", "test_labels"):
        assert len(list(getattr(folder, part).iterdir())) == 1
    assert RawDataset.load(501).folder == folder
    assert RawDataset.read(folder) == RawDataset.load(501)
