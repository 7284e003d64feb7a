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


def rotated_affine(
    order: tuple[int, ...], signs: tuple[int, ...], degrees: float = 0.0
) -> np.ndarray:
    """Voxel axis i runs along world axis `order[i]`; then all is rotated about an oblique axis."""
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis, spacing in enumerate((0.8, 1.1, 3.0)):
        affine[order[axis], axis] = signs[axis] * spacing
    rotation = Rotation.from_rotvec(np.radians(degrees) * np.array([2, -1, 1]))
    affine[:3, :3] = rotation.as_matrix() @ affine[:3, :3]
    affine[:3, 3] = (-20.0, 13.0, 40.0)
    return affine


def image_and_labels(margin: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """An image `(1, Z, Y, X)` and its labels `(Z, Y, X)`.

    The image has zeros around it. The labels are single voxels, pairs and a block; one of them lies
    in the margin.
    """
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
def test_labels_survive_preprocessing_exactly(
    order: tuple[int, ...], signs: tuple[int, ...], degrees: float, margin: int
) -> None:
    image, labels = image_and_labels(margin)
    volume = prepare_volume(image, Grid(SHAPE, rotated_affine(order, signs, degrees)), labels)
    prepared = prepare_labels(labels, volume)
    assert prepared.shape == volume.array.shape[1:]
    assert np.array_equal(volume.restore(prepared), labels)
    assert np.array_equal(volume.restore(volume.array[0]), image[0])
    assert sorted(volume.spacing) == pytest.approx([0.8, 1.1, 3.0])


@pytest.mark.parametrize("voxel", [(0, 0, 0), (6, 8, 10), (3, 0, 10)])
def test_single_labelled_voxel_of_an_empty_image_survives_preprocessing(
    voxel: tuple[int, int, int],
) -> None:
    labels = np.zeros(SHAPE, np.uint8)
    labels[voxel] = 1
    volume = prepare_volume(
        np.zeros((1, *SHAPE), np.float32),
        Grid(SHAPE, rotated_affine((2, 0, 1), (1, -1, -1))),
        labels,
    )
    assert volume.array.shape == (1, 1, 1, 1)
    assert np.array_equal(volume.restore(prepare_labels(labels, volume)), labels)


def test_prepare_volume_crops_empty_margins_and_restore_makes_them_background() -> None:
    image, _ = image_and_labels(margin=2)
    volume = prepare_volume(image, Grid(SHAPE, np.eye(4)))
    assert volume.array.shape == (1, 5, 7, 9)
    restored = volume.restore(np.ones((5, 7, 9), np.uint8))
    assert np.array_equal(restored, image[0] > 0)


def test_prepare_volume_keeps_what_any_channel_shows() -> None:
    image = np.zeros((2, *SHAPE))
    image[0, 2, 3, 4] = image[1, 5, 3, 4] = 1
    assert prepare_volume(image, Grid(SHAPE, np.eye(4))).array.shape == (2, 4, 1, 1)


def test_prepare_volume_does_not_crop_negative_values() -> None:
    image = np.full((1, *SHAPE), -1000, np.int16)
    assert prepare_volume(image, Grid(SHAPE, np.eye(4))).array.shape == (1, *SHAPE)


def test_prepare_volume_of_an_image_of_zeros_keeps_its_shape() -> None:
    volume = prepare_volume(np.zeros((1, *SHAPE)), Grid(SHAPE, spacing_affine((3.0, 1.0, 1.0))))
    assert volume.array.shape == (1, *SHAPE)
    assert not volume.quantiles.any()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_prepare_volume_replaces_nan_and_infinity_in_a_copy(value: float) -> None:
    image = np.ones((1, *SHAPE), np.float32)
    image[0, 3, 3, 3] = value
    volume = prepare_volume(image, Grid(SHAPE, np.eye(4)))
    assert volume.array[0, 3, 3, 3] == 0
    assert np.isfinite(volume.quantiles).all()
    assert not np.isfinite(image[0, 3, 3, 3])


@pytest.mark.parametrize(("order", "signs"), ORIENTATIONS[::11])
def test_labels_written_back_have_the_grid_of_the_image(
    tmp_path: Path, order: tuple[int, ...], signs: tuple[int, ...]
) -> None:
    image, labels = image_and_labels(margin=1)
    affine = rotated_affine(order, signs, 15.0)
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
def test_prepare_volume_is_the_same_for_every_orientation_of_the_file(
    order: tuple[int, ...], signs: tuple[int, ...]
) -> None:
    """Canonical X runs to the patient's right: the rules for mirroring and slicing depend on it."""
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


def test_zeros_that_were_cropped_count_as_the_lowest_intensity() -> None:
    """Otherwise the darkest tissue at the border of the crop would be outside."""
    image = np.zeros((1, 4, 30, 30), np.float32)
    image[..., 5:25, 5:25] = 300
    image[..., 5:12, 5:12] = 100
    grid = Grid((4, 30, 30), np.eye(4))
    volume = prepare_volume(image, grid)
    assert volume.array.shape == (1, 4, 20, 20)
    assert not volume.outside(0).any()
    image[..., 0, 0] = image[..., -1, -1] = 0.01  # the crop is the whole image
    assert prepare_volume(image, grid).outside(0).sum() == 4 * (30 * 30 - 22 * 22)
