"""The measurements of one case."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import tifffile
from PIL import Image

from samnet.core.errors import UserError
from samnet.dataset.cases import Case
from samnet.dataset.description import DatasetDescription
from samnet.fingerprint.measure import CaseMeasurements, SliceSizes, measure_case
from samnet.fingerprint.records import BlankVoxels, CaseFingerprint, ClassStatistics

LABELS = {"background": 0, "a": 1, "b": 2, "never": 3}
DESCRIPTION = DatasetDescription(("MRI",), LABELS, ignore_label=4, file_ending=".nii.gz")


def measure(folder: Path, *arguments: Any, **options: Any) -> CaseFingerprint:
    """What is kept of the case that `measure_all` writes."""
    return measure_all(folder, *arguments, **options).case


def measure_all(
    folder: Path,
    image: np.ndarray,
    labels: np.ndarray,
    affine: np.ndarray | None = None,
    description: DatasetDescription = DESCRIPTION,
) -> CaseMeasurements:
    """Write a case of arrays `(Z, Y, X)`, or of channels `(C, Z, Y, X)`, and measure it."""
    affine = np.eye(4) if affine is None else affine
    channels = image if image.ndim == 4 else image[None]
    files = tuple(folder / f"case_{number:04d}.nii.gz" for number in range(len(channels)))
    for file, channel in zip(files, channels, strict=True):
        nibabel.save(nibabel.Nifti1Image(channel.transpose(), affine), file)
    nibabel.save(
        nibabel.Nifti1Image(labels.transpose().astype(np.uint8), affine), folder / "case.nii.gz"
    )
    return measure_case(Case("case", files, folder / "case.nii.gz"), description)


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(1, 200, (20, 40, 30)).astype(np.int16)


def test_measure_case_finds_shape_spacing_and_crop(tmp_path: Path, image: np.ndarray) -> None:
    image[:3], image[:, :, 25:] = 0, 0
    labels = np.zeros(image.shape)
    labels[1, 5, 5] = 1
    measured = measure(tmp_path, image, labels, np.diag([0.5, 0.75, 3.0, 1]))
    assert measured.shape == (20, 40, 30)
    assert measured.spacing == (3.0, 0.75, 0.5)
    assert measured.cropped_shape == (19, 40, 25)


def test_measure_case_uses_the_axes_of_the_patient_for_every_file(
    tmp_path: Path, image: np.ndarray
) -> None:
    labels = np.zeros(image.shape)
    labels[2:6, 10:30, 10:12] = 1
    plain = measure(tmp_path, image, labels, np.diag([0.5, 0.75, 3.0, 1]))
    turned = np.array(
        [[0, 0, -0.5, 9], [0.75, 0, 0, 2], [0, -3.0, 0, 5], [0, 0, 0, 1]], dtype=float
    )
    # The file's axes run to the front, the feet and the left.
    z_y_x = image[::-1, :, ::-1].transpose(2, 0, 1)
    measured = measure(tmp_path, z_y_x, labels[::-1, :, ::-1].transpose(2, 0, 1), turned)
    assert measured == plain


def test_measure_case_finds_percentiles_of_intensities(tmp_path: Path, image: np.ndarray) -> None:
    image[0] = 0
    labels = np.zeros(image.shape)
    labels[5:10] = 1
    labels[10:12] = 4
    channel = measure(tmp_path, image, labels).channels[0]
    assert (channel.minimum, channel.maximum, channel.whole_numbers) == (0, 199, True)
    assert channel.nonzero == pytest.approx(np.percentile(image[1:], (0.5, 5, 50, 95, 99.5)))
    assert channel.foreground == pytest.approx(np.percentile(image[5:10], (0.5, 5, 50, 95, 99.5)))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_measure_case_takes_nan_and_infinity_for_0(
    tmp_path: Path, image: np.ndarray, value: float
) -> None:
    broken, repaired = image.astype(np.float32) + 0.5, image.astype(np.float32) + 0.5
    broken[5, 5, 5], repaired[5, 5, 5] = value, 0
    labels = np.zeros(image.shape)
    labels[5:10] = 1
    assert measure(tmp_path, broken, labels) == measure(tmp_path, repaired, labels)
    assert measure(tmp_path, broken, labels).channels[0].whole_numbers is False


def test_measure_case_recognises_whole_numbers_stored_as_floats(
    tmp_path: Path, image: np.ndarray
) -> None:
    measured = measure(tmp_path, image.astype(np.float32), np.zeros(image.shape))
    assert measured.channels[0].whole_numbers is True


def test_measure_case_finds_the_sizes_of_discs_and_bars(tmp_path: Path, image: np.ndarray) -> None:
    rows, columns = np.ogrid[:40, :30]
    labels = np.zeros(image.shape)
    labels[4:9, (rows - 20) ** 2 + (columns - 15) ** 2 <= 8**2] = 1
    labels[12:15, 10, 3:23] = 2
    measured = measure_all(tmp_path, image, labels, np.diag([2.0, 2.0, 5.0, 1]))
    disc, bar = measured.sizes["a"][0], measured.sizes["b"][0]
    assert measured.case.classes["a"].slices[0] == 5
    assert measured.case.classes["b"].slices == (3, 1, 20)
    assert disc.diameters == pytest.approx([32] * 5, abs=1)
    assert disc.thicknesses == pytest.approx([32] * 5, abs=2)
    assert bar.diameters == pytest.approx([2 * np.sqrt(20 * 4 / np.pi)] * 3, abs=0.01)
    assert bar.thicknesses == pytest.approx([2.0] * 3)


def test_measured_thickness_of_a_single_voxel_is_one_pixel(
    tmp_path: Path, image: np.ndarray
) -> None:
    labels = np.zeros(image.shape)
    labels[0, 0, 0] = labels[19, 39, 29] = 1
    measured = measure_all(tmp_path, image, labels)
    assert measured.case.classes["a"] == ClassStatistics(2, 2, (2, 2, 2))
    assert [across.thicknesses for across in measured.sizes["a"]] == [(1.0, 1.0)] * 3


def test_measured_diameter_is_that_of_the_typical_component(
    tmp_path: Path, image: np.ndarray
) -> None:
    labels = np.zeros(image.shape)
    labels[5, 2:12, 2:12] = 1
    labels[5, 20:30, 2:12] = 1
    labels[5, 35, ::4] = 1
    sizes = measure_all(tmp_path, image, labels).sizes["a"][0]
    assert sizes.diameters == pytest.approx([11.28], abs=0.01)


def test_voxels_that_touch_by_a_corner_are_one_component(tmp_path: Path, image: np.ndarray) -> None:
    labels = np.zeros(image.shape)
    labels[5, 10, 10] = labels[5, 11, 11] = labels[6, 12, 12] = 1
    measured = measure_all(tmp_path, image, labels)
    assert measured.case.classes["a"].components == 1
    assert measured.sizes["a"][0].diameters[0] == pytest.approx(2 * np.sqrt(2 / np.pi), abs=1e-3)


def test_measure_case_counts_intensities_below_0(tmp_path: Path, image: np.ndarray) -> None:
    channel = measure(tmp_path, image - 1000, np.zeros(image.shape)).channels[0]
    assert channel.nonzero == pytest.approx(np.percentile(image - 1000, (0.5, 5, 50, 95, 99.5)))


def test_measure_case_samples_at_most_32_slices(tmp_path: Path) -> None:
    image = np.ones((100, 5, 5), dtype=np.uint8)
    measured = measure_all(tmp_path, image, image)
    assert measured.case.classes["a"].slices == (100, 5, 5)
    assert len(measured.sizes["a"][0].diameters) == 32


def test_measured_labelled_slices_are_without_ignored_voxels(
    tmp_path: Path, image: np.ndarray
) -> None:
    labels = np.zeros(image.shape)
    labels[3:6, 10:20, 7] = 1
    labels[0] = 4
    measured = measure(tmp_path, image, labels)
    assert measured.labelled_slices == (3, 10, 1)
    assert set(measured.classes) == {"a", "b", "never"}


def test_measure_case_without_labels(tmp_path: Path, image: np.ndarray) -> None:
    everything = measure_all(tmp_path, np.zeros_like(image), np.zeros(image.shape))
    measured = everything.case
    assert measured.cropped_shape == measured.shape
    assert measured.labelled_slices == (0, 0, 0)
    assert measured.channels[0].foreground is None
    assert measured.channels[0].nonzero == (0.0,) * 5
    assert set(measured.classes.values()) == {ClassStatistics(0, 0, (0, 0, 0))}
    assert set(everything.sizes.values()) == {(SliceSizes(),) * 3}


def test_measure_case_takes_a_2d_file_for_one_slice(tmp_path: Path) -> None:
    image = np.ones((1, 40, 30), dtype=np.uint8)
    measured = measure(tmp_path, image, image, np.diag([0.7, 0.7, 1.0, 1]))
    assert measured.shape == (1, 40, 30)
    assert measured.labelled_slices == (1, 40, 30)


def measure_2d(folder: Path, ending: str) -> CaseFingerprint:
    """Measure `image` and `labels`, files with this ending, as a case of one channel."""
    case = Case("case", (folder / f"image{ending}",), folder / f"labels{ending}")
    description = DatasetDescription(("MRI",), LABELS, ignore_label=4, file_ending=ending)
    return measure_case(case, description).case


@pytest.mark.parametrize("has_spacing", [False, True])
def test_measure_case_takes_2d_images_by_pixels(tmp_path: Path, has_spacing: bool) -> None:
    """The size of their pixels is known or not, and scales nothing."""
    options = {"resolution": (4, 4), "metadata": {"unit": "mm"}} if has_spacing else {}
    for name in ("image", "labels"):
        array = np.ones((40, 30), dtype=np.uint8)
        tifffile.imwrite(tmp_path / f"{name}.tif", array, imagej=True, **options)
    measured = measure_2d(tmp_path, ".tif")
    assert measured.spacing == (1.0, 1.0, 1.0)
    assert measured.has_spacing == has_spacing


def test_measure_case_takes_grey_stored_in_colour_for_one_channel(tmp_path: Path) -> None:
    grey = np.arange(1200, dtype=np.uint16).reshape(40, 30).astype(np.uint8)
    Image.fromarray(np.stack([grey] * 3, axis=-1)).save(tmp_path / "image.png")
    Image.fromarray(np.ones_like(grey)).save(tmp_path / "labels.png")
    (channel,) = measure_2d(tmp_path, ".png").channels
    assert (channel.minimum, channel.maximum) == (0, 255)


def test_measure_case_takes_labels_with_another_header_by_voxels(
    tmp_path: Path, image: np.ndarray
) -> None:
    """The check of the data set names them; where it is left out, their shape decides."""
    labels = np.zeros(image.shape)
    labels[5:10] = 1
    expected = measure(tmp_path, image, labels)
    moved = nibabel.Nifti1Image(labels.transpose().astype(np.uint8), np.diag([2.0, 2, 2, 1]))
    nibabel.save(moved, tmp_path / "case.nii.gz")
    case = Case("case", (tmp_path / "case_0000.nii.gz",), tmp_path / "case.nii.gz")
    assert measure_case(case, DESCRIPTION).case == expected


@pytest.mark.parametrize(
    ("channels", "label_shape", "message"),
    [
        (2, (20, 40, 30), "case_0000.nii.gz: the case has 2 channel.s., dataset.json names 1: MRI"),
        (
            1,
            (20, 40, 29),
            r"case.nii.gz: shape \(20, 40, 29\) \(z, y, x\) differs from "
            r"\(20, 40, 30\) of its image",
        ),
    ],
)
def test_measure_case_names_files_that_do_not_belong_together(
    tmp_path: Path, image: np.ndarray, channels: int, label_shape: tuple, message: str
) -> None:
    with pytest.raises(UserError, match=message):
        measure(tmp_path, np.stack([image] * channels), np.zeros(label_shape))


def test_measure_case_measures_a_region_as_a_whole(tmp_path: Path, image: np.ndarray) -> None:
    """Its parts do not count: a thin rim has no output and needs no finer network."""
    labels = np.zeros(image.shape)
    labels[4:10, 5:25, 5:25], labels[4:8, 6:24, 6:24] = 1, 2
    labels[:, 30:35] = 3
    nested = DatasetDescription(
        ("MRI",),
        {"background": 0, "whole": (1, 2), "core": 2},
        ignore_label=3,
        file_ending=".nii.gz",
        regions_class_order=(1, 2),
    )
    measured = measure_all(tmp_path, image, labels, description=nested)
    merged = measure_all(tmp_path, image, np.where(labels == 2, 1, labels))
    parts = measure_all(tmp_path, image, labels)
    assert list(measured.case.classes) == ["whole", "core"]
    assert measured.case.classes["whole"] == merged.case.classes["a"] != parts.case.classes["a"]
    assert measured.case.classes["core"] == parts.case.classes["b"]
    assert measured.sizes["whole"] == merged.sizes["a"] != parts.sizes["a"]
    assert measured.case.labelled_slices == (6, 20, 20)


def blank_image(image: np.ndarray) -> np.ndarray:
    """Return an image with a blank border of ten columns."""
    image[image < 20] = 20
    image[..., :10] = 0
    return image


def test_measure_case_counts_blank_voxels(tmp_path: Path, image: np.ndarray) -> None:
    labels = np.zeros(image.shape)
    labels[3:9, 10:30, 10:25] = 1
    labels[:, :, 3] = 4  # ignored voxels do not count
    assert measure(tmp_path, blank_image(image), labels).blank == BlankVoxels(0.333333, 0.0, 0)


def test_measure_case_finds_labels_outside_the_field_of_view(
    tmp_path: Path, image: np.ndarray
) -> None:
    labels = np.zeros(image.shape)
    # Two of 20 columns are in the blank border. Slices across X are blank there as a whole.
    labels[3:9, 10:30, 8:28] = 1
    labels[10, 10:14, 20:25] = 2
    assert measure(tmp_path, blank_image(image), labels).blank == BlankVoxels(0.333333, 0.1, 240)


def test_measure_case_finds_structures_that_are_black_within_the_body(
    tmp_path: Path, image: np.ndarray
) -> None:
    image = blank_image(image)
    image[8:13, 10:20, 15:25] = 2  # under two hundredths of the range, and over one
    labels = np.zeros(image.shape)
    labels[3:9, 30:35, 12:25] = 1
    labels[8:13, 10:20, 15:25] = 2
    blank = measure(tmp_path, image, labels).blank
    assert blank == BlankVoxels(0.333333, blank.labelled, 0)
    assert blank.labelled > 0.5


def test_measure_case_counts_nothing_blank_where_a_channel_is_constant(
    tmp_path: Path, image: np.ndarray
) -> None:
    channels = np.stack([blank_image(image), np.full_like(image, 3)])
    description = replace(DESCRIPTION, channel_names=("T1", "T2"))
    labels = np.zeros(image.shape)
    measured = measure(tmp_path, channels, labels, description=description)
    assert measured.blank == BlankVoxels(0.0, 0.0, 0)
