"""DICOM segmentations on the slices of their series: synthetic ones, and of other programs."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
import SimpleITK
from builders.skips import NO_REAL_DATA, REAL_DATA
from builders.structure_sets import OBLIQUE, OBLIQUE_NORMAL, Volume
from pydicom.sr.codedict import codes

from samnet.dataset.formats.dicom import read_series
from samnet.dataset.formats.dicom_seg import write_segmentation

DICOM = REAL_DATA / "dicom"
needs_real_data = pytest.mark.skipif(not DICOM.is_dir(), reason=NO_REAL_DATA)
VOLUME = Volume((6, 20, 24), orientation=OBLIQUE, step=tuple(2 * np.array(OBLIQUE_NORMAL)))


def blocks() -> np.ndarray:
    labels = np.zeros(VOLUME.shape, np.uint8)
    labels[1:4, 3:9, 5:15] = 1
    labels[2:5, 12:17, 2:20] = 2
    return labels


def test_a_written_segmentation_is_read_back(studies: Path, converted: Callable) -> None:
    VOLUME.write(studies / "ct")
    image = read_series(studies / "ct")
    write_segmentation(blocks(), image, ["liver", "größe"], studies / "seg")
    result = converted()
    assert result.description["labels"] == {"background": 0, "liver": 1, "größe": 2}
    assert np.array_equal(result.labels(), blocks())


def write_fractional(file: Path, folder: Path, shares: np.ndarray) -> None:
    sources = [pydicom.dcmread(source) for source in sorted(folder.iterdir())]
    algorithm = highdicom.AlgorithmIdentificationSequence(
        name="synthetic", version="1", family=codes.DCM.ArtificialIntelligence
    )
    description = highdicom.seg.SegmentDescription(
        1,
        "liver",
        codes.SCT.Organ,
        codes.SCT.Liver,
        highdicom.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm,
    )
    segmentation = highdicom.seg.Segmentation(
        source_images=sources,
        pixel_array=shares,
        segmentation_type=highdicom.seg.SegmentationTypeValues.FRACTIONAL,
        segment_descriptions=[description],
        series_instance_uid=highdicom.UID(),
        series_number=9,
        sop_instance_uid=highdicom.UID(),
        instance_number=1,
        manufacturer="m",
        manufacturer_model_name="m",
        software_versions="1",
        device_serial_number="1",
        max_fractional_value=200,
    )
    segmentation.save_as(file)


@pytest.mark.parametrize(("options", "threshold"), [((), 0.5), (("--threshold", "0.2"), 0.2)])
def test_a_fractional_segmentation_is_cut_at_the_threshold(
    studies: Path, converted: Callable, options: tuple[str, ...], threshold: float
) -> None:
    VOLUME.write(studies / "ct")
    shares = np.zeros(VOLUME.shape, np.float32)
    shares[2:5] = np.linspace(0, 1, 24)
    write_fractional(studies / "seg", studies / "ct", shares)
    assert np.array_equal(converted(*options).mask("liver"), shares >= threshold)


def test_segments_on_other_pixels_are_refused(
    studies: Path, convert: Callable, capsys: pytest.CaptureFixture
) -> None:
    VOLUME.write(studies / "ct")
    image = read_series(studies / "ct")
    write_segmentation(blocks(), image, ["liver", "spleen"], studies / "seg")
    segmentation = pydicom.dcmread(studies / "seg")
    measures = segmentation.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    measures.PixelSpacing = [1.1, 1.1]
    segmentation.save_as(studies / "seg")
    assert convert() == 2
    said = capsys.readouterr().err
    assert "do not lie on those of its series" in said
    assert "export the segmentation with the pixels of the images" in said


@needs_real_data
@pytest.mark.parametrize(
    ("pattern", "images", "names", "references"),
    [
        ("liver.dcm", "ct-3slice", ["Liver"], [("liver_seg", 1)]),
        ("sparse-labelmap-noppv*", "24x38x3", ["Liver"], [("sparse_labelmap_noppv_seg", 1)]),
        ("sparse-labelmap-ppv5*", "24x38x3", ["Liver"], [("sparse_labelmap_ppv5_seg", 1)]),
        (
            "partial_overlaps.dcm",
            "ct-3slice",
            ["GREEN", "ORANGE", "PURPLE", "LIGHT_BLUE", "DARK_BLUE"],
            [(f"partial_overlaps-{file}", n) for n, file in enumerate((1, 2, 3, 1, 1), 1)],
        ),
    ],
    ids=["binary", "label map", "label map with padding", "overlaps"],
)
def test_segmentations_of_dcmqi_are_read_as_dcmqi_does(
    studies: Path,
    converted: Callable,
    pattern: str,
    images: str,
    names: list[str],
    references: list[tuple[str, int]],
) -> None:
    shutil.copytree(DICOM / "dcmqi" / images, studies / "scan", dirs_exist_ok=True)
    (file,) = (DICOM / "dcmqi").glob(pattern)
    shutil.copy(file, studies / "seg")
    result = converted("--overlap", "regions")
    (labels,) = (result.folder / "labelsTr").iterdir()
    grid = SimpleITK.ReadImage(str(labels))
    for name, (reference, value) in zip(names, references, strict=True):
        expected = SimpleITK.ReadImage(str(DICOM / "dcmqi" / f"{reference}.nrrd"))
        on_grid = SimpleITK.Resample(
            SimpleITK.Cast(expected, SimpleITK.sitkUInt16),
            grid,
            SimpleITK.Transform(),
            SimpleITK.sitkNearestNeighbor,
        )
        mask = SimpleITK.GetArrayFromImage(on_grid) == value
        assert mask.sum() > 500
        assert np.array_equal(result.mask(name), mask), name


@needs_real_data
def test_structure_sets_of_rt_utils(
    studies: Path, converted: Callable, capsys: pytest.CaptureFixture
) -> None:
    shutil.copytree(DICOM / "rt_utils" / "mock_data", studies / "mock")
    # Without any reference to a series, but with images.
    labels = converted("--segmentations", "non_existent*")
    assert list(labels.description["labels"]) == ["background", "ROI-1", "ROI-2", "ROI-3", "ROI-4"]
    assert np.unique(labels.labels()).tolist() == [0, 1, 2, 3, 4]
    said = capsys.readouterr().out
    assert "refers to 1 images that are not in the folder" in said
    assert "ROI-1: 1 contours lie outside the slices of the series" in said


@needs_real_data
@pytest.mark.parametrize(
    ("folder", "message"),
    [
        ("rt_utils/empty", "dummy_rt.dcm: refers to no series in the folder"),
        ("rt_utils/mock_data", "have one SOPInstanceUID and differ"),
        ("rt_utils/oriented_data", "holds no DICOM segmentation (SEG) or structure set"),
        ("highdicom", "seg_image_cr_binary.dcm: refers to no series in the folder"),
    ],
)
def test_real_folders_that_cannot_be_converted_say_why(
    studies: Path, convert: Callable, capsys: pytest.CaptureFixture, folder: str, message: str
) -> None:
    shutil.copytree(DICOM / folder, studies / "real")
    assert convert() == 2
    assert message in capsys.readouterr().err


@needs_real_data
def test_a_segmentation_of_one_frame(studies: Path, converted: Callable) -> None:
    for name in ("ct_image.dcm", "seg_image_ct_binary_single_frame.dcm"):
        shutil.copy(DICOM / "highdicom" / name, studies / name)
    source = pydicom.dcmread(studies / "seg_image_ct_binary_single_frame.dcm")
    expected = source.pixel_array > 0
    assert np.array_equal(converted().mask("first segment")[0], expected)
