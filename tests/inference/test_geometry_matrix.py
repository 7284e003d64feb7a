"""Label maps lie where their images lie, over formats, orientations and spacings.

Everything is read and written as files, as in a prediction. The images hold label values, and the
predictor returns them without an error of its own: a difference afterwards is one of the geometry.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK
import torch
from builders.dicom import write_series
from builders.models import make_plan
from scipy.spatial.transform import Rotation
from torch.nn.functional import avg_pool2d, one_hot

from samnet.core.geometry import Grid
from samnet.dataset.cases import Case
from samnet.dataset.images import read_image, read_labels
from samnet.inference.files import output_file, predict_cases
from samnet.inference.predictor import Prediction
from samnet.preprocessing.case import prepare_volume
from samnet.preprocessing.slice_frame import frame_slice

SHAPE_XYZ = (8, 9, 6)
EVERY_ORIENTATION = list(
    itertools.product(itertools.permutations(range(3)), itertools.product((1, -1), repeat=3))
)
# Each permutation twice, flips in turn.
ORIENTATIONS = [EVERY_ORIENTATION[4 * index + index % 4] for index in range(12)]
ANISOTROPIES = [(1.0, 1.0, 1.0), (0.8, 0.8, 3.0), (0.7, 4.5, 0.9)]
NUM_LABELS, STRIDE, ZOOM = 5, 2, 4.0
RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def structures() -> np.ndarray:
    """Return labels `(X, Y, Z)` of 3 to 12 voxels, one along an edge, between margins of 0.

    None is a single pixel in any slice that its spacing chooses: interpolation would take it for
    background.
    """
    labels = np.zeros(SHAPE_XYZ, np.uint8)
    labels[2:4, 3:5, 1:4] = 1
    labels[5, 5:7, 2:4] = 2
    labels[0, 0, :3] = 3
    labels[6:8, 1:3, 5] = 4
    return labels


def affine_of(
    order: tuple[int, ...], signs: tuple[int, ...], spacing: tuple[float, ...], degrees: float
) -> np.ndarray:
    """Return an affine to RAS+ of which voxel axis i runs along world axis `order[i]`.

    Then everything is turned about an oblique axis.
    """
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis in range(3):
        affine[order[axis], axis] = signs[axis] * spacing[axis]
    turn = Rotation.from_rotvec(np.radians(degrees) * np.array([2, -1, 2]) / 3).as_matrix()
    affine[:3, :3] = turn @ affine[:3, :3]
    affine[:3, 3] = (-31.5, 8.25, 120.0)
    return affine


class PerfectPredictor:
    """Returns the values of the image as labels.

    Attributes:
        resample: Whether to resample them to the network's input and output grids and back.
    """

    plan = make_plan("scratch")

    def __init__(self, resample: bool) -> None:
        self.resample = resample

    def predict_and_check(self, array: np.ndarray, grid: Grid) -> Prediction:
        volume = prepare_volume(array, grid)
        labels = volume.array[0].astype(np.uint8)
        if self.resample:
            labels = resampled_there_and_back(labels, volume.spacing)
        return Prediction(volume.restore(labels))


def resampled_there_and_back(labels: np.ndarray, spacing: tuple[float, ...]) -> np.ndarray:
    """Return labels `(Z, Y, X)` after resampling to the grids of the network and back."""
    axis = int(np.argmax(spacing))
    in_plane = [length for index, length in enumerate(spacing) if index != axis]
    slices = torch.from_numpy(np.moveaxis(labels, axis, 0).astype(np.int64))
    frame = frame_slice(
        slices.shape[1:], (in_plane[0], in_plane[1]), float(np.median(in_plane)), ZOOM, 64
    )
    canvas = frame.to_canvas(one_hot(slices, NUM_LABELS).movedim(-1, 1).float())
    maps = avg_pool2d(canvas, STRIDE)
    restored = frame.from_canvas(maps, STRIDE).argmax(1).numpy().astype(np.uint8)
    return np.moveaxis(restored, 0, axis)


def write_nifti(kind: type[nibabel.Nifti1Image], ending: str) -> Callable[[Path, np.ndarray], Path]:
    def write(folder: Path, affine: np.ndarray) -> Path:
        image = kind(structures().astype(np.int16), affine)
        image.set_qform(affine, 1)
        image.set_sform(affine, 2)
        image.header.set_xyzt_units("mm", "sec")
        nibabel.save(image, folder.with_suffix(ending))
        return folder.with_suffix(ending)

    return write


def write_itk(ending: str) -> Callable[[Path, np.ndarray], Path]:
    def write(folder: Path, affine: np.ndarray) -> Path:
        lps = RAS_TO_LPS @ affine
        spacing = np.linalg.norm(lps[:3, :3], axis=0)
        image = SimpleITK.GetImageFromArray(structures().transpose().astype(np.int16))
        image.SetSpacing(spacing.tolist())
        image.SetOrigin(lps[:3, 3].tolist())
        image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
        SimpleITK.WriteImage(image, str(folder.with_suffix(ending)))
        return folder.with_suffix(ending)

    return write


def write_dicom(folder: Path, affine: np.ndarray) -> Path:
    lps = RAS_TO_LPS @ affine
    x, y, z, origin = lps[:3].T
    columns, rows = float(np.linalg.norm(x)), float(np.linalg.norm(y))
    positions = [origin + index * z for index in range(SHAPE_XYZ[2])]
    write_series(
        folder, structures().transpose(), positions, (x / columns, y / rows), (rows, columns)
    )
    return folder


def nifti_geometry(file: Path) -> list[float]:
    header = nibabel.load(file).header
    keys = (
        *("dim", "pixdim", "qform_code", "sform_code", "xyzt_units"),
        *("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z"),
        *("srow_x", "srow_y", "srow_z"),
    )
    return np.concatenate([np.atleast_1d(header[key]) for key in keys]).tolist()


def itk_geometry(file: Path) -> list[float]:
    image = SimpleITK.ReadImage(str(file))
    return [*image.GetSize(), *image.GetOrigin(), *image.GetSpacing(), *image.GetDirection()]


Write = Callable[[Path, np.ndarray], Path]
ReadGeometry = Callable[[Path], list[float]]
FORMATS: dict[str, tuple[Write, ReadGeometry | None]] = {
    "NIfTI-1": (write_nifti(nibabel.Nifti1Image, ".nii"), nifti_geometry),
    "NIfTI-1 compressed": (write_nifti(nibabel.Nifti1Image, ".nii.gz"), nifti_geometry),
    "NIfTI-2": (write_nifti(nibabel.Nifti2Image, ".nii"), nifti_geometry),
    "NRRD": (write_itk(".nrrd"), itk_geometry),
    "MHA": (write_itk(".mha"), itk_geometry),
    "MHD": (write_itk(".mhd"), itk_geometry),
    "DICOM": (write_dicom, None),  # the label map is NIfTI: grids are compared, not headers
}


@pytest.mark.parametrize("degrees", [0.0, 23.0], ids=["straight", "oblique"])
@pytest.mark.parametrize("spacing", ANISOTROPIES, ids=str)
@pytest.mark.parametrize("name", FORMATS)
def test_predict_cases_writes_label_maps_that_lie_on_their_images(
    tmp_path: Path, name: str, spacing: tuple[float, ...], degrees: float
) -> None:
    write, read_geometry = FORMATS[name]
    (tmp_path / "in").mkdir()
    affines: dict[str, np.ndarray] = {}
    cases = []
    for number, orientation in enumerate(ORIENTATIONS):
        identifier = f"case{number}"
        affines[identifier] = affine_of(*orientation, spacing, degrees)
        file = write(tmp_path / "in" / identifier, affines[identifier])
        cases.append(Case(identifier, (file,)))

    for resample, output in ((False, tmp_path / "exact"), (True, tmp_path / "resampled")):
        predict_cases(PerfectPredictor(resample), cases, output)
        for case in cases:
            image, labels = read_image(case.image_files), read_labels(output_file(case, output))
            counts = np.bincount(image.array.ravel())
            assert np.array_equal(counts, np.bincount(structures().ravel()))
            assert labels.grid.difference(image.grid, tolerance=1e-4) is None
            if name != "DICOM":  # whose slices are sorted along their normal
                assert np.allclose(image.grid.affine, affines[case.identifier], atol=1e-4)
            if read_geometry is not None:
                expected = read_geometry(case.image_files[0])
                found = read_geometry(output_file(case, output))
                assert found == pytest.approx(expected, rel=1e-12)
            if not resample:
                assert np.array_equal(labels.array, image.array)
            for value in range(1, NUM_LABELS):
                dice = dice_of(labels.array == value, image.array == value)
                assert dice >= 0.98, (case.identifier, value)


def dice_of(one: np.ndarray, other: np.ndarray) -> float:
    return float(2 * (one & other).sum() / (one.sum() + other.sum()))
