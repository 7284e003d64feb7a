"""The made data set: complete, reproducible, right in space, and no trap of its own making."""

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest

from samnet.core.errors import UserError
from samnet.dataset.cases import find_image_files
from samnet.dataset.description import DatasetDescription
from samnet.dataset.images import Image, read_image, read_labels
from samnet.demo import anatomy
from samnet.demo.abdomen import LABELS
from samnet.demo.anatomy import DATASET_NAME, ORIENTATIONS, make_case, make_demo_dataset

NUM_TRAINING, NUM_TEST = 4, 1


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("raw")
    make_demo_dataset(folder, NUM_TRAINING, NUM_TEST, seed=3)
    return folder / DATASET_NAME


@pytest.fixture(scope="module")
def cases(dataset) -> dict[str, tuple[Image, Image]]:
    loaded = {}
    for part in ("Tr", "Ts"):
        for name, files in find_image_files(dataset / f"images{part}", ".nii.gz").items():
            loaded[name] = (
                read_image(files),
                read_labels(dataset / f"labels{part}" / f"{name}.nii.gz"),
            )
    return loaded


def centre_in_world(labels: Image, name: str) -> np.ndarray:
    """The centre of a structure in mm, (right, front, head)."""
    z_y_x = np.argwhere(labels.array[0] == LABELS[name]).mean(axis=0)
    return labels.grid.affine[:3, :3] @ z_y_x[::-1] + labels.grid.affine[:3, 3]


def test_layout_is_that_of_nnunet(dataset, cases):
    description = DatasetDescription.load(dataset / "dataset.json")
    assert description.labels == LABELS
    assert description.num_training == NUM_TRAINING
    assert description.channel_names == ("CT",)
    assert sorted(cases) == [f"demo_{index:03d}" for index in range(NUM_TRAINING + NUM_TEST)]
    assert (
        len(list((dataset / "imagesTr").iterdir()))
        == len(list((dataset / "labelsTr").iterdir()))
        == NUM_TRAINING
    )
    assert (
        len(list((dataset / "imagesTs").iterdir()))
        == len(list((dataset / "labelsTs").iterdir()))
        == NUM_TEST
    )


def test_every_label_is_in_every_case_on_the_grid_of_its_image(cases):
    for image, labels in cases.values():
        counts = np.bincount(labels.array.ravel())
        assert len(counts) == len(LABELS)
        assert counts.min() > 300
        assert labels.grid.is_close_to(image.grid, 1e-4)


def test_volumes_are_small_anisotropic_hounsfield_units(cases):
    for image, _ in cases.values():
        assert image.array.dtype == np.int16
        assert image.array.nbytes < 1 << 20
        assert image.array.min() >= -1024
        assert image.array.max() <= 3071
        assert max(image.grid.spacing) / min(image.grid.spacing) > 1.5
    assert len({image.grid.spacing for image, _ in cases.values()}) == len(cases)


def test_organs_lie_on_their_side_of_the_patient(cases):
    for _, labels in cases.values():
        left, right, aorta, liver, spleen = (
            centre_in_world(labels, name)
            for name in ("left_kidney", "right_kidney", "aorta", "liver", "spleen")
        )
        assert left[0] + 20 < aorta[0] < right[0] - 20
        assert spleen[0] < aorta[0] < liver[0]
        assert liver[1] > max(left[1], right[1])
        assert liver[2] > max(left[2], right[2])


def test_orientations_differ_and_are_oblique(cases):
    affines = [image.grid.affine for image, _ in cases.values()]
    assert {"".join(nibabel.aff2axcodes(affine)) for affine in affines} == set(ORIENTATIONS)
    for affine in affines:
        directions = np.abs(affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0))
        assert 0.9 < directions.max(axis=0).min() < 0.9999


def test_both_forms_of_the_header_say_the_same(dataset):
    for file in dataset.rglob("*.nii.gz"):
        header = nibabel.load(file).header
        np.testing.assert_allclose(header.get_qform(), header.get_sform(), atol=1e-3)
        assert header["qform_code"] == header["sform_code"] == 1


def test_densities_tell_tissues_apart_but_not_the_kidneys(cases):
    for image, labels in cases.values():
        mean = {name: image.array[labels.array == value].mean() for name, value in LABELS.items()}
        assert 60 < mean["liver"] < mean["spleen"] + 5 < mean["left_kidney"]
        assert abs(mean["left_kidney"] - mean["right_kidney"]) < 15
        assert np.percentile(image.array, 1) < -900
        in_fat = (image.array > -150) & (image.array < -50)
        assert (in_fat & (labels.array == LABELS["liver"])).sum() < 0.01 * (
            labels.array == LABELS["liver"]
        ).sum()
        assert in_fat.mean() > 0.05


def test_a_case_depends_on_seed_and_number_only(dataset, tmp_path):
    make_demo_dataset(tmp_path, 1, 1, seed=3)
    for part, source in (("Tr", "Tr"), ("Ts", "Tr")):
        for kind in ("images", "labels"):
            for file in (tmp_path / DATASET_NAME / f"{kind}{part}").iterdir():
                assert file.read_bytes() == (dataset / f"{kind}{source}" / file.name).read_bytes()


def test_cases_and_seeds_differ():
    first, other_case, other_seed = (make_case(*numbers)[1] for numbers in ((0, 0), (0, 1), (1, 0)))
    for other in (other_case, other_seed):
        assert first.shape != other.shape or (first != other).mean() > 0.01


def test_made_again_it_stays_and_another_recipe_is_refused(dataset):
    before = {file: file.stat().st_mtime_ns for file in dataset.rglob("*")}
    make_demo_dataset(dataset.parent, NUM_TRAINING, NUM_TEST, seed=3)
    assert before == {file: file.stat().st_mtime_ns for file in dataset.rglob("*")}
    with pytest.raises(UserError, match="remove the folder"):
        make_demo_dataset(dataset.parent, NUM_TRAINING, NUM_TEST, seed=4)


def test_a_foreign_folder_is_left_alone(tmp_path):
    (tmp_path / DATASET_NAME).mkdir()
    (tmp_path / DATASET_NAME / "dataset.json").write_text(json.dumps({"labels": {}}))
    with pytest.raises(UserError, match=DATASET_NAME):
        make_demo_dataset(tmp_path, 1, 0, seed=0)
    assert [file.name for file in tmp_path.rglob("*")] == [DATASET_NAME, "dataset.json"]


def test_a_failure_leaves_nothing(tmp_path, monkeypatch):
    original = anatomy._write_case

    def fail_at_the_second(folder, part, index, seed):
        if index == 1:
            raise OSError("disk full")
        original(folder, part, index, seed)

    monkeypatch.setattr(anatomy, "_write_case", fail_at_the_second)
    with pytest.raises(OSError, match="disk full"):
        make_demo_dataset(tmp_path, 2, 0, seed=0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("numbers", [(0, 1, 0), (1, -1, 0), (1, 0, -1)])
def test_unusable_numbers_are_refused(tmp_path, numbers):
    with pytest.raises(UserError, match="at least 1 training case"):
        make_demo_dataset(tmp_path, *numbers)
    assert list(tmp_path.iterdir()) == []
