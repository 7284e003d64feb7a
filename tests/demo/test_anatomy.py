"""The synthetic data set: complete, reproducible, and correct in space."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest

from samnet.core.errors import UserError
from samnet.dataset.cases import find_image_files
from samnet.dataset.description import DatasetDescription
from samnet.dataset.images import Image, read_image, read_labels
from samnet.demo.abdomen import LABELS
from samnet.demo.anatomy import DATASET_NAME, ORIENTATIONS, make_case, make_demo_dataset

NUM_TRAINING, NUM_TEST = 4, 1
Cases = dict[str, tuple[Image, Image]]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("raw")
    make_demo_dataset(folder, NUM_TRAINING, NUM_TEST, seed=3)
    return folder / DATASET_NAME


@pytest.fixture(scope="module")
def cases(dataset: Path) -> Cases:
    """Image and label map of every case by its name."""
    loaded = {}
    for part in ("Tr", "Ts"):
        for name, files in find_image_files(dataset / f"images{part}", ".nii.gz").items():
            labels = read_labels(dataset / f"labels{part}" / f"{name}.nii.gz")
            loaded[name] = (read_image(files), labels)
    return loaded


def centre_in_world(labels: Image, name: str) -> np.ndarray:
    """Return the centre of a structure in mm, as (right, front, head)."""
    z_y_x = np.argwhere(labels.array[0] == LABELS[name]).mean(axis=0)
    return labels.grid.affine[:3, :3] @ z_y_x[::-1] + labels.grid.affine[:3, 3]


def test_demo_dataset_has_the_layout_of_nnunet(dataset: Path, cases: Cases) -> None:
    description = DatasetDescription.load(dataset / "dataset.json")
    assert description.label_scheme.labels == LABELS
    assert description.num_training == NUM_TRAINING
    assert description.channel_names == ("CT",)
    assert sorted(cases) == [f"demo_{index:03d}" for index in range(NUM_TRAINING + NUM_TEST)]
    for part, count in (("Tr", NUM_TRAINING), ("Ts", NUM_TEST)):
        assert len(list((dataset / f"images{part}").iterdir())) == count
        assert len(list((dataset / f"labels{part}").iterdir())) == count


def test_demo_labels_are_complete_and_on_the_grid_of_their_image(cases: Cases) -> None:
    for image, labels in cases.values():
        counts = np.bincount(labels.array.ravel())
        assert len(counts) == len(LABELS)
        assert counts.min() > 300
        assert labels.grid.difference(image.grid, tolerance=1e-4) is None


def test_demo_images_are_small_anisotropic_and_in_hounsfield_units(cases: Cases) -> None:
    for image, _ in cases.values():
        assert image.array.dtype == np.int16
        assert image.array.nbytes < 1 << 20
        assert image.array.min() >= -1024
        assert image.array.max() <= 3071
        assert max(image.grid.spacing) / min(image.grid.spacing) > 1.5
    assert len({image.grid.spacing for image, _ in cases.values()}) == len(cases)


def test_demo_organs_lie_on_the_correct_side_of_the_patient(cases: Cases) -> None:
    for _, labels in cases.values():
        left, right, aorta, liver, spleen = (
            centre_in_world(labels, name)
            for name in ("left_kidney", "right_kidney", "aorta", "liver", "spleen")
        )
        assert left[0] + 20 < aorta[0] < right[0] - 20
        assert spleen[0] < aorta[0] < liver[0]
        assert liver[1] > max(left[1], right[1])
        assert liver[2] > max(left[2], right[2])


def test_demo_orientations_differ_and_are_oblique(cases: Cases) -> None:
    affines = [image.grid.affine for image, _ in cases.values()]
    assert {"".join(nibabel.aff2axcodes(affine)) for affine in affines} == set(ORIENTATIONS)
    for affine in affines:
        directions = np.abs(affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0))
        assert 0.9 < directions.max(axis=0).min() < 0.9999


def test_demo_headers_hold_equal_qform_and_sform(dataset: Path) -> None:
    for file in dataset.rglob("*.nii.gz"):
        header = nibabel.load(file).header
        np.testing.assert_allclose(header.get_qform(), header.get_sform(), atol=1e-3)
        assert header["qform_code"] == header["sform_code"] == 1


def test_demo_densities_differ_between_organs_but_not_between_kidneys(cases: Cases) -> None:
    for image, labels in cases.values():
        mean = {name: image.array[labels.array == value].mean() for name, value in LABELS.items()}
        assert 60 < mean["liver"] < mean["spleen"] + 5 < mean["left_kidney"]
        assert abs(mean["left_kidney"] - mean["right_kidney"]) < 15
        assert np.percentile(image.array, 1) < -900
        in_fat = (image.array > -150) & (image.array < -50)
        in_liver = labels.array == LABELS["liver"]
        assert (in_fat & in_liver).sum() < 0.01 * in_liver.sum()
        assert in_fat.mean() > 0.05


def test_demo_case_depends_only_on_seed_and_number(dataset: Path, tmp_path: Path) -> None:
    make_demo_dataset(tmp_path, 1, 1, seed=3)
    for part in ("Tr", "Ts"):  # the test case here is a training case of the larger data set
        for kind in ("images", "labels"):
            for file in (tmp_path / DATASET_NAME / f"{kind}{part}").iterdir():
                assert file.read_bytes() == (dataset / f"{kind}Tr" / file.name).read_bytes()


def test_demo_cases_differ_by_number_and_by_seed() -> None:
    _, first, _ = make_case(seed=0, index=0)
    for seed, index in ((0, 1), (1, 0)):
        _, other, _ = make_case(seed, index)
        assert first.shape != other.shape or (first != other).mean() > 0.01


def test_demo_dataset_is_kept_and_another_recipe_refused(dataset: Path) -> None:
    before = {file: file.stat().st_mtime_ns for file in dataset.rglob("*")}
    make_demo_dataset(dataset.parent, NUM_TRAINING, NUM_TEST, seed=3)
    assert before == {file: file.stat().st_mtime_ns for file in dataset.rglob("*")}
    with pytest.raises(UserError, match="remove the folder"):
        make_demo_dataset(dataset.parent, NUM_TRAINING, NUM_TEST, seed=4)


def test_demo_dataset_does_not_touch_another_data_set(tmp_path: Path) -> None:
    (tmp_path / DATASET_NAME).mkdir()
    (tmp_path / DATASET_NAME / "dataset.json").write_text(json.dumps({"labels": {}}))
    with pytest.raises(UserError, match=DATASET_NAME):
        make_demo_dataset(tmp_path, 1, 0, seed=0)
    assert [file.name for file in tmp_path.rglob("*")] == [DATASET_NAME, "dataset.json"]


def test_demo_dataset_leaves_nothing_after_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = nibabel.save

    def fail_at_the_second_case(image: nibabel.Nifti1Image, file: Path) -> None:
        if file.name.startswith("demo_001"):
            raise OSError("disk full")
        save(image, file)

    monkeypatch.setattr(nibabel, "save", fail_at_the_second_case)
    with pytest.raises(OSError, match="disk full"):
        make_demo_dataset(tmp_path, 2, 0, seed=0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("numbers", [(0, 1, 0), (1, -1, 0), (1, 0, -1)])
def test_demo_dataset_refuses_numbers_out_of_range(
    tmp_path: Path, numbers: tuple[int, int, int]
) -> None:
    with pytest.raises(UserError, match="at least 1 training case"):
        make_demo_dataset(tmp_path, *numbers)
    assert list(tmp_path.iterdir()) == []
