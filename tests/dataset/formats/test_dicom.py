from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
from builders.dicom import write_series
from scipy.spatial.transform import Rotation

from samnet.core.errors import UserError
from samnet.dataset.formats.dicom_files import is_dicom
from samnet.dataset.images import read_image, read_labels, write_labels

SCAN = np.random.default_rng(0).integers(-1000, 1000, (5, 6, 4)).astype(np.int16)
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def positions_along(
    step: np.ndarray, first: tuple[float, float, float] = (-20.0, 30.0, -400.5)
) -> list[np.ndarray]:
    return [np.add(first, index * np.asarray(step)) for index in range(len(SCAN))]


def position_of_voxel(
    position: np.ndarray, orientation: np.ndarray, row: int, column: int
) -> np.ndarray:
    """Return the position of a voxel in RAS+ mm, by DICOM's equation (PS3.3 C.7.6.2.1-1).

    Rows lie 0.7 mm apart and columns 0.5 mm, as in `write_series`.
    """
    lps = position + orientation[0] * 0.5 * column + orientation[1] * 0.7 * row
    return LPS_TO_RAS[:3, :3] @ lps


@pytest.mark.parametrize("tilted", [False, True])
@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("degrees", [0.0, 25.0])
def test_read_series_places_voxels_where_the_slices_say(
    tmp_path: Path, degrees: float, backwards: bool, tilted: bool
) -> None:
    turn = Rotation.from_rotvec(np.radians(degrees) * np.array([1, -2, 2]) / 3).as_matrix()
    orientation, normal = turn[:2], turn[2]
    step = (-3.0 if backwards else 3.0) * normal + (0.8 * orientation[1] if tilted else 0.0)
    positions = positions_along(step)
    write_series(tmp_path / "ct", SCAN, positions, orientation)
    image = read_image([tmp_path / "ct"])
    order = range(len(SCAN))[::-1] if backwards else range(len(SCAN))
    assert np.array_equal(image.array[0], SCAN[list(order)])
    for number, index in enumerate(order):
        found = image.grid.affine @ (3, 5, number, 1)
        assert np.allclose(
            found[:3], position_of_voxel(positions[index], orientation, row=5, column=3), atol=1e-4
        )


@pytest.mark.parametrize("tilted", [False, True])
def test_label_map_of_a_series_is_nifti_on_its_grid(tmp_path: Path, tilted: bool) -> None:
    write_series(
        tmp_path / "ct", SCAN, positions_along(np.array([0.0, 0.9 if tilted else 0.0, 3.0]))
    )
    image = read_image([tmp_path / "ct"])
    labels = (image.array[0] > 0).astype(np.uint8)
    write_labels(labels, image, tmp_path / "labels.nii.gz")
    back = read_labels(tmp_path / "labels.nii.gz")
    assert np.array_equal(back.array[0], labels)
    assert back.grid.difference(image.grid, 1e-4) is None
    header = nibabel.load(tmp_path / "labels.nii.gz").header
    assert (int(header["sform_code"]), int(header["qform_code"])) == (1, 0 if tilted else 1)
    with pytest.raises(UserError, match=r"labels\.nrrd: the ending differs"):
        write_labels(labels, image, tmp_path / "labels.nrrd")


def test_read_series_ignores_file_names_and_other_files(tmp_path: Path) -> None:
    write_series(
        tmp_path,
        SCAN,
        positions_along(np.array([0, 0, 3.0])),
        names=["e", "b.dcm", "c.IMA", "a", "d"],
    )
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "e").rename(tmp_path / "z")
    assert np.array_equal(read_image([tmp_path]).array[0], SCAN)
    others = [name for name in os.listdir(tmp_path) if not is_dicom(tmp_path / name)]
    assert others == ["notes.txt"]


def test_read_series_reads_one_slice_as_a_volume(tmp_path: Path) -> None:
    write_series(tmp_path, SCAN[:1], positions_along(np.array([0, 0, 3.0]))[:1])
    image = read_image([tmp_path])
    assert image.array.shape == (1, 1, 6, 4)
    assert image.grid.spacing[1:] == pytest.approx((0.7, 0.5))
    assert np.allclose((image.grid.affine @ (0, 0, 0, 1))[:3], (20.0, -30.0, -400.5))


def test_find_series_folders_searches_all_subfolders(tmp_path: Path) -> None:
    write_series(tmp_path / "b" / "ct", SCAN[:1], positions_along(np.zeros(3))[:1])
    write_series(tmp_path / "a", SCAN[:1], positions_along(np.zeros(3))[:1])
    (tmp_path / "empty").mkdir()
    (tmp_path / "DICOMDIR").write_bytes((tmp_path / "a" / "IM0000.dcm").read_bytes())
    assert find_series_folders(tmp_path) == [tmp_path / "a", tmp_path / "b" / "ct"]


def missing_slice(folder: Path) -> None:
    positions = positions_along(np.array([0, 0, 3.0]))
    write_series(folder, SCAN[[0, 1, 3, 4]], [positions[index] for index in (0, 1, 3, 4)])


def repeated_position(folder: Path) -> None:
    write_series(folder, SCAN, [*positions_along(np.array([0, 0, 3.0]))[:4], (-20.0, 30.0, -400.5)])


def two_series(folder: Path) -> None:
    write_series(folder, SCAN, positions_along(np.array([0, 0, 3.0])))
    write_series(
        folder,
        SCAN[:2],
        positions_along(np.array([0, 0, 9.0]))[:2],
        series_uid="1.2.9",
        names=["x", "y"],
    )


def localiser_among_slices(folder: Path) -> None:
    write_series(folder, SCAN, positions_along(np.array([0, 0, 3.0])))
    write_series(folder, SCAN[:1], [(0.0, 0.0, 0.0)], ((0, 1, 0), (0, 0, -1)), names=["scout"])


def slices_of_two_sizes(folder: Path) -> None:
    positions = positions_along(np.array([0, 0, 3.0]))
    write_series(folder, SCAN[:4], positions[:4])
    write_series(folder, SCAN[4:, :3], positions[4:], names=["small"])


def broken_slice(folder: Path) -> None:
    write_series(folder, SCAN, positions_along(np.array([0, 0, 3.0])))
    (folder / "IM0000.dcm").write_bytes(bytes(128) + b"DICM" + b"cut")


def empty(folder: Path) -> None:
    folder.mkdir()


@pytest.mark.parametrize(
    ("write_faulty", "reason"),
    [
        (
            missing_slice,
            r"slices lie 3\.00 mm apart, but IM0007\.dcm and IM0003\.dcm 6\.00 mm; add the missing",
        ),
        (
            repeated_position,
            r"IM0000\.dcm and IM0006\.dcm lie at one position; keep one time point",
        ),
        (
            two_series,
            r"holds 2 series: series 1 \(5 files\), series 9 \(2 files\); put each into a folder",
        ),
        (localiser_among_slices, r"is turned against .*; remove localisers"),
        (slices_of_two_sizes, "its slices differ in size"),
        (broken_slice, r"IM0000\.dcm: cannot be read as an image"),
        (empty, "no DICOM file in it"),
    ],
)
def test_read_series_refuses_files_that_form_no_volume(
    tmp_path: Path, write_faulty: Callable[[Path], None], reason: str
) -> None:
    write_faulty(tmp_path / "ct")
    with pytest.raises(UserError, match=reason) as caught:
        read_image([tmp_path / "ct"])
    assert str(tmp_path / "ct") in str(caught.value)
