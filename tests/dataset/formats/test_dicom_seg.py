from __future__ import annotations

import sys
from dataclasses import replace
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from builders.dicom import FRAME_UID, SERIES_UID, STUDY_UID, write_series
from builders.models import make_plan

from samnet.core.errors import UserError
from samnet.core.geometry import Grid
from samnet.dataset.cases import Case
from samnet.dataset.images import read_image
from samnet.dataset.label_scheme import LabelScheme
from samnet.inference.files import predict_cases

POSITIONS = [(-20.0, 30.0 + 0.4 * index, -400.0 - 3 * index) for index in range(4)]
LABELS = np.zeros((4, 6, 5), np.uint8)
LABELS[1:3, 2:4, 1:3], LABELS[3, 5, 4] = 1, 2


class FakePredictor:
    plan = replace(make_plan(), label_scheme=LabelScheme({"background": 0, "liver": 1, "größe": 2}))

    def __init__(self, labels: np.ndarray) -> None:
        self.labels = labels

    def predict_on_grid(self, array: np.ndarray, grid: Grid) -> np.ndarray:
        return self.labels


def write_case(tmp_path: Path) -> Case:
    write_series(tmp_path / "ct", np.arange(120).reshape(4, 6, 5), POSITIONS)
    return Case("anna", (tmp_path / "ct",))


@pytest.mark.parametrize("labels", [LABELS, np.zeros_like(LABELS)], ids=["labels", "nothing"])
def test_dicom_segmentation_lies_on_the_slices_of_its_series(
    tmp_path: Path, labels: np.ndarray
) -> None:
    highdicom = pytest.importorskip("highdicom", reason="the extra dicom is not installed")
    predict_cases(
        FakePredictor(labels), [write_case(tmp_path)], tmp_path / "out", dicom_segmentation=True
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


def test_dicom_segmentation_without_highdicom_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # To Python a module of None is not installed.
    monkeypatch.setitem(sys.modules, "highdicom", None)
    with pytest.raises(UserError, match=r"pip install 'samnet\[dicom\]'"):
        predict_cases(
            FakePredictor(LABELS), [write_case(tmp_path)], tmp_path / "out", dicom_segmentation=True
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
        predict_cases(FakePredictor(LABELS), cases, tmp_path / "out", dicom_segmentation=True)


def test_prediction_of_a_series_is_nifti_by_default(tmp_path: Path) -> None:
    case = write_case(tmp_path)
    predict_cases(FakePredictor(LABELS), [case], tmp_path / "out")
    back = read_image([tmp_path / "out" / "anna.nii.gz"])
    assert np.array_equal(back.array[0], LABELS)
    assert back.grid.difference(read_image(case.image_files).grid, 1e-4) is None
