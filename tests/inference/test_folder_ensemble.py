"""Averages of saved probabilities."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest

from samnet.core.errors import SamnetError, UserError
from samnet.inference.folder_ensemble import ensemble_folders
from samnet.inference.probability_files import probability_file
from samnet.inference.warning_file import read_warnings

SHAPE = (5, 6, 7)  # Z, Y, X
CLASSES = {"labels": {"background": 0, "one": 1, "two": 2}}
REGIONS = {
    "labels": {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "centre": 3},
    "regions_class_order": [1, 2, 3],
}
AFFINE = np.diag([1.0, 1.5, -2.0, 1.0])


def write_folder(
    folder: Path,
    cases: str = "ab",
    *,
    seed: int = 0,
    description: dict = CLASSES,
    affine: np.ndarray = AFFINE,
) -> Path:
    """Write what a prediction leaves: label maps without content, and random probabilities."""
    folder.mkdir()
    content = {"channel_names": {"0": "CT"}, "file_ending": ".nii.gz", **description}
    (folder / "dataset.json").write_text(json.dumps(content))
    for number, case in enumerate(cases):
        image = nibabel.Nifti1Image(np.zeros(SHAPE[::-1], np.uint8), affine)
        nibabel.save(image, folder / f"{case}.nii.gz")
        generator = np.random.default_rng(10 * seed + number)
        probabilities = generator.random((3, *SHAPE)).astype(np.float16)
        np.savez_compressed(probability_file(folder, case), probabilities=probabilities)
    return folder


def read_probabilities(folder: Path, case: str) -> np.ndarray:
    return np.load(probability_file(folder, case))["probabilities"].astype(np.float64)


def read_labels(folder: Path, case: str) -> np.ndarray:
    """Return labels `(Z, Y, X)`."""
    return np.asarray(nibabel.load(folder / f"{case}.nii.gz").dataobj).T


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    return [write_folder(tmp_path / name, seed=seed) for seed, name in enumerate(("p", "q"))]


@pytest.mark.parametrize("slab_bytes", [1, 4 * 6 * 7 * 2, 2**27])
@pytest.mark.parametrize("weights", [None, (3.0, 1.0)])
def test_label_maps_are_those_of_the_weighted_mean(
    tmp_path: Path, folders: list[Path], weights: tuple[float, ...] | None, slab_bytes: int
) -> None:
    output = tmp_path / "out"
    ensemble_folders(
        folders, output, weights=weights, save_probabilities=True, slab_bytes=slab_bytes
    )
    for case in "ab":
        both = [read_probabilities(folder, case) for folder in folders]
        expected = np.average(both, axis=0, weights=weights)
        assert np.array_equal(read_labels(output, case), expected.argmax(0))
        assert np.abs(read_probabilities(output, case) - expected).max() < 3e-4
        written = nibabel.load(output / f"{case}.nii.gz")
        assert np.array_equal(written.affine, AFFINE)
        assert written.get_data_dtype() == np.uint8
    assert json.loads((output / "dataset.json").read_text())["labels"] == CLASSES["labels"]


def test_regions_are_drawn_over_each_other(tmp_path: Path) -> None:
    folders = [
        write_folder(tmp_path / name, "a", seed=seed, description=REGIONS)
        for seed, name in enumerate("pq")
    ]
    ensemble_folders(folders, tmp_path / "out")
    mean = np.mean([read_probabilities(folder, "a") for folder in folders], axis=0)
    expected = np.zeros(SHAPE, int)
    for label, probability in zip((1, 2, 3), mean, strict=True):
        expected[probability > 0.5] = label
    assert np.array_equal(read_labels(tmp_path / "out", "a"), expected)
    assert not probability_file(tmp_path / "out", "a").exists()


def test_an_empty_mean_is_among_the_warnings(tmp_path: Path, folders: list[Path]) -> None:
    for folder in folders:
        array = np.zeros((3, *SHAPE), np.float16)
        array[0] = 1
        np.savez(probability_file(folder, "a"), probabilities=array)
    ensemble_folders(folders, tmp_path / "out")
    assert list(read_warnings(tmp_path / "out")) == ["a"]


def test_missing_cases_are_named_before_anything_is_written(
    tmp_path: Path, folders: list[Path]
) -> None:
    probability_file(folders[1], "a").unlink()
    probability_file(folders[0], "b").unlink()
    with pytest.raises(UserError, match=r"every case needs .*\n.*/p/b\.npz\n.*/q/a\.npz$"):
        ensemble_folders(folders, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_folders_of_other_labels_are_refused_by_name(tmp_path: Path, folders: list[Path]) -> None:
    other = write_folder(
        tmp_path / "r", description={"labels": {"background": 0, "two": 1, "one": 2}}
    )
    with pytest.raises(UserError, match=r"r/dataset\.json: has the labels .*p/dataset\.json has"):
        ensemble_folders([*folders, other], tmp_path / "out")


def test_a_case_that_cannot_be_averaged_stops_no_other(tmp_path: Path, folders: list[Path]) -> None:
    moved = write_folder(tmp_path / "r", "abcdef", affine=AFFINE + 9 * np.eye(4, k=3))
    first = write_folder(tmp_path / "s", "abcdef")
    for case in "ef":
        (moved / f"{case}.nii.gz").write_bytes((first / f"{case}.nii.gz").read_bytes())
    for case in "bd":
        (moved / f"{case}.nii.gz").unlink()
    np.savez(probability_file(moved, "e"), probabilities=np.zeros((2, *SHAPE), np.float16))
    with pytest.raises(SamnetError, match="failed for 5 of 6 cases") as caught:
        ensemble_folders([first, moved], tmp_path / "out", save_probabilities=True)
    message = str(caught.value)
    for part in (
        "a: ",
        "r/a.nii.gz: lies",
        "r: no label map of the case",
        r"r/e.npz: has the shape (2, 5, 6, 7); expected (3, 5, 6, 7)",
    ):
        assert part in message
    names = sorted(file.name for file in (tmp_path / "out").iterdir())
    assert names == ["dataset.json", "f.nii.gz", "f.npz"]


@pytest.mark.parametrize(
    ("names", "weights", "message"),
    [
        ("p", None, "at least two folders"),
        ("pp", None, r"p: is named twice"),
        ("px", None, r"x: no such folder"),
        ("pq", (1.0,), r"--weights has 1 numbers for 2 folders"),
        ("pq", (1.0, 0.0), r"--weights \[1.0, 0.0\]: each has to be a number above 0"),
    ],
)
@pytest.mark.usefixtures("folders")
def test_folders_and_weights_that_do_not_fit_are_refused(
    tmp_path: Path, names: str, weights: tuple[float, ...] | None, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        ensemble_folders([tmp_path / name for name in names], tmp_path / "out", weights=weights)


def test_label_maps_of_the_input_are_never_replaced(folders: list[Path]) -> None:
    with pytest.raises(UserError, match=r"q: its label maps would be replaced"):
        ensemble_folders(folders, folders[1])


def test_folders_without_probabilities_are_refused(tmp_path: Path, folders: list[Path]) -> None:
    for folder in folders:
        for case in "ab":
            probability_file(folder, case).unlink()
    with pytest.raises(UserError, match=r"p: holds no probabilities; .*--save-probabilities"):
        ensemble_folders(folders, tmp_path / "out")
