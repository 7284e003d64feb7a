from __future__ import annotations

import sys
from dataclasses import replace
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import highdicom
import numpy as np
import pydicom
import pytest
from builders.dicom import FRAME_UID, SERIES_UID, STUDY_UID, write_enhanced, write_series
from builders.models import make_plan

from samnet.core.errors import UserError
from samnet.core.geometry import Grid
from samnet.dataset.cases import Case
from samnet.dataset.formats.dicom_seg import write_segmentation
from samnet.dataset.images import read_image
from samnet.dataset.label_scheme import LabelScheme
from samnet.inference.dicom_output import DicomOutput
from samnet.inference.files import predict_cases
from samnet.inference.predictor import Prediction

POSITIONS = [(-20.0, 30.0 + 0.4 * index, -400.0 - 3 * index) for index in range(4)]
LABELS = np.zeros((4, 6, 5), np.uint8)
LABELS[1:3, 2:4, 1:3], LABELS[3, 5, 4] = 1, 2


class FakePredictor:
    plan = replace(make_plan(), label_scheme=LabelScheme({"background": 0, "liver": 1, "größe": 2}))

    def __init__(self, labels: np.ndarray) -> None:
        self.labels = labels

    def predict_and_check(self, array: np.ndarray, grid: Grid) -> Prediction:
        return Prediction(self.labels)


def write_case(tmp_path: Path) -> Case:
    write_series(tmp_path / "ct", np.arange(120).reshape(4, 6, 5), POSITIONS)
    return Case("anna", (tmp_path / "ct",))


@pytest.mark.parametrize("labels", [LABELS, np.zeros_like(LABELS)], ids=["labels", "nothing"])
def test_dicom_segmentation_lies_on_the_slices_of_its_series(
    tmp_path: Path, labels: np.ndarray
) -> None:
    predict_cases(
        FakePredictor(labels),
        [write_case(tmp_path)],
        tmp_path / "out",
        dicom_output=DicomOutput.SEGMENTATION,
    )
    written = highdicom.seg.segread(tmp_path / "out" / "anna.dcm")
    segments = [written.get_segment_description(number) for number in (1, 2)]
    assert [segment.segment_label for segment in segments] == ["liver", "größe"]
    assert (written.StudyInstanceUID, written.FrameOfReferenceUID) == (STUDY_UID, FRAME_UID)
    assert written.SeriesInstanceUID != SERIES_UID
    # In the order of the volume: the slice that was written last is lowest.
    uids = [f"{SERIES_UID}.{number}" for number in (4, 3, 2, 1)]
    back = written.get_pixels_by_source_instance(
        uids, combine_segments=True, assert_missing_frames_are_empty=True
    )
    assert np.array_equal(back, labels)


def test_dicom_segmentation_of_many_frames_lies_on_the_right_ones(tmp_path: Path) -> None:
    order = [2, 0, 3, 1]
    source = write_enhanced(
        tmp_path / "mr" / "a.dcm",
        np.arange(120, dtype=np.uint16).reshape(4, 6, 5),
        {"ImagePositionPatient": [[-20.0, 30.0, 3.0 * number] for number in order]},
    )
    case = Case("anna", (tmp_path / "mr",))
    predict_cases(
        FakePredictor(LABELS), [case], tmp_path / "out", dicom_output=DicomOutput.SEGMENTATION
    )
    written = highdicom.seg.segread(tmp_path / "out" / "anna.dcm")
    back = written.get_pixels_by_source_frame(
        source.SOPInstanceUID,
        [1, 2, 3, 4],
        combine_segments=True,
        assert_missing_frames_are_empty=True,
    )
    assert np.array_equal(back, LABELS[order])
    # Each frame of the segmentation states its position, whatever the order of the source.
    for number, group in enumerate(written.PerFrameFunctionalGroupsSequence):
        height = float(group.PlanePositionSequence[0].ImagePositionPatient[2])
        label = group.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        expected = LABELS[round(height / 3.0)] == label
        assert np.array_equal(written.pixel_array[number] == 1, expected)


def test_dicom_segmentation_of_several_files_of_many_frames_is_refused(tmp_path: Path) -> None:
    for name, first in (("a", 0), ("b", 2)):
        write_enhanced(
            tmp_path / "mr" / f"{name}.dcm",
            np.ones((2, 6, 5), np.uint16),
            {"ImagePositionPatient": [[-20.0, 30.0, 3.0 * (first + k)] for k in range(2)]},
        )
    image = read_image([tmp_path / "mr"])
    with pytest.raises(UserError, match=r"mr: consists of 2 multi-frame files.*--dicom-seg"):
        write_segmentation(LABELS, image, ["liver", "spleen"], tmp_path / "seg.dcm")


def test_dicom_segmentation_has_texts_in_utf_8_of_the_standards_lengths(tmp_path: Path) -> None:
    (folder,) = write_case(tmp_path).image_files
    for file in folder.iterdir():
        source = pydicom.dcmread(file)
        source.SpecificCharacterSet = "ISO_IR 100"  # Latin-1
        source.PatientName = "Müller^Jürgen"
        source.save_as(file)
    long = "肝" * 63
    names = ["肝臓", long + "ab", long + "cd", "left\\right"]
    labels = np.arange(120).reshape(4, 6, 5).astype(np.uint8) % 5
    write_segmentation(labels, read_image([folder]), names, tmp_path / "seg.dcm")
    written = pydicom.dcmread(tmp_path / "seg.dcm")
    assert written.SpecificCharacterSet == "ISO_IR 192"
    assert str(written.PatientName) == "Müller^Jürgen"
    found = [segment.SegmentLabel for segment in written.SegmentSequence]
    assert found == ["肝臓", "肝" * 60 + " (2)", "肝" * 60 + " (3)", "left/right"]
    assert written.SegmentSequence[1].SegmentDescription == names[1]


def test_dicom_segmentation_without_highdicom_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # To Python a module of None is not installed.
    monkeypatch.setitem(sys.modules, "highdicom", None)
    with pytest.raises(UserError, match=r"pip install 'samnet\[dicom\]'"):
        predict_cases(
            FakePredictor(LABELS),
            [write_case(tmp_path)],
            tmp_path / "out",
            dicom_output=DicomOutput.SEGMENTATION,
        )
    assert not (tmp_path / "out").exists()


def test_dicom_segmentation_is_refused_for_cases_that_are_no_series(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The cases are refused before the library is used, so an empty one is enough.
    library = ModuleType("highdicom")
    library.__spec__ = ModuleSpec("highdicom", None)
    monkeypatch.setitem(sys.modules, "highdicom", library)
    cases = [write_case(tmp_path), Case("b", (tmp_path / "b.nii.gz",))]
    with pytest.raises(
        UserError,
        match=r"b\.nii\.gz: is no DICOM series, and 1 of 2 cases are none.*--dicom-seg",
    ):
        predict_cases(
            FakePredictor(LABELS), cases, tmp_path / "out", dicom_output=DicomOutput.SEGMENTATION
        )


def test_prediction_of_a_series_is_nifti_by_default(tmp_path: Path) -> None:
    case = write_case(tmp_path)
    predict_cases(FakePredictor(LABELS), [case], tmp_path / "out")
    back = read_image([tmp_path / "out" / "anna.nii.gz"])
    assert np.array_equal(back.array[0], LABELS)
    assert back.grid.difference(read_image(case.image_files).grid, 1e-4) is None
