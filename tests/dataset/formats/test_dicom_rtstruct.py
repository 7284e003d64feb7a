"""Predictions as structure sets: read back by the converter, and by rules written down here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from builders.dicom import FRAME_UID, SERIES_UID, STUDY_UID, write_enhanced
from builders.models import make_plan
from builders.structure_sets import OBLIQUE, OBLIQUE_NORMAL, Volume
from skimage.draw import polygon2mask

from samnet.cli.convert_dicom import main as convert_dicom
from samnet.core.errors import UserError
from samnet.core.paths import raw_folder
from samnet.dataset.cases import Case
from samnet.dataset.formats.outlines import find_outlines
from samnet.dataset.images import read_labels
from samnet.dataset.label_scheme import LabelScheme
from samnet.inference.dicom_output import DicomOutput
from samnet.inference.files import predict_cases
from samnet.inference.predictor import Prediction

SHAPE = (7, 30, 34)
SERIES = {
    "axial": Volume(SHAPE, pixels=(0.7, 0.5), step=(0.0, 0.0, 2.5)),
    "oblique": Volume(SHAPE, orientation=OBLIQUE, step=tuple(2.5 * np.array(OBLIQUE_NORMAL))),
    "tilted": Volume(SHAPE, step=(0.0, 0.8, 2.5)),
}
CLASSES = LabelScheme({"background": 0, "ring": 1, "größe": 2, "absent": 3})


class FakePredictor:
    def __init__(self, labels: np.ndarray, scheme: LabelScheme = CLASSES) -> None:
        self.labels, self.plan = labels, replace(make_plan(), label_scheme=scheme)

    def predict_and_check(self, array: np.ndarray, grid: object) -> Prediction:
        return Prediction(self.labels)


def shapes() -> np.ndarray:
    """Return a ring with two holes and an island in one, and a part of scattered pixels."""
    _, y, x = np.indices(SHAPE)
    labels = np.zeros(SHAPE, np.uint8)
    distance = np.hypot(y - 14, x - 12)
    labels[1:6][distance[1:6] < 11] = 1
    labels[2:5][distance[2:5] < 7] = 0
    labels[2:5][distance[2:5] < 3] = 1
    labels[3, 5:7, 11:13] = 0
    scattered = np.random.default_rng(0).random(SHAPE) > 0.5
    labels[:, :, 30:][scattered[:, :, 30:]] = 2
    return labels


def write(
    tmp_path: Path, volume: Volume, labels: np.ndarray, scheme: LabelScheme = CLASSES
) -> Path:
    volume.write(tmp_path / "studies" / "ct")
    case = Case("anna", (tmp_path / "studies" / "ct",))
    output = tmp_path / "studies" / "out"
    predict_cases(
        FakePredictor(labels, scheme), [case], output, dicom_output=DicomOutput.STRUCTURE_SET
    )
    return output / "anna.dcm"


def read_by_rules(file: Path, volume: Volume) -> dict[str, np.ndarray]:
    """Read a structure set with pydicom and scikit-image alone, by the images that it refers to."""
    images = [f"{SERIES_UID}.{number + 1}" for number in range(volume.shape[0])]
    dataset = pydicom.dcmread(file)
    names = {item.ROINumber: item.ROIName for item in dataset.StructureSetROISequence}
    masks = {}
    for region in dataset.ROIContourSequence:
        mask = np.zeros(volume.shape, bool)
        for contour in region.get("ContourSequence", []):
            assert contour.ContourGeometricType == "CLOSED_PLANAR"
            number = images.index(contour.ContourImageSequence[0].ReferencedSOPInstanceUID)
            points = np.array(contour.ContourData, float).reshape(-1, 3)
            assert len(points) == contour.NumberOfContourPoints
            offsets = points - volume.positions()[number]
            assert np.abs(offsets @ np.cross(*np.array(volume.orientation))).max() < 1e-3
            corners = offsets @ np.array(volume.orientation).T / volume.pixels[::-1]
            inside = polygon2mask(volume.shape[1:], corners[:, ::-1])
            assert not (mask[number] & inside).any()
            mask[number] |= inside
        masks[names[region.ReferencedROINumber]] = mask
    return masks


@pytest.mark.parametrize("series", SERIES)
def test_contours_are_read_back_to_the_voxel(
    tmp_path: Path, folders: dict[str, Path], series: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    volume = SERIES[series]
    file = write(tmp_path, volume, shapes())
    masks = read_by_rules(file, volume)
    assert list(masks) == ["ring", "größe", "absent"]
    for value, mask in enumerate(masks.values(), 1):
        assert np.array_equal(mask, shapes() == value)
    words = ["-i", str(tmp_path / "studies"), "-d", "7", "--name", "Organs"]
    assert convert_dicom(words) == 0
    (labels,) = (raw_folder() / "Dataset007_Organs" / "labelsTr").iterdir()
    assert np.array_equal(read_labels(labels).array[0], shapes())


def test_a_structure_set_belongs_to_the_study_of_its_series(tmp_path: Path) -> None:
    dataset = pydicom.dcmread(write(tmp_path, SERIES["axial"], shapes()))
    assert dataset.Modality == "RTSTRUCT"
    assert dataset.SOPClassUID == "1.2.840.10008.5.1.4.1.1.481.3"
    assert (dataset.StudyInstanceUID, dataset.FrameOfReferenceUID) == (STUDY_UID, FRAME_UID)
    assert (dataset.PatientID, str(dataset.PatientName)) == ("synthetic", "Synthetic^Patient")
    assert dataset.ApprovalStatus == "UNAPPROVED"
    frame = dataset.ReferencedFrameOfReferenceSequence[0]
    series = frame.RTReferencedStudySequence[0].RTReferencedSeriesSequence[0]
    assert series.SeriesInstanceUID == SERIES_UID
    assert len(series.ContourImageSequence) == SHAPE[0]
    assert "ContourSequence" not in dataset.ROIContourSequence[2]


def test_regions_become_overlapping_structures(tmp_path: Path) -> None:
    scheme = LabelScheme({"background": 0, "whole": (1, 2), "core": 2}, None, (1, 2))
    masks = read_by_rules(write(tmp_path, SERIES["axial"], shapes(), scheme), SERIES["axial"])
    assert np.array_equal(masks["whole"], shapes() > 0)
    assert np.array_equal(masks["core"], shapes() == 2)


def test_contours_refer_to_the_frames_of_a_file(tmp_path: Path) -> None:
    heights = [6.0, 0.0, 3.0]
    positions = [[0.0, 0.0, height] for height in heights]
    array = np.arange(60).reshape(3, 4, 5).astype(np.uint16)
    write_enhanced(tmp_path / "mr" / "file", array, {"ImagePositionPatient": positions})
    labels = np.zeros((3, 4, 5), np.uint8)
    labels[2, 1:3, 1:3] = 1  # the highest slice is stored first
    case = Case("anna", (tmp_path / "mr",))
    output = tmp_path / "out"
    predict_cases(FakePredictor(labels), [case], output, dicom_output=DicomOutput.STRUCTURE_SET)
    dataset = pydicom.dcmread(output / "anna.dcm")
    (contour,) = dataset.ROIContourSequence[0].ContourSequence
    assert contour.ContourImageSequence[0].ReferencedFrameNumber == 1
    assert contour.ContourData[2] == 6


def test_what_cannot_be_a_structure_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a\.png: is no DICOM series.*leave out --dicom-rtstruct"):
        predict_cases(
            FakePredictor(shapes()),
            [Case("a", (tmp_path / "a.png",))],
            tmp_path / "out",
            dicom_output=DicomOutput.STRUCTURE_SET,
        )
    assert not (tmp_path / "out").exists()


def test_outlines_of_any_mask_also_for_programs_that_round_corners() -> None:
    generator = np.random.default_rng(0)
    for _ in range(20):
        mask = generator.random((12, 14)) > generator.uniform(0.2, 0.8)
        found = np.zeros_like(mask)
        for outline in find_outlines(mask):
            found |= polygon2mask(mask.shape, outline[:, ::-1])
            # rt-utils fills between corners that are rounded to pixels, outline included.
            x, y = np.rint(outline).astype(int).T
            assert mask[y, x].all()
        assert np.array_equal(found, mask)
