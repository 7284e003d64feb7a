"""Lengths in every unit of a header become mm, and label maps keep the header's own unit."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK

from samnet.core.errors import UserError
from samnet.core.units import millimetres_per, round_length, show_length
from samnet.dataset.formats.itk_headers import add_nrrd_units
from samnet.dataset.images import read_image, read_labels, write_labels

VOXELS = np.random.default_rng(0).integers(0, 99, (4, 5, 6)).astype(np.uint8)
SPACING = (2.0, 0.7, 0.5)  # (Z, Y, X) in mm
ORIGIN = (1.0, -2.0, 3.0)


def write_nifti(file: Path, unit: str, factor: float, kind: type = nibabel.Nifti1Image) -> None:
    affine = np.diag([SPACING[2] * factor, SPACING[1] * factor, SPACING[0] * factor, 1.0])
    affine[:3, 3] = np.multiply(ORIGIN, factor)
    image = kind(VOXELS.transpose(), affine)
    image.header.set_xyzt_units(unit, "sec")
    nibabel.save(image, file)


@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize(
    ("unit", "factor"), [("meter", 1e-3), ("mm", 1.0), ("micron", 1e3), ("unknown", 1.0)]
)
def test_nifti_of_any_unit_lies_on_the_same_grid_as_its_label_map(
    tmp_path: Path, unit: str, factor: float, kind: type
) -> None:
    write_nifti(tmp_path / "a.nii", unit, factor, kind)
    image = read_image([tmp_path / "a.nii"])
    assert np.allclose(image.grid.spacing, SPACING)
    assert np.allclose(image.grid.origin, ORIGIN)
    write_labels(VOXELS, image, tmp_path / "labels.nii")
    assert np.array_equal(read_labels(tmp_path / "labels.nii").grid.affine, image.grid.affine)
    source, written = nibabel.load(tmp_path / "a.nii"), nibabel.load(tmp_path / "labels.nii")
    assert written.header.get_xyzt_units() == source.header.get_xyzt_units() == (unit, "sec")
    assert np.array_equal(written.affine, source.affine)


def test_channels_of_different_units_lie_on_one_grid(tmp_path: Path) -> None:
    write_nifti(tmp_path / "a_0000.nii", "mm", 1.0)
    write_nifti(tmp_path / "a_0001.nii", "micron", 1e3)
    image = read_image([tmp_path / "a_0000.nii", tmp_path / "a_0001.nii"])
    assert image.array.shape == (2, 4, 5, 6)


def write_nrrd(file: Path, factor: float, units: tuple[str, ...]) -> None:
    image = SimpleITK.GetImageFromArray(VOXELS)
    image.SetSpacing([length * factor for length in SPACING[::-1]])
    image.SetOrigin([x * factor for x in (-ORIGIN[0], -ORIGIN[1], ORIGIN[2])])
    SimpleITK.WriteImage(image, str(file))
    if units:
        add_nrrd_units(file, units)


@pytest.mark.parametrize(
    ("unit", "factor"), [("m", 1e-3), ("mm", 1.0), ("microns", 1e3), ("\u00b5m", 1e3), ("", 1.0)]
)
def test_nrrd_of_any_unit_lies_on_the_same_grid_as_its_label_map(
    tmp_path: Path, unit: str, factor: float
) -> None:
    write_nrrd(tmp_path / "a.nrrd", factor, (unit,) * 3 if unit else ())
    image = read_image([tmp_path / "a.nrrd"])
    assert np.allclose(image.grid.spacing, SPACING)
    assert np.allclose(image.grid.origin, ORIGIN)
    write_labels(VOXELS, image, tmp_path / "labels.nrrd")
    labels = read_labels(tmp_path / "labels.nrrd")
    assert np.array_equal(labels.array[0], VOXELS)
    assert np.allclose(labels.grid.affine, image.grid.affine, rtol=1e-12)
    source = SimpleITK.ReadImage(str(tmp_path / "a.nrrd"))
    written = SimpleITK.ReadImage(str(tmp_path / "labels.nrrd"))
    assert written.GetSpacing() == pytest.approx(source.GetSpacing(), rel=1e-12)


def test_nrrd_takes_the_units_of_axes_with_a_spacing(tmp_path: Path) -> None:
    header = (
        "NRRD0004\ntype: uint8\ndimension: 3\nsizes: 6 5 4\nspacings: 500 700 2000\n"
        'units: "um" "um" "um"\nencoding: raw\n\n'
    )
    (tmp_path / "a.nrrd").write_bytes(header.encode() + VOXELS.tobytes())
    assert np.allclose(read_image([tmp_path / "a.nrrd"]).grid.spacing, SPACING)


@pytest.mark.parametrize("units", [("furlong",) * 3, ("mm", "mm", "sec")])
def test_nrrd_of_unknown_units_is_refused(tmp_path: Path, units: tuple[str, ...]) -> None:
    write_nrrd(tmp_path / "a.nrrd", 1.0, units)
    with pytest.raises(UserError, match=r"a\.nrrd: its axes have the units .*such as mm"):
        read_image([tmp_path / "a.nrrd"])


def test_millimetres_per_knows_the_spellings_of_units() -> None:
    spellings = ("um", "\u00b5m", "\u03bcm", "\\u00B5m", "Microns", "micrometers")
    assert {millimetres_per(name) for name in spellings} == {1e-3}
    assert millimetres_per("Meters") == 1000.0
    assert millimetres_per("inch") == 25.4
    assert millimetres_per("m") != millimetres_per("mm") != millimetres_per("nm")
    assert millimetres_per("pixel") is None
    assert millimetres_per("s") is None


def test_lengths_of_a_microscope_are_neither_rounded_nor_shown_as_0() -> None:
    assert round_length(0.00025, 4) == 0.00025
    assert round_length(0.71239, 4) == 0.7124
    assert round_length(0.0, 3) == 0.0
    assert show_length(0.00025, 2) == "0.00025"
    assert show_length(1.234, 2) == "1.23"
