"""The geometry contract over formats, orientations and spacings, through files as a prediction goes.

The images hold label values, and the predictor sees them perfectly: what differs afterwards was lost on the way.
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
from samnet.preprocessing.case import prepare_volume
from samnet.preprocessing.slice_frame import frame_slice

SHAPE_XYZ = (8, 9, 6)
EVERY = list(
    itertools.product(itertools.permutations(range(3)), itertools.product((1, -1), repeat=3))
)
ORIENTATIONS = [
    EVERY[4 * index + index % 4] for index in range(12)
]  # each permutation twice, flips in turn
ANISOTROPIES = [(1.0, 1.0, 1.0), (0.8, 0.8, 3.0), (0.7, 4.5, 0.9)]
NUM_LABELS, STRIDE, ZOOM = 5, 2, 4.0
RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def structures() -> np.ndarray:
    """Labels `(X, Y, Z)` of 3 to 12 voxels, one along an edge, in an image whose margins are 0.

    None is a single pixel in any slice that its spacing chooses: interpolation takes those for background.
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
    """Voxel axis i runs along world axis `order[i]`, then everything is turned about an oblique axis; RAS+."""
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis in range(3):
        affine[order[axis], axis] = signs[axis] * spacing[axis]
    turn = Rotation.from_rotvec(np.radians(degrees) * np.array([2, -1, 2]) / 3).as_matrix()
    affine[:3, :3] = turn @ affine[:3, :3]
    affine[:3, 3] = (-31.5, 8.25, 120.0)
    return affine


class PerfectPredictor:
    """Gives back the values of the image, straight or by way of the network's input and output grids."""

    plan = make_plan("scratch")

    def __init__(self, resample: bool) -> None:
        self.resample = resample

    def predict_on_grid(self, array: np.ndarray, grid: Grid) -> np.ndarray:
        volume = prepare_volume(array, grid)
        labels = volume.array[0].astype(np.uint8)
        return volume.restore(_there_and_back(labels, volume.spacing) if self.resample else labels)


def _there_and_back(labels: np.ndarray, spacing: tuple[float, ...]) -> np.ndarray:
    axis = int(np.argmax(spacing))
    in_plane = [length for index, length in enumerate(spacing) if index != axis]
    slices = torch.from_numpy(np.moveaxis(labels, axis, 0).astype(np.int64))
    frame = frame_slice(
        slices.shape[1:], (in_plane[0], in_plane[1]), float(np.median(in_plane)), ZOOM, 64
    )
    canvas = frame.to_canvas(one_hot(slices, NUM_LABELS).movedim(-1, 1).float())
    maps = avg_pool2d(canvas, STRIDE)
    return np.moveaxis(frame.from_canvas(maps, STRIDE).argmax(1).numpy().astype(np.uint8), 0, axis)


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
        "dim",
        "pixdim",
        "qform_code",
        "sform_code",
        "xyzt_units",
        "quatern_b",
        "quatern_c",
        "quatern_d",
    )
    keys += ("qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z")
    return np.concatenate([np.atleast_1d(header[key]) for key in keys]).tolist()


def itk_geometry(file: Path) -> list[float]:
    image = SimpleITK.ReadImage(str(file))
    return [*image.GetSize(), *image.GetOrigin(), *image.GetSpacing(), *image.GetDirection()]


FORMATS: dict[
    str, tuple[Callable[[Path, np.ndarray], Path], Callable[[Path], list[float]] | None]
] = {
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
def test_what_is_predicted_lies_where_it_was_seen(
    tmp_path: Path, name: str, spacing: tuple[float, ...], degrees: float
) -> None:
    write, geometry = FORMATS[name]
    (tmp_path / "in").mkdir()
    affines = {
        f"case{n}": affine_of(*ORIENTATIONS[n], spacing, degrees) for n in range(len(ORIENTATIONS))
    }
    cases = [
        Case(case, (write(tmp_path / "in" / case, affine),)) for case, affine in affines.items()
    ]
    for resample, output in ((False, tmp_path / "exact"), (True, tmp_path / "resampled")):
        predict_cases(PerfectPredictor(resample), cases, output)
        for case in cases:
            image, labels = read_image(case.image_files), read_labels(output_file(case, output))
            assert np.array_equal(
                np.bincount(image.array.ravel()), np.bincount(structures().ravel())
            )
            assert labels.grid.is_close_to(image.grid, 1e-4)
            assert (
                np.allclose(image.grid.affine, affines[case.identifier], atol=1e-4)
                or name == "DICOM"
            )
            if geometry is not None:
                found, expected = geometry(output_file(case, output)), geometry(case.image_files[0])
                assert found == pytest.approx(expected, rel=1e-12)
            if not resample:
                assert np.array_equal(labels.array, image.array)
            for value in range(1, NUM_LABELS):
                one, other = labels.array == value, image.array == value
                assert 2 * (one & other).sum() >= 0.98 * (one.sum() + other.sum()), (
                    case.identifier,
                    value,
                )
