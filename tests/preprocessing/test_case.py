"""The geometry contract: a label map that goes through preprocessing comes back exactly."""

from __future__ import annotations

import itertools
from pathlib import Path

import nibabel
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from samnet.core.geometry import Grid, spacing_affine
from samnet.dataset.images import read_image, read_labels, write_labels
from samnet.preprocessing.case import prepare_labels, prepare_volume

SHAPE = (7, 9, 11)
ORIENTATIONS = [
    (order, signs)
    for order in itertools.permutations(range(3))
    for signs in itertools.product((1, -1), repeat=3)
]


def turned_affine(
    order: tuple[int, ...], signs: tuple[int, ...], degrees: float = 0.0
) -> np.ndarray:
    """Voxel axis i runs along world axis `order[i]`, then everything is turned about an oblique axis."""
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis, spacing in enumerate((0.8, 1.1, 3.0)):
        affine[order[axis], axis] = signs[axis] * spacing
    affine[:3, :3] = (
        Rotation.from_rotvec(np.radians(degrees) * np.array([2, -1, 1])).as_matrix()
        @ affine[:3, :3]
    )
    affine[:3, 3] = (-20.0, 13.0, 40.0)
    return affine


def image_and_labels(margin: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """An image `(1, Z, Y, X)` with zeros around, and labels of single voxels, pairs and a block, one in the margin."""
    generator = np.random.default_rng(3)
    image = generator.integers(1, 100, (1, *SHAPE)).astype(np.int16)
    if margin:
        image[:, :margin] = image[:, :, -margin:] = image[:, :, :, :margin] = 0
    labels = generator.choice(6, SHAPE, p=[0.9, 0.02, 0.02, 0.02, 0.02, 0.02]).astype(np.uint8)
    labels[0, -1, 0], labels[-1, 0, -1] = 1, 2
    labels[3:5, 4:6, 2:4] = 7
    return image, labels


@pytest.mark.parametrize("margin", [0, 2])
@pytest.mark.parametrize("degrees", [0.0, 15.0])
@pytest.mark.parametrize(("order", "signs"), ORIENTATIONS)
def test_labels_come_back_exactly(
    order: tuple[int, ...], signs: tuple[int, ...], degrees: float, margin: int
) -> None:
    image, labels = image_and_labels(margin)
    volume = prepare_volume(image, Grid(SHAPE, turned_affine(order, signs, degrees)), labels)
    prepared = prepare_labels(labels, volume)
    assert prepared.shape == volume.array.shape[1:]
    assert np.array_equal(volume.restore(prepared), labels)
    assert np.array_equal(volume.restore(volume.array[0]), image[0])
    assert sorted(volume.spacing) == pytest.approx([0.8, 1.1, 3.0])


@pytest.mark.parametrize("voxel", [(0, 0, 0), (6, 8, 10), (3, 0, 10)])
def test_a_single_voxel_in_an_empty_image_comes_back(voxel: tuple[int, int, int]) -> None:
    labels = np.zeros(SHAPE, np.uint8)
    labels[voxel] = 1
    volume = prepare_volume(
        np.zeros((1, *SHAPE), np.float32),
        Grid(SHAPE, turned_affine((2, 0, 1), (1, -1, -1))),
        labels,
    )
    assert volume.array.shape == (1, 1, 1, 1)
    assert np.array_equal(volume.restore(prepare_labels(labels, volume)), labels)


def test_without_labels_the_margins_go_and_come_back_as_background() -> None:
    image, _ = image_and_labels(margin=2)
    volume = prepare_volume(image, Grid(SHAPE, np.eye(4)))
    assert volume.array.shape == (1, 5, 7, 9)
    restored = volume.restore(np.ones((5, 7, 9), np.uint8))
    assert np.array_equal(restored, image[0] > 0)


def test_a_margin_is_kept_where_any_channel_has_something() -> None:
    image = np.zeros((2, *SHAPE))
    image[0, 2, 3, 4] = image[1, 5, 3, 4] = 1
    assert prepare_volume(image, Grid(SHAPE, np.eye(4))).array.shape == (2, 4, 1, 1)


def test_negative_values_are_no_margin() -> None:
    image = np.full((1, *SHAPE), -1000, np.int16)
    assert prepare_volume(image, Grid(SHAPE, np.eye(4))).array.shape == (1, *SHAPE)


def test_an_image_of_nothing_keeps_its_shape() -> None:
    volume = prepare_volume(np.zeros((1, *SHAPE)), Grid(SHAPE, spacing_affine((3.0, 1.0, 1.0))))
    assert volume.array.shape == (1, *SHAPE)
    assert not volume.quantiles.any()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_voxels_that_are_no_number_become_0_and_the_caller_keeps_his_array(value: float) -> None:
    image = np.ones((1, *SHAPE), np.float32)
    image[0, 3, 3, 3] = value
    volume = prepare_volume(image, Grid(SHAPE, np.eye(4)))
    assert volume.array[0, 3, 3, 3] == 0
    assert np.isfinite(volume.quantiles).all()
    assert not np.isfinite(image[0, 3, 3, 3])


@pytest.mark.parametrize(("order", "signs"), ORIENTATIONS[::11])
def test_through_files_and_back_onto_the_grid_of_the_image(
    tmp_path: Path, order: tuple[int, ...], signs: tuple[int, ...]
) -> None:
    image, labels = image_and_labels(margin=1)
    affine = turned_affine(order, signs, 15.0)
    for name, array in (("image", image[0]), ("labels", labels)):
        nibabel.save(nibabel.Nifti1Image(array.transpose(), affine), tmp_path / f"{name}.nii.gz")
    read = read_image([tmp_path / "image.nii.gz"])
    native = read_labels(tmp_path / "labels.nii.gz").array[0]
    volume = prepare_volume(read.array, read.grid, native)
    write_labels(volume.restore(prepare_labels(native, volume)), read, tmp_path / "back.nii.gz")
    back = nibabel.load(tmp_path / "back.nii.gz")
    assert np.array_equal(np.asarray(back.dataobj), labels.transpose())
    assert np.allclose(back.affine, nibabel.load(tmp_path / "image.nii.gz").affine)


@pytest.mark.parametrize(("order", "signs"), ORIENTATIONS[::7])
def test_a_patient_looks_the_same_whatever_the_axes_of_the_file(
    order: tuple[int, ...], signs: tuple[int, ...]
) -> None:
    """Mirroring rules and slicing axes rest on it: canonical X is the patient's left-right axis, running right."""
    plain = np.zeros((1, 8, 8, 8), np.uint8)
    plain[0, 1, 2, 3:6] = 9
    plain[0, 5, 6, 7] = 4
    native = plain[0].transpose()  # (x, y, z)
    native = np.flip(np.transpose(native, order), [axis for axis in range(3) if signs[axis] < 0])
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis in range(3):
        affine[order[axis], axis] = signs[axis]
        affine[order[axis], 3] = 0 if signs[axis] > 0 else 7
    volume = prepare_volume(native.transpose()[None], Grid((8, 8, 8), affine))
    assert np.array_equal(volume.array, plain[:, 1:6, 2:7, 3:8])
