"""Files of many frames: enhanced CT and MR, nuclear medicine, dose, films and screenshots."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pydicom
import pytest
from builders.dicom import AXIAL, CORONAL, SERIES_UID, write_enhanced, write_object, write_series
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import (
    MPEG2MPML,
    CTImageStorage,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    NuclearMedicineImageStorage,
    RLELossless,
    RTDoseStorage,
    SecondaryCaptureImageStorage,
    UltrasoundMultiFrameImageStorage,
)

from samnet.core.errors import UserError
from samnet.dataset.images import Image, read_image

SCAN = np.random.default_rng(0).integers(0, 1000, (6, 6, 4)).astype(np.uint16)
STORED_ORDER = [3, 0, 5, 1, 4, 2]


def positions(heights: Sequence[float]) -> list[list[float]]:
    return [[-20.0, 30.0, float(height)] for height in heights]


def evenly(array: np.ndarray = SCAN) -> list[list[float]]:
    return positions([3.0 * number for number in range(len(array))])


def read(folder: Path) -> Image:
    return read_image([folder])


@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_frames_are_sorted_by_their_positions(tmp_path: Path, modality: str) -> None:
    heights = positions([3.0 * number for number in STORED_ORDER])
    write_enhanced(
        tmp_path / "a.dcm", SCAN[STORED_ORDER], {"ImagePositionPatient": heights}, modality=modality
    )
    image = read(tmp_path)
    assert np.array_equal(image.array[0], SCAN)
    assert image.grid.spacing == pytest.approx((3.0, 0.7, 0.5))
    assert np.allclose(image.grid.affine @ (0, 0, 2, 1), (20.0, -30.0, 6.0, 1.0))


def test_frames_may_state_all_values_or_share_them(tmp_path: Path) -> None:
    orientation = [value for vector in CORONAL for value in vector]
    lying = [[0.0, 2.5 * number, 0.0] for number in range(6)]
    write_enhanced(
        tmp_path / "own" / "a.dcm",
        SCAN,
        {
            "ImagePositionPatient": lying,
            "ImageOrientationPatient": [orientation] * 6,
            "PixelSpacing": [[0.9, 0.8]] * 6,
        },
    )
    write_enhanced(
        tmp_path / "shared" / "a.dcm",
        SCAN,
        {"ImagePositionPatient": lying},
        {"ImageOrientationPatient": orientation, "PixelSpacing": [0.9, 0.8]},
    )
    own, shared = read(tmp_path / "own"), read(tmp_path / "shared")
    assert own.grid.spacing == pytest.approx((2.5, 0.9, 0.8))
    assert own.grid.difference(shared.grid) is None
    assert np.array_equal(own.array, shared.array)


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize(
    ("slopes", "intercepts", "kind"),
    [
        ([1, 1, 2, 2, 3, 3], [0] * 6, "i"),
        ([1] * 6, [-1024, 0, 5, -1, 7, 0], "i"),
        ([1, 0.5, 2, 1.25, 3, 3], [0.0, 1.5, 0, 0, 0, -3], "f"),
    ],
)
def test_each_frame_has_its_own_slope_and_intercept(
    tmp_path: Path,
    slopes: list[float],
    intercepts: list[float],
    kind: str,
    compressed: bool,
) -> None:
    stored = (SCAN.astype(np.int16) - 500)[STORED_ORDER]
    file = tmp_path / "a.dcm"
    dataset = write_enhanced(
        file,
        stored,
        {
            "ImagePositionPatient": positions([3.0 * number for number in STORED_ORDER]),
            "RescaleSlope": slopes,
            "RescaleIntercept": intercepts,
        },
        RescaleSlope=77,  # what the frames state comes first
    )
    if compressed:
        dataset.compress(RLELossless)
        dataset.save_as(file)
    image = read(tmp_path)
    expected = stored * np.reshape(slopes, (6, 1, 1)) + np.reshape(intercepts, (6, 1, 1))
    assert np.array_equal(image.array[0], expected[np.argsort(STORED_ORDER)])
    assert image.array.dtype.kind == kind


def test_slope_of_all_frames_may_be_shared_or_at_the_top(tmp_path: Path) -> None:
    heights = {"ImagePositionPatient": evenly()}
    shared = {"RescaleSlope": 2, "RescaleIntercept": -1000}
    write_enhanced(tmp_path / "shared" / "a.dcm", SCAN, heights, shared, modality="CT")
    write_enhanced(
        tmp_path / "top" / "a.dcm", SCAN, heights, RescaleSlope=2, RescaleIntercept=-1000
    )
    for name in ("shared", "top"):
        assert np.array_equal(read(tmp_path / name).array[0], SCAN.astype(int) * 2 - 1000)


def test_files_of_one_volume_are_pooled(tmp_path: Path) -> None:
    for name, part in (("a", slice(3, 6)), ("b", slice(0, 3))):
        write_enhanced(
            tmp_path / f"{name}.dcm", SCAN[part], {"ImagePositionPatient": evenly()[part]}
        )
    assert np.array_equal(read(tmp_path).array[0], SCAN)


def test_enhanced_files_of_one_frame_are_a_series(tmp_path: Path) -> None:
    for number in range(6):
        write_enhanced(
            tmp_path / f"{number}.dcm",
            SCAN[number : number + 1],
            {
                "ImagePositionPatient": [evenly()[number]],
                "RescaleSlope": [number + 1],
                "RescaleIntercept": [0],
            },
        )
    assert np.array_equal(read(tmp_path).array[0], SCAN * np.reshape(range(1, 7), (6, 1, 1)))


@pytest.mark.parametrize("name", ["23x38x3", "24x38x3"])
def test_converted_file_is_the_series_it_was_converted_from(real_data: Path, name: str) -> None:
    folder = real_data.parent / "dicom" / "dcmqi" / name
    series, converted = read(folder / "image"), read(folder / "multiframe")
    assert np.array_equal(series.array, converted.array)
    assert series.grid.difference(converted.grid) is None


def missing_frames(folder: Path) -> None:
    heights = positions([0, 2, 4, 14, 16, 18])
    write_enhanced(folder / "a.dcm", SCAN, {"ImagePositionPatient": heights})


def time_points(folder: Path) -> None:
    heights = positions([0, 3, 6, 0, 3, 6])
    times = [1, 1, 1, 2, 2, 2]
    write_enhanced(
        folder / "a.dcm", SCAN, {"ImagePositionPatient": heights, "TemporalPositionIndex": times}
    )


def echoes(folder: Path) -> None:
    heights = positions([0, 0, 3, 3, 6, 6])
    echo_times = [10.0, 80.0] * 3
    write_enhanced(
        folder / "a.dcm", SCAN, {"ImagePositionPatient": heights, "EffectiveEchoTime": echo_times}
    )


def diffusion_weights(folder: Path) -> None:
    heights = positions([0, 0, 0, 3, 3, 3])
    write_enhanced(
        folder / "a.dcm",
        SCAN,
        {"ImagePositionPatient": heights, "DiffusionBValue": [0.0, 500.0, 1000.0] * 2},
    )


def cardiac_phases(folder: Path) -> None:
    write_enhanced(
        folder / "a.dcm",
        SCAN,
        {
            "ImagePositionPatient": positions([5] * 6),
            "NominalCardiacTriggerDelayTime": [30.0 * number for number in range(6)],
        },
    )


def frame_types(folder: Path) -> None:
    kinds = [["ORIGINAL", "PRIMARY", "M"], ["ORIGINAL", "PRIMARY", "PHASE"]] * 3
    heights = positions([0, 0, 3, 3, 6, 6])
    write_enhanced(folder / "a.dcm", SCAN, {"ImagePositionPatient": heights, "FrameType": kinds})


def orientations(folder: Path) -> None:
    turned = [np.ravel(vectors).tolist() for vectors in (AXIAL, CORONAL)]
    write_enhanced(
        folder / "a.dcm",
        SCAN,
        {
            "ImagePositionPatient": evenly(),
            "ImageOrientationPatient": [turned[0]] * 3 + [turned[1]] * 3,
            "StackID": ["1"] * 3 + ["2"] * 3,
        },
    )


def stacks(folder: Path) -> None:
    heights = positions([0, 3, 6, 50, 53, 56])
    write_enhanced(
        folder / "a.dcm",
        SCAN,
        {"ImagePositionPatient": heights, "StackID": ["1"] * 3 + ["2"] * 3},
    )


def pixel_spacings(folder: Path) -> None:
    write_enhanced(
        folder / "a.dcm",
        SCAN,
        {"ImagePositionPatient": evenly(), "PixelSpacing": [[0.7, 0.5]] * 5 + [[0.7, 0.6]]},
    )


def two_time_points_as_files(folder: Path) -> None:
    for name, index in (("a", 1), ("b", 2)):
        write_enhanced(
            folder / f"{name}.dcm",
            SCAN,
            {"ImagePositionPatient": evenly(), "TemporalPositionIndex": [index] * 6},
        )


def part_of_a_concatenation(folder: Path) -> None:
    write_enhanced(
        folder / "a.dcm",
        SCAN,
        {"ImagePositionPatient": evenly()},
        ConcatenationUID="1.2.3",
        InConcatenationTotalNumber=2,
    )


def fewer_descriptions_than_frames(folder: Path) -> None:
    dataset = write_enhanced(folder / "a.dcm", SCAN, {"ImagePositionPatient": evenly()})
    dataset.PerFrameFunctionalGroupsSequence = dataset.PerFrameFunctionalGroupsSequence[:5]
    dataset.save_as(folder / "a.dcm")


def frames_without_positions(folder: Path) -> None:
    write_enhanced(folder / "a.dcm", SCAN, {"TemporalPositionIndex": list(range(6))})


def cine_film(folder: Path) -> None:
    write_object(folder / "a.dcm", UltrasoundMultiFrameImageStorage, SCAN, Modality="US")


def cine_film_with_one_position(folder: Path) -> None:
    write_object(
        folder / "a.dcm",
        UltrasoundMultiFrameImageStorage,
        SCAN,
        Modality="MR",
        ImagePositionPatient=[0, 0, 0],
        ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
        PixelSpacing=[1, 1],
        SpacingBetweenSlices=3,
    )


def cut_off(folder: Path) -> None:
    file = folder / "a.dcm"
    write_enhanced(file, SCAN, {"ImagePositionPatient": evenly()})
    file.write_bytes(file.read_bytes()[:-50])


def cut_off_compressed(folder: Path) -> None:
    file = folder / "a.dcm"
    dataset = write_enhanced(file, SCAN, {"ImagePositionPatient": evenly()})
    dataset.compress(RLELossless)
    dataset.save_as(file)
    file.write_bytes(file.read_bytes()[:-150])


def compressed_frame_missing(folder: Path) -> None:
    file = folder / "a.dcm"
    dataset = write_enhanced(file, SCAN, {"ImagePositionPatient": evenly()})
    dataset.compress(RLELossless)
    frames = list(generate_frames(dataset.PixelData, number_of_frames=6))
    dataset.PixelData = encapsulate(frames[:5])
    dataset.save_as(file)


def screenshot(folder: Path) -> None:
    write_object(folder / "a.dcm", SecondaryCaptureImageStorage, SCAN[0])


def screenshot_among_slices(folder: Path) -> None:
    write_series(folder, SCAN, evenly())
    write_object(folder / "z.dcm", SecondaryCaptureImageStorage, SCAN[0])


@pytest.mark.parametrize(
    ("write_faulty", "reason"),
    [
        (missing_frames, r"2\.00 mm apart, but frame 3 of a\.dcm and frame 4 of a\.dcm 10\.00 mm"),
        (time_points, r"6 slices lie at 3 positions, and differ in time point 1, 2\)"),
        (echoes, r"keep one time point, echo.*differ in echo time 10\.0, 80\.0"),
        (diffusion_weights, r"6 slices lie at 2 positions.*b-value 0\.0, 500\.0, 1000\.0"),
        (cardiac_phases, r"at 1 positions.*cardiac phase 0\.0, 30\.0, 60\.0, 90\.0, \.\.\."),
        (frame_types, r"frame type ORIGINAL\\PRIMARY\\M, ORIGINAL\\PRIMARY\\PHASE"),
        (orientations, r"frame 4 of a\.dcm is turned against frame 1 of a\.dcm \(stack 1, 2\)"),
        (stacks, r"frame 3 of a\.dcm and frame 4 of a\.dcm 44\.00 mm \(stack 1, 2\)"),
        (pixel_spacings, r"frame 1 of a\.dcm are 0\.7 x 0\.5 mm, .*frame 6 of a\.dcm 0\.7 x 0\.6"),
        (two_time_points_as_files, r"12 slices lie at 6 positions.*time point 1, 2"),
        (part_of_a_concatenation, "holds 1 of the 2 files that one image was divided into"),
        (fewer_descriptions_than_frames, "states 6 frames and describes 5"),
        (frames_without_positions, "frame 1 of 6: has no ImagePositionPatient"),
        (cine_film, r"holds 6 frames without a position each \(Ultrasound Multi-frame Image"),
        (cine_film_with_one_position, "holds 6 frames without a position each"),
        (cut_off, r"a\.dcm: is cut off: it has 238 of 288 bytes of pixels; copy it again"),
        (cut_off_compressed, r"a\.dcm: has no pixels that can be read; copy it again"),
        (compressed_frame_missing, r"a\.dcm: is cut off: it has 5 of 6 compressed frames"),
        (screenshot, r"a\.dcm: is a screenshot \(Secondary Capture Image Storage\)"),
        (screenshot_among_slices, r"z\.dcm: has no ImagePositionPatient"),
    ],
)
def test_frames_that_form_no_volume_are_refused(
    tmp_path: Path, write_faulty: Callable[[Path], None], reason: str
) -> None:
    write_faulty(tmp_path / "scan")
    with pytest.raises(UserError, match=reason) as caught:
        read(tmp_path / "scan")
    assert str(tmp_path / "scan") in str(caught.value)


def test_tomogram_of_nuclear_medicine_is_placed_by_its_slice_numbers(tmp_path: Path) -> None:
    detector = pydicom.Dataset()
    detector.ImagePositionPatient = [-20.0, 30.0, 7.0]
    detector.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    elements = {
        "Modality": "NM",
        "PixelSpacing": [0.7, 0.5],
        "SpacingBetweenSlices": 4.0,
        "DetectorInformationSequence": [detector],
    }
    numbers = [number + 1 for number in STORED_ORDER]
    write_object(
        tmp_path / "volume" / "a.dcm",
        NuclearMedicineImageStorage,
        SCAN[STORED_ORDER],
        SliceVector=numbers,
        **elements,
    )
    image = read(tmp_path / "volume")
    assert np.array_equal(image.array[0], SCAN)
    assert image.grid.spacing == pytest.approx((4.0, 0.7, 0.5))
    write_object(
        tmp_path / "gated" / "a.dcm",
        NuclearMedicineImageStorage,
        SCAN,
        SliceVector=[1, 2, 3, 1, 2, 3],
        TimeSlotVector=[1, 1, 1, 2, 2, 2],
        **elements,
    )
    with pytest.raises(UserError, match="differ in time point 1, 2"):
        read(tmp_path / "gated")


@pytest.mark.parametrize("first_offset", [0.0, 11.0])
def test_dose_grid_has_its_own_scaling_and_offsets(tmp_path: Path, first_offset: float) -> None:
    write_object(
        tmp_path / "a.dcm",
        RTDoseStorage,
        SCAN.astype(np.uint32),
        Modality="RTDOSE",
        DoseGridScaling=0.25,
        ImagePositionPatient=[-20.0, 30.0, 11.0],
        ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
        PixelSpacing=[0.7, 0.5],
        GridFrameOffsetVector=[first_offset + 2.5 * number for number in range(6)],
    )
    image = read(tmp_path)
    assert np.array_equal(image.array[0], SCAN * 0.25)
    assert image.grid.spacing == pytest.approx((2.5, 0.7, 0.5))
    assert np.allclose(image.grid.affine[:3, 3], (20.0, -30.0, 11.0))


@pytest.mark.parametrize(
    ("modality", "is_inverted"), [("DX", True), ("MG", True), ("CT", False), ("PT", False)]
)
def test_inverted_grey_is_undone_for_images_and_not_for_measurements(
    tmp_path: Path, modality: str, is_inverted: bool
) -> None:
    write_object(
        tmp_path / "a.dcm",
        CTImageStorage if modality in ("CT", "PT") else "1.2.840.10008.5.1.4.1.1.1.1",
        SCAN[0],
        Modality=modality,
        PhotometricInterpretation="MONOCHROME1",
        BitsStored=12,
        HighBit=11,
    )
    assert np.array_equal(read(tmp_path).array[0, 0], 4095 - SCAN[0] if is_inverted else SCAN[0])


def test_series_of_colour_frames_keeps_its_channels(tmp_path: Path) -> None:
    colours = np.random.default_rng(1).integers(0, 256, (6, 6, 4, 3)).astype(np.uint8)
    write_enhanced(
        tmp_path / "a.dcm",
        np.zeros((6, 6, 4), np.uint8),
        {"ImagePositionPatient": evenly()},
        SamplesPerPixel=3,
        PhotometricInterpretation="RGB",
        PlanarConfiguration=0,
        PixelData=colours.tobytes(),
    )
    assert np.array_equal(read(tmp_path).array, np.moveaxis(colours, -1, 0))


def test_frames_of_another_series_are_refused(tmp_path: Path) -> None:
    for name, uid in (("a", SERIES_UID), ("b", "1.2.9")):
        write_enhanced(
            tmp_path / f"{name}.dcm",
            SCAN,
            {"ImagePositionPatient": evenly()},
            SeriesInstanceUID=uid,
            SeriesDescription=f"series {name}",
        )
    with pytest.raises(UserError, match=r"2 series: series a \(1 files\), series b \(1 files\)"):
        read(tmp_path)


def lossless_jpeg(plane: np.ndarray) -> bytes:
    return imagecodecs.ljpeg_encode(plane)


def jpeg_2000(plane: np.ndarray) -> bytes:
    return imagecodecs.jpeg2k_encode(plane, codecformat="j2k", reversible=True, level=0)


def baseline_jpeg(plane: np.ndarray) -> bytes:
    return imagecodecs.jpeg8_encode(plane, level=100)


@pytest.mark.parametrize(
    ("syntax", "encode", "kind", "tolerance"),
    [
        (JPEGBaseline8Bit, baseline_jpeg, np.uint8, 2),
        (JPEGLosslessSV1, lossless_jpeg, np.uint16, 0),
        (JPEGLSLossless, imagecodecs.jpegls_encode, np.uint16, 0),
        (JPEG2000Lossless, jpeg_2000, np.uint16, 0),
    ],
    ids=["baseline", "lossless", "JPEG-LS", "JPEG 2000"],
)
def test_compressed_frames_are_read(
    tmp_path: Path,
    syntax: str,
    encode: Callable[[np.ndarray], bytes],
    kind: type,
    tolerance: int,
) -> None:
    ramp = np.add.outer(np.arange(4) * 7, np.add.outer(np.arange(16) * 5, np.arange(20) * 2))
    scan = ramp.astype(kind)
    heights = {"ImagePositionPatient": evenly(scan)}
    dataset = write_enhanced(tmp_path / "a.dcm", scan, heights)
    dataset.PixelData = encapsulate([encode(plane) for plane in scan])
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.save_as(tmp_path / "a.dcm")
    found = read(tmp_path).array[0].astype(int)
    assert np.abs(found - scan).max() <= tolerance


@pytest.mark.parametrize(
    ("keyword", "kind"), [("FloatPixelData", "<f4"), ("DoubleFloatPixelData", "<f8")]
)
def test_pixels_that_are_floats_are_read(tmp_path: Path, keyword: str, kind: str) -> None:
    values = (SCAN / 8 - 40).astype(kind)
    dataset = write_enhanced(tmp_path / "a.dcm", SCAN, {"ImagePositionPatient": evenly()})
    for name in ("PixelData", "BitsStored", "HighBit", "PixelRepresentation"):
        delattr(dataset, name)
    dataset.BitsAllocated = 8 * values.itemsize
    setattr(dataset, keyword, values.tobytes())
    dataset.save_as(tmp_path / "a.dcm")
    assert np.array_equal(read(tmp_path).array[0], values.astype(np.float32))
    setattr(dataset, keyword, values.tobytes()[:-16])
    dataset.save_as(tmp_path / "a.dcm")
    with pytest.raises(UserError, match=r"is cut off: it has .* of 144 pixels"):
        read(tmp_path)


def write_slice(file: Path, number: int, **elements: Any) -> None:
    write_object(
        file,
        CTImageStorage,
        SCAN[number],
        ImagePositionPatient=[0, 0, 3.0 * number],
        ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
        PixelSpacing=[0.7, 0.5],
        **elements,
    )


@pytest.mark.parametrize(("modality", "kind"), [("CT", "MONOCHROME2"), ("CR", "MONOCHROME1")])
def test_table_of_intensities_is_applied(tmp_path: Path, modality: str, kind: str) -> None:
    squares = np.arange(256, dtype=np.uint16) ** 2
    table = pydicom.Dataset()
    table.LUTDescriptor, table.ModalityLUTType = [256, 0, 16], "US"
    table.add_new("LUTData", "OW", squares.tobytes())
    for number in range(2):
        write_slice(
            tmp_path / f"{number}.dcm",
            number,
            Modality=modality,
            PhotometricInterpretation=kind,
            ModalityLUTSequence=[table],
        )
    expected = squares[SCAN[:2].clip(0, 255)]
    if kind == "MONOCHROME1":
        expected = 65535 - expected
    assert np.array_equal(read(tmp_path).array[0], expected)


def test_slope_of_0_is_refused(tmp_path: Path) -> None:
    write_slice(tmp_path / "a.dcm", 0, RescaleSlope=0, RescaleIntercept=-1024)
    with pytest.raises(UserError, match=r"a\.dcm: RescaleSlope is 0, so all its intensities"):
        read(tmp_path)


def test_compression_that_cannot_be_decoded_is_named(tmp_path: Path) -> None:
    dataset = write_enhanced(tmp_path / "a.dcm", SCAN, {"ImagePositionPatient": evenly()})
    dataset.PixelData = encapsulate([b"a film" for _ in SCAN])
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = MPEG2MPML
    dataset.save_as(tmp_path / "a.dcm")
    with pytest.raises(UserError, match=r"compression \(MPEG2 Main .*\) is not supported, decomp"):
        read(tmp_path)
