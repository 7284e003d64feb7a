"""Values of DICOM headers that are stated in several places, or in another form than usual."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from builders.dicom import write_enhanced, write_object
from pydicom.uid import CTImageStorage, NuclearMedicineImageStorage

from samnet.dataset.images import read_image

SCAN = np.random.default_rng(0).integers(0, 1000, (3, 6, 4)).astype(np.uint16)
PLACE = {
    "ImagePositionPatient": [-20.0, 30.0, 7.0],
    "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
}
HEIGHTS = {"ImagePositionPatient": [[-20.0, 30.0, 3.0 * number] for number in range(len(SCAN))]}


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        ({"SpacingBetweenSlices": 3.0, "SliceThickness": 5.0}, 3.0),
        ({"SpacingBetweenSlices": -3.0}, 3.0),
        ({"SliceThickness": 5.0}, 5.0),
        ({}, 1.0),
    ],
)
def test_single_slice_is_as_thick_as_the_distance_of_slices(
    tmp_path: Path, stated: dict[str, float], expected: float
) -> None:
    elements: dict[str, Any] = {"PixelSpacing": [0.7, 0.5], **PLACE, **stated}
    write_object(tmp_path / "a.dcm", CTImageStorage, SCAN[0], Modality="CT", **elements)
    assert read_image([tmp_path]).grid.spacing == pytest.approx((expected, 0.7, 0.5))


def test_what_a_frame_states_comes_before_what_all_share(tmp_path: Path) -> None:
    own = {**HEIGHTS, "RescaleSlope": [2, 3, 4]}
    write_enhanced(tmp_path / "a.dcm", SCAN, own, {"RescaleSlope": 9})
    expected = SCAN.astype(int) * np.array([2, 3, 4])[:, None, None]
    assert np.array_equal(read_image([tmp_path]).array[0], expected)


def test_private_groups_of_a_frame_are_not_read(tmp_path: Path) -> None:
    """Makers repeat values of another meaning there."""
    file = tmp_path / "a.dcm"
    dataset = write_enhanced(file, SCAN, HEIGHTS)
    values = pydicom.Dataset()
    values.RescaleSlope = 7
    for frame in dataset.PerFrameFunctionalGroupsSequence:
        frame.private_block(0x2005, "Maker", create=True).add_new(0x0F, "SQ", [values])
    dataset.save_as(file)
    assert np.array_equal(read_image([tmp_path]).array[0], SCAN)


def test_tomogram_lies_where_its_first_frame_does(tmp_path: Path) -> None:
    """The frames are stored backwards: the position is that of the highest."""
    detector = pydicom.Dataset()
    for keyword, value in PLACE.items():
        setattr(detector, keyword, value)
    write_object(
        tmp_path / "a.dcm",
        NuclearMedicineImageStorage,
        SCAN,
        Modality="NM",
        PixelSpacing=[0.7, 0.5],
        SpacingBetweenSlices=4.0,
        SliceVector=[3, 2, 1],
        DetectorInformationSequence=[detector],
    )
    image = read_image([tmp_path])
    assert np.array_equal(image.array[0], SCAN[::-1])
    assert np.allclose(image.grid.affine[:3, 3], (20.0, -30.0, 7.0 - 2 * 4.0))


def test_inverted_grey_of_signed_values_is_undone(tmp_path: Path) -> None:
    stored = SCAN[0].astype(np.int16) - 500
    write_object(
        tmp_path / "a.dcm",
        "1.2.840.10008.5.1.4.1.1.1.1",
        stored,
        Modality="DX",
        PhotometricInterpretation="MONOCHROME1",
    )
    assert np.array_equal(read_image([tmp_path]).array[0, 0], -1 - stored)
