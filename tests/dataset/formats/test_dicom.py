from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
from builders.dicom import AXIAL, remove_preamble, write_object, write_series
from pydicom.uid import (
    BasicTextSRStorage,
    ComputedRadiographyImageStorage,
    RTStructureSetStorage,
    SegmentationStorage,
)
from scipy.spatial.transform import Rotation

from samnet.core.errors import UserError
from samnet.dataset.formats.dicom_files import is_dicom
from samnet.dataset.images import label_ending_for, read_image, read_labels, write_labels

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
@pytest.mark.parametrize("degrees", [0.0, 25.0, 180.0])
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


@pytest.mark.parametrize("with_meta_information", [False, True])
@pytest.mark.parametrize("index", [0, 4])
def test_read_series_takes_slices_without_a_preamble(
    tmp_path: Path, index: int, with_meta_information: bool
) -> None:
    names = [f"{number}.dcm" for number in range(5)]
    write_series(tmp_path, SCAN, positions_along(np.array([0, 0, 3.0])), names=names)
    remove_preamble(tmp_path / names[index], with_meta_information)
    assert np.array_equal(read_image([tmp_path]).array[0], SCAN)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"a text that is longer than a preamble of DICOM has to be" * 5,
        b'{"labels": {"background": 0}}',
        b"\x08\x00\x05\x00CS\x0a\x00ISO_IR 100" + b"no more elements",
        b"\x02\x00\x00\x00\x04\x00\x00\x00" * 30,
        b"\x08\x00" * 100,
        bytes(400),
        (348).to_bytes(4, "little") + bytes(344) + b"n+1\0",
        b"\x89PNG\r\n\x1a\n" + bytes(200),
        b"II*\0\x08\x00\x00\x00" + bytes(200),
        b"\x1f\x8b\x08\x00" + bytes(200),
    ],
    ids=[
        "empty",
        "text",
        "json",
        "elements",
        "meta",
        "tags",
        "zeros",
        "nifti",
        "png",
        "tiff",
        "gz",
    ],
)
def test_is_dicom_does_not_take_other_files(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.dcm").write_bytes(content)
    assert not is_dicom(tmp_path / "a.dcm")


@pytest.mark.parametrize(
    ("sop_class", "modality", "array", "kind"),
    [
        (SegmentationStorage, "SEG", SCAN[:1].astype(np.uint16), "Segmentation Storage"),
        (RTStructureSetStorage, "RTSTRUCT", None, "RT Structure Set Storage"),
        (BasicTextSRStorage, "SR", None, "Basic Text SR Storage"),
    ],
)
def test_read_series_names_objects_that_are_no_images(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    sop_class: str,
    modality: str,
    array: np.ndarray | None,
    kind: str,
) -> None:
    write_series(tmp_path / "ct", SCAN, positions_along(np.array([0, 0, 3.0])))
    for folder in ("ct", "alone"):
        write_object(
            tmp_path / folder / "other.dcm",
            sop_class,
            array,
            Modality=modality,
            SeriesInstanceUID="1.2.9",
        )
    assert np.array_equal(read_image([tmp_path / "ct"]).array[0], SCAN)
    assert f"left out what is no image: other.dcm ({kind})" in caplog.text
    with pytest.raises(UserError, match=rf"no DICOM image in it, but other\.dcm \({kind}\)"):
        read_image([tmp_path / "alone"])


@pytest.mark.parametrize("jitter", [2e-3, 9e-3])
def test_read_series_takes_orientations_that_differ_by_rounding(
    tmp_path: Path, jitter: float
) -> None:
    names = [f"{number}.dcm" for number in range(5)]
    positions = positions_along(np.array([0, 0, 3.0]))
    for number in range(5):
        angle = jitter * (-1) ** number / 2
        turned = Rotation.from_rotvec([0, 0, angle]).as_matrix()[:2]
        write_series(
            tmp_path,
            SCAN[number : number + 1],
            positions[number : number + 1],
            turned,
            names=names[number : number + 1],
        )
    image = read_image([tmp_path])
    assert np.array_equal(image.array[0], SCAN)
    assert np.allclose(image.grid.affine @ (0, 0, 4, 1), (20.0, -30.0, -388.5, 1.0), atol=1e-3)


@pytest.mark.parametrize("name", ["T1.nii", "scan.nii.gz", "patient.tif"])
def test_folder_of_a_series_may_be_named_as_a_file(tmp_path: Path, name: str) -> None:
    write_series(tmp_path / name, SCAN, positions_along(np.array([0, 0, 3.0])))
    image = read_image([tmp_path / name])
    assert np.array_equal(image.array[0], SCAN)
    assert label_ending_for(tmp_path / name) == ".nii.gz"


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


def slices_of_two_spacings(folder: Path) -> None:
    positions = positions_along(np.array([0, 0, 3.0]))
    write_series(folder, SCAN[:4], positions[:4])
    write_series(folder, SCAN[4:], positions[4:], pixel_spacing=(0.7, 0.6), names=["wide"])


def copied_slice(folder: Path) -> None:
    write_series(folder, SCAN, positions_along(np.array([0, 0, 3.0])))
    shutil.copy(folder / "IM0000.dcm", folder / "copy.dcm")


def turned_slice(folder: Path) -> None:
    positions = positions_along(np.array([0, 0, 3.0]))
    write_series(folder, SCAN[:4], positions[:4])
    turned = Rotation.from_rotvec([0, 0, 0.02]).as_matrix()[:2]
    write_series(folder, SCAN[4:], positions[4:], turned, names=["turned"])


def empty_slice(folder: Path) -> None:
    write_series(folder, SCAN, positions_along(np.array([0, 0, 3.0])))
    (folder / "IM0099.dcm").touch()


def header_without_pixels(folder: Path) -> None:
    write_series(folder, SCAN, positions_along(np.array([0, 0, 3.0])))
    write_object(folder / "cut.dcm", "1.2.840.10008.5.1.4.1.1.2")


def two_echoes(folder: Path) -> None:
    for name, echo_time in (("a", 10.0), ("b", 80.0)):
        write_object(
            folder / name,
            "1.2.840.10008.5.1.4.1.1.4",
            SCAN[0],
            Modality="MR",
            EchoTime=echo_time,
            ImagePositionPatient=[0, 0, 0],
            ImageOrientationPatient=[value for vector in AXIAL for value in vector],
            PixelSpacing=[1, 1],
        )


def two_radiographs(folder: Path) -> None:
    for name in ("front", "side"):
        write_object(folder / name, ComputedRadiographyImageStorage, SCAN[0], Modality="CR")


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
        (
            slices_of_two_spacings,
            r"the pixels of .* are 0\.7 x 0\.5 mm, those of wide 0\.7 x 0\.6 mm",
        ),
        (
            copied_slice,
            r"IM0000\.dcm and copy\.dcm lie at one position.*at 5 positions; they may be copies",
        ),
        (turned_slice, r"turned is turned against IM0000\.dcm; remove localisers"),
        (empty_slice, r"IM0099\.dcm: is named as a slice, but is no DICOM file"),
        (header_without_pixels, r"cut\.dcm: cannot be read as an image .*no number of rows"),
        (two_echoes, r"a and b lie at one position.*differ in echo time 10\.0, 80\.0"),
        (two_radiographs, "front: has no ImagePositionPatient, which a slice of a volume needs"),
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
