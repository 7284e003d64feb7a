from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
from builders.geometry import native_affine
from skimage import io

from samnet.core.errors import UserError
from samnet.core.geometry import Grid, spacing_affine
from samnet.dataset.alignment import read_aligned_image, resample
from samnet.dataset.cases import Case

SHAPE = (6, 7, 8)
COARSE = Grid(SHAPE, native_affine((1, 2, 0), (1, -1, 1), 17.0))


def ramp(grid: Grid) -> np.ndarray:
    """Return intensities `(1, Z, Y, X)` that rise evenly through space.

    Linear interpolation keeps them exactly.
    """
    z, y, x = np.meshgrid(*map(np.arange, grid.shape), indexing="ij")
    positions = np.stack([x, y, z], axis=-1) @ grid.affine[:3, :3].T + grid.affine[:3, 3]
    return (positions @ [1.0, 0.5, -2.0])[None]


def turned_within(grid: Grid) -> Grid:
    """Return a finer grid of other axes in the middle of `grid`."""
    centre = grid.affine @ [*(np.array(grid.shape[::-1]) - 1) / 2, 1]
    affine = native_affine((0, 2, 1), (-1, 1, 1), 30.0) @ np.diag([0.5, 0.5, 0.2, 1])
    affine[:3, 3] = centre[:3] - affine[:3, :3] @ [1.5, 1, 1]
    return Grid((3, 3, 4), affine)


def write(file: Path, array: np.ndarray, grid: Grid) -> Path:
    nibabel.save(nibabel.Nifti1Image(array.transpose(), grid.affine), file)
    return file


def test_resample_samples_space_where_the_target_lies() -> None:
    target = turned_within(COARSE)
    resampled, share = resample(ramp(COARSE), COARSE, target)
    assert share == 1
    assert np.allclose(resampled, ramp(target))


def test_resample_is_zero_outside_and_extends_half_a_voxel_over_the_edge() -> None:
    source = Grid((2, 2, 2), spacing_affine((1.0, 1.0, 1.0)))
    shifted = spacing_affine((1.0, 1.0, 0.25))
    shifted[0, 3] = -0.7
    array = np.full((1, 2, 2, 2), 200, np.uint8)
    resampled, share = resample(array, source, Grid((2, 2, 10), shifted))
    assert resampled.dtype == np.uint8
    assert resampled[0, 1, 1].tolist() == [0, *[200] * 8, 0]
    assert share == pytest.approx(8 / 10)


def test_resample_rounds_whole_numbers() -> None:
    source = Grid((1, 1, 2), np.eye(4))
    shifted = np.eye(4)
    shifted[0, 3] = 0.4
    target = Grid((1, 1, 1), shifted)
    resampled, _ = resample(np.array([[[[-3, -4]]]], np.int16), source, target)
    assert (resampled.dtype, resampled.item()) == (np.int16, -3)


def test_read_aligned_image_resamples_to_the_first_channel_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    target = turned_within(COARSE)
    first = write(tmp_path / "a_0000.nii.gz", np.ones(target.shape, np.float32), target)
    second = write(tmp_path / "a_0001.nii.gz", ramp(COARSE)[0].astype(np.float32), COARSE)
    image = read_aligned_image(Case("a", (first, second)))
    assert image.grid.shape == target.shape
    assert np.allclose(image.grid.affine, target.affine, atol=1e-5)
    assert np.allclose(image.array[1], ramp(target)[0], atol=1e-3)
    assert (image.array[0] == 1).all()
    (record,) = caplog.records
    assert record.message == (
        "case a: a_0001.nii.gz lies on another grid than a_0000.nii.gz: it was resampled to that "
        "(100 % of the voxels are covered)"
    )


def test_read_aligned_image_leaves_channels_on_one_grid_unchanged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    nearly = COARSE.affine.copy()
    nearly[0, 3] += 0.01
    array = np.random.default_rng(0).integers(0, 255, SHAPE).astype(np.uint8)
    files = (
        write(tmp_path / "0.nii", array, COARSE),
        write(tmp_path / "1.nii", array, Grid(SHAPE, nearly)),
    )
    assert np.array_equal(read_aligned_image(Case("a", files)).array, [array, array])
    assert not caplog.records


def test_read_aligned_image_refuses_channels_that_do_not_overlap(tmp_path: Path) -> None:
    far = COARSE.affine.copy()
    far[:3, 3] += 1000
    files = (
        write(tmp_path / "a_0000.nii", np.ones(SHAPE, np.uint8), COARSE),
        write(tmp_path / "a_0001.nii", np.ones(SHAPE, np.uint8), Grid(SHAPE, far)),
    )
    with pytest.raises(
        UserError, match=r"a_0001\.nii: does not overlap .*a_0000\.nii anywhere; register"
    ):
        read_aligned_image(Case("a", files))


def test_read_aligned_image_refuses_2d_images_of_two_sizes(tmp_path: Path) -> None:
    files = (tmp_path / "a_0000.png", tmp_path / "a_0001.png")
    for file, width in zip(files, (5, 6), strict=True):
        io.imsave(file, np.zeros((4, width), np.uint8), check_contrast=False)
    with pytest.raises(
        UserError,
        match=r"a_0001\.png: shape \(1, 4, 6\) .*; 2D images have no position in space",
    ):
        read_aligned_image(Case("a", files))


def test_read_aligned_image_names_all_files_that_cannot_be_used(tmp_path: Path) -> None:
    files = tuple(tmp_path / f"a_000{number}.nii" for number in range(3))
    files[0].write_bytes(b"no image")
    write(files[2], np.full(SHAPE, np.nan, np.float32), COARSE)
    with pytest.raises(
        UserError,
        match=r"a_0000\.nii: cannot.*a_0001\.nii: no such file; .*a_0002\.nii: 336 voxels",
    ):
        read_aligned_image(Case("a", files))


def test_read_aligned_image_refuses_a_case_whose_names_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^rename it$"):
        read_aligned_image(Case("a", (tmp_path / "a.nii",), fault="rename it"))
