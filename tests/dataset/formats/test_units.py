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


def write_metaimage(file: Path, **fields: str) -> None:
    """Write a MetaImage with further fields in its header."""
    image = SimpleITK.GetImageFromArray(VOXELS)
    image.SetSpacing(SPACING[::-1])
    SimpleITK.WriteImage(image, str(file))
    lines = "".join(f"{name} = {value}\n" for name, value in fields.items()).encode()
    file.write_bytes(file.read_bytes().replace(b"ElementDataFile", lines + b"ElementDataFile", 1))


@pytest.mark.parametrize(("unit", "factor"), [("um", 1e-3), ("mm", 1.0), ("cm", 10.0), ("?", 1.0)])
def test_metaimage_of_any_unit_lies_on_the_same_grid_as_its_label_map(
    tmp_path: Path, unit: str, factor: float
) -> None:
    write_metaimage(tmp_path / "a.mha", DistanceUnits=unit)
    image = read_image([tmp_path / "a.mha"])
    assert np.allclose(image.grid.spacing, np.multiply(SPACING, factor))
    assert np.array_equal(image.array[0], VOXELS)
    write_labels(VOXELS, image, tmp_path / "labels.mha")
    labels = read_labels(tmp_path / "labels.mha")
    assert labels.grid.difference(image.grid) is None
    assert np.array_equal(labels.array[0], VOXELS)


def test_metaimage_of_an_unknown_unit_is_refused(tmp_path: Path) -> None:
    write_metaimage(tmp_path / "a.mha", DistanceUnits="cubit")
    with pytest.raises(UserError, match="DistanceUnits are 'cubit'; write a unit of length"):
        read_image([tmp_path / "a.mha"])


def test_metaimage_whose_values_are_to_be_scaled_is_refused(tmp_path: Path) -> None:
    write_metaimage(tmp_path / "a.mha", ElementToIntensityFunctionSlope="1.0")
    assert np.array_equal(read_image([tmp_path / "a.mha"]).array[0], VOXELS)
    write_metaimage(tmp_path / "b.mha", ElementToIntensityFunctionSlope="2.5")
    with pytest.raises(UserError, match=r"FunctionSlope = 2\.5, which is not app"):
        read_image([tmp_path / "b.mha"])


@pytest.mark.parametrize("ending", [".nrrd", ".mha"])
def test_no_spacing_in_a_header_is_not_taken_for_1_mm(tmp_path: Path, ending: str) -> None:
    file = tmp_path / f"a{ending}"
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(VOXELS), str(file))
    assert read_image([file]).grid.has_spacing
    text = file.read_bytes()
    for name in (b"space directions", b"spacings", b"space origin", b"space:", b"ElementSpacing"):
        start = text.find(name)
        if start >= 0:
            text = text[:start] + text[text.index(b"\n", start) + 1 :]
    file.write_bytes(text)
    image = read_image([file])
    assert not image.grid.has_spacing
    assert np.array_equal(image.array[0], VOXELS)


def test_nrrd_with_directions_that_are_no_numbers_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.nrrd"
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(VOXELS), str(file))
    file.write_bytes(file.read_bytes().replace(b"(1,0,0)", b"(nan,nan,nan)", 1))
    with pytest.raises(UserError, match=r"its space directions are \(nan,nan,nan\)"):
        read_image([file])


def write_nifti_header(file: Path, **fields: object) -> None:
    """Write a NIfTI file whose header has these values, valid or not."""
    write_nifti(file, "mm", 1.0)
    content = file.read_bytes()
    header = nibabel.Nifti1Header(content[:348], check=False)
    for name, value in fields.items():
        header[name] = value
    file.write_bytes(header.binaryblock + content[348:])


def test_nifti_with_voxels_of_0_mm_is_refused(tmp_path: Path) -> None:
    pixdim = [1, 0.5, 0.7, 0, 1, 1, 1, 1]
    write_nifti_header(tmp_path / "a.nii", pixdim=pixdim, sform_code=0, qform_code=1)
    with pytest.raises(UserError, match=r"voxels of 0\.5 x 0\.7 x 0 \(pixdim\) and has no sform"):
        read_image([tmp_path / "a.nii"])


def test_nifti_with_two_sizes_of_voxels_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_nifti_header(tmp_path / "a.nii", pixdim=[1, 0.51, 0.69, 2, 1, 1, 1, 1])
    read_image([tmp_path / "a.nii"])
    assert not caplog.records
    write_nifti_header(tmp_path / "b.nii", pixdim=[1, 5, 7, 20, 1, 1, 1, 1])
    assert np.allclose(read_image([tmp_path / "b.nii"]).grid.spacing, SPACING)
    [record] = caplog.records
    assert "5 x 7 x 20 in pixdim and 0.5 x 0.7 x 2 in the sform" in record.message
