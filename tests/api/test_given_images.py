"""Images in the form at hand: how they lie is respected, and predictions have the same form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import SimpleITK
from builders.tiny import make_model, tiny_backbone
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform
from skimage import io

import samnet
from samnet.core.geometry import Grid, Reorientation
from samnet.dataset.description import DatasetDescription
from samnet.inference.prediction import ArrayPredictor, Prediction

__all__ = ["tiny_backbone"]
MRI = DatasetDescription(("MRI",), {"background": 0, "one": 1, "two": 2}, None, ".nii.gz")
PHOTO = DatasetDescription(("R", "G", "B"), {"background": 0, "one": 1}, None, ".png")
STACK = DatasetDescription(("EM",), {"background": 0, "one": 1}, None, ".tif")
# As nibabel's array of the scan in this order, and as SimpleITK's.
ORDERS = ("RAS", "LPS", "SPL", "PIR")


class BrightFrontPredictor(ArrayPredictor):
    """Finds bright voxels in the right front upper half of the patient, as a network might."""

    def __init__(self, description: DatasetDescription = MRI) -> None:
        self._description = description

    @property
    def description(self) -> DatasetDescription:
        return self._description

    def predict_and_check(
        self, array: np.ndarray, grid: Grid, *, keep_probabilities: bool = False
    ) -> Prediction:
        axes = Reorientation(grid)
        canonical = axes.to_canonical(array)[0]
        labels = (canonical > np.median(canonical)).astype(np.uint8)
        z, y, x = labels.shape
        labels[: z // 3] = 0
        labels[:, : y // 3] = 0
        labels[:, :, : x // 2] *= 2
        return Prediction(axes.to_native(labels))


@pytest.fixture(scope="module")
def scan(real_data: Path) -> nibabel.Nifti1Image:
    """A real MRI of a hippocampus."""
    file = sorted((real_data / "Dataset004_Hippocampus" / "imagesTr").glob("*.nii.gz"))[0]
    return nibabel.load(file)


def reordered(scan: Any, codes: str) -> Any:
    """Return a scan with its voxels stored in another order of axes."""
    return scan.as_reoriented(
        ornt_transform(io_orientation(scan.affine), axcodes2ornt(tuple(codes)))
    )


def restored(labels: np.ndarray, codes: str, scan: Any) -> np.ndarray:
    """Return labels of a reordered scan in the order of the scan."""
    there = reordered(scan, codes)
    return np.asarray(reordered_like(nibabel.Nifti1Image(labels, there.affine), scan).dataobj)


def reordered_like(image: Any, scan: Any) -> Any:
    return image.as_reoriented(
        ornt_transform(io_orientation(image.affine), io_orientation(scan.affine))
    )


@pytest.mark.parametrize("codes", ORDERS)
def test_real_scan_in_any_order_of_axes_gives_the_same_mask(scan: Any, codes: str) -> None:
    predictor = BrightFrontPredictor()
    expected = np.asarray(predictor.predict(scan).dataobj)
    assert set(np.unique(expected)) == {0, 1, 2}
    there = reordered(scan, codes)
    array = np.asarray(there.dataobj)
    lengths = nibabel.affines.voxel_sizes(there.affine)
    by_affine = predictor.predict(array, affine=there.affine)
    by_orientation = predictor.predict(array, orientation=codes, spacing=lengths)
    as_image = predictor.predict(there)
    assert by_affine.shape == by_orientation.shape == array.shape
    for found in (by_affine, by_orientation, np.asarray(as_image.dataobj)):
        assert np.array_equal(restored(found, codes, scan), expected)
    np.testing.assert_array_equal(as_image.affine, there.affine)
    # As SimpleITK's arrays have it: the last axis first, so the letters too.
    backwards = predictor.predict(array.T, orientation=codes[::-1], spacing=lengths[::-1])
    assert np.array_equal(backwards.T, by_affine)


def test_tiny_network_gives_the_same_mask_in_lps_and_ras(scan: Any, tmp_path: Path) -> None:
    make_model(tmp_path / "fold_0")
    predictor = samnet.Predictor.from_folder(tmp_path, device="cpu")
    masks = {}
    for codes in ("RAS", "LPS"):
        there = reordered(scan, codes)
        result = predictor.segment(np.asarray(there.dataobj), affine=there.affine)
        masks[codes] = restored(result.labels, codes, scan)
    assert np.array_equal(masks["RAS"], masks["LPS"])
    assert len(np.unique(masks["RAS"])) > 1
    assert len(repr(predictor)) < 100


def test_image_of_simpleitk_comes_back_with_its_geometry(scan: Any, tmp_path: Path) -> None:
    nibabel.save(scan, tmp_path / "a.nii.gz")
    image = SimpleITK.ReadImage(str(tmp_path / "a.nii.gz"))
    predictor = BrightFrontPredictor()
    labels = predictor.predict(image)
    assert isinstance(labels, SimpleITK.Image)
    assert labels.GetOrigin() == image.GetOrigin()
    assert labels.GetSpacing() == image.GetSpacing()
    assert labels.GetDirection() == image.GetDirection()
    expected = np.asarray(predictor.predict(scan).dataobj)
    assert np.array_equal(SimpleITK.GetArrayFromImage(labels).T, expected)


@pytest.mark.parametrize(
    ("name", "kind"), [("a.nii.gz", nibabel.Nifti1Image), ("a.nrrd", SimpleITK.Image)]
)
def test_path_gives_an_image_of_the_library_that_reads_it(
    scan: Any, tmp_path: Path, name: str, kind: type
) -> None:
    nibabel.save(scan, tmp_path / "scan.nii")
    image = SimpleITK.ReadImage(str(tmp_path / "scan.nii"))
    SimpleITK.WriteImage(image, str(tmp_path / name))
    (tmp_path / "scan.nii").unlink()
    predictor = BrightFrontPredictor()
    expected = np.asarray(predictor.predict(scan).dataobj)
    for path in (tmp_path / name, str(tmp_path / name)):
        labels = predictor.predict(path)
        assert isinstance(labels, kind)
        if isinstance(labels, SimpleITK.Image):
            found = SimpleITK.GetArrayFromImage(labels).T
        else:
            found = np.asarray(labels.dataobj)
            np.testing.assert_allclose(labels.affine, scan.affine, atol=1e-4)
        assert np.array_equal(found, expected)


def test_header_of_nifti_is_kept(scan: Any) -> None:
    header = scan.header.copy()
    header.set_sform(scan.affine, code=4)
    header.set_data_dtype(np.float32)
    image = nibabel.Nifti1Image(np.asarray(scan.dataobj, np.float32), scan.affine, header)
    labels = BrightFrontPredictor().predict(image)
    assert int(labels.header["sform_code"]) == 4
    assert labels.get_data_dtype() == np.uint8
    assert labels.header.get_zooms() == image.header.get_zooms()


@pytest.mark.parametrize("spacing", [None, (0.25, 0.5)])
def test_2d_images_are_arrays_of_rows_and_columns(spacing: Any, tmp_path: Path) -> None:
    colours = np.random.default_rng(0).integers(0, 255, (12, 20, 3)).astype(np.uint8)
    predictor = BrightFrontPredictor(PHOTO)
    labels = predictor.predict(colours, channel_axis=-1, spacing=spacing)
    assert labels.shape == (12, 20)
    moved = np.moveaxis(colours, -1, 0)
    assert np.array_equal(predictor.predict(moved, channel_axis=0, spacing=spacing), labels)
    io.imsave(tmp_path / "a.png", colours, check_contrast=False)
    assert np.array_equal(predictor.predict(tmp_path / "a.png"), labels)


def test_stack_without_orientation_is_taken_as_tiff_has_it() -> None:
    stack = np.random.default_rng(0).normal(size=(4, 12, 20)).astype(np.float32)
    labels = BrightFrontPredictor(STACK).predict(stack)
    assert labels.shape == stack.shape


def test_channels_are_a_list_or_the_first_of_four_axes(scan: Any) -> None:
    two = DatasetDescription(("T1", "T2"), MRI.labels, None, ".nii.gz")
    predictor = BrightFrontPredictor(two)
    expected = np.asarray(BrightFrontPredictor().predict(scan).dataobj)
    of_list = predictor.predict([scan, scan])
    assert np.array_equal(np.asarray(of_list.dataobj), expected)
    both = np.stack([np.asarray(scan.dataobj)] * 2)
    assert np.array_equal(predictor.predict(both, affine=scan.affine), expected)
    other = nibabel.Nifti1Image(np.asarray(scan.dataobj)[1:], scan.affine)
    with pytest.raises(samnet.UserError, match="channel 1: shape"):
        predictor.predict([scan, other])


CUBE = np.zeros((4, 5, 6), np.int16)
AFFINE = np.diag([1.0, 2.0, 3.0, 1.0])


@pytest.mark.parametrize(
    ("array", "said", "message"),
    [
        (CUBE, {}, "may lie in any way; say how it lies in the patient"),
        (CUBE, {"spacing": (1, 1, 1)}, "may lie in any way"),
        (CUBE, {"orientation": "LPS"}, "orientation= needs the spacing"),
        (CUBE, {"orientation": "LPX", "spacing": (1, 1, 1)}, "'LPX': expected one letter"),
        (CUBE, {"orientation": "LRS", "spacing": (1, 1, 1)}, "'LRS': expected one letter"),
        (CUBE, {"orientation": "LP", "spacing": (1, 1, 1)}, "'LP': expected one letter"),
        (CUBE, {"orientation": "LPS", "spacing": (1, 1)}, "expected 3 lengths"),
        (CUBE, {"orientation": "LPS", "affine": AFFINE}, "affine= holds orientation"),
        (CUBE, {"affine": np.eye(3)}, "4 x 4 matrix"),
        (CUBE, {"affine": np.zeros((4, 4))}, "4 x 4 matrix"),
        (CUBE, {"affine": np.diag([1.0, 0.0, 1.0, 1.0])}, "axis without length"),
        (CUBE[0], {}, "trained on volumes"),
        (CUBE[0, 0], {}, "is no image"),
        (CUBE, {"affine": AFFINE, "channel_axis": 5}, "the array has 3 axes"),
        (CUBE[:0], {"affine": AFFINE}, "is empty"),
        (CUBE.astype(complex), {"affine": AFFINE}, "expected one number each"),
        (np.array(["a"]), {}, "expected one number each"),
    ],
)
def test_array_that_may_lie_in_any_way_is_refused(array: Any, said: Any, message: str) -> None:
    with pytest.raises(samnet.UserError, match=message):
        BrightFrontPredictor().predict(array, **said)


def test_what_an_image_says_itself_cannot_be_said_again(scan: Any, tmp_path: Path) -> None:
    nibabel.save(scan, tmp_path / "a.nii.gz")
    predictor: Any = BrightFrontPredictor()
    for image in (scan, tmp_path / "a.nii.gz", [scan]):
        with pytest.raises(samnet.UserError, match="affine= is for arrays"):
            predictor.predict(image, affine=AFFINE)
    with pytest.raises(samnet.UserError, match="no such file"):
        predictor.predict(tmp_path / "missing.nii.gz")
    nibabel.save(scan, tmp_path / "b.nii.gz")
    with pytest.raises(samnet.UserError, match="holds 2 images"):
        predictor.predict(tmp_path)


def test_colour_without_its_axis_is_refused() -> None:
    with pytest.raises(samnet.UserError, match="channel_axis=-1"):
        BrightFrontPredictor(PHOTO).predict(np.zeros((4, 5, 3), np.uint8))
