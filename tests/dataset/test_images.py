from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK
from PIL import Image as PILImage
from scipy.spatial.transform import Rotation
from skimage import io

from samnet.core.errors import UserError
from samnet.core.geometry import Grid, spacing_affine
from samnet.core.read_failures import ReadFailure
from samnet.dataset.images import (
    Image,
    ending_of,
    is_2d_image,
    label_ending_for,
    label_endings,
    may_hold_channels,
    name_without_ending,
    read_image,
    read_labels,
    supported_endings,
    variants_of,
    write_labels,
)

SHAPE_XYZ = (6, 5, 4)
TURN = Rotation.from_euler("xyz", (20, -35, 50), degrees=True).as_matrix()


def oblique_affine() -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = TURN * (0.7, -1.3, 3.1)
    affine[:3, 3] = (1.25, -20.3, 7.7)
    return affine


def scan(dtype: type = np.int16, shape: tuple[int, ...] = SHAPE_XYZ) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 99, size=shape).astype(dtype)


def some_labels(shape: tuple[int, ...], highest: int = 3) -> np.ndarray:
    labels = np.random.default_rng(1).integers(0, highest, size=shape, endpoint=True)
    labels.flat[0] = highest
    return labels


def nifti(
    data: np.ndarray, sform_code: int = 1, qform_code: int = 1, kind: type = nibabel.Nifti1Image
) -> nibabel.Nifti1Image:
    image = kind(data, oblique_affine())
    image.set_sform(oblique_affine(), sform_code)
    image.set_qform(oblique_affine(), qform_code)
    image.header.set_xyzt_units("mm", "sec")
    image.header["descrip"] = b"synthetic"
    return image


def with_slope(image: nibabel.Nifti1Image) -> nibabel.Nifti1Image:
    image.header.set_slope_inter(2.0, -1024.0)
    return image


def big_endian(data: np.ndarray) -> nibabel.Nifti1Image:
    header = nibabel.Nifti1Header(endianness=">")
    header.set_data_dtype(data.dtype)
    return nibabel.Nifti1Image(data, oblique_affine(), header)


NIFTI_IMAGES: dict[str, Callable[[], nibabel.Nifti1Image]] = {
    "both codes": lambda: nifti(scan(), 1, 2),
    "sform only": lambda: nifti(scan(), 2, 0),
    "qform only": lambda: nifti(scan(), 0, 1),
    "both codes 0": lambda: nifti(scan(), 0, 0),
    "NIfTI-2": lambda: nifti(scan(), 1, 1, nibabel.Nifti2Image),
    "NIfTI-2, qform only": lambda: nifti(scan(), 0, 3, nibabel.Nifti2Image),
    "2D": lambda: nifti(scan(shape=(6, 5))),
    "a fourth axis of one": lambda: nifti(scan(shape=(6, 5, 4, 1))),
    "slope": lambda: with_slope(nifti(scan())),
    "float64": lambda: nifti(scan(np.float64) / 7),
    "uint16": lambda: nifti(scan(np.uint16)),
    "big endian": lambda: big_endian(scan()),
}


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
@pytest.mark.parametrize("name", NIFTI_IMAGES)
def test_write_labels_keeps_the_header_geometry_of_a_nifti_image(
    tmp_path: Path, name: str, ending: str
) -> None:
    nibabel.save(NIFTI_IMAGES[name](), tmp_path / f"image{ending}")
    image = read_image([tmp_path / f"image{ending}"])
    labels = some_labels(image.grid.shape)
    write_labels(labels, image, tmp_path / f"labels{ending}")

    source, written = (
        nibabel.load(tmp_path / f"image{ending}"),
        nibabel.load(tmp_path / f"labels{ending}"),
    )
    assert type(written) is type(source)
    assert written.shape == source.shape
    assert written.get_data_dtype() == np.uint8
    assert np.array_equal(np.asarray(written.dataobj).ravel(), labels.transpose().ravel())
    assert np.array_equal(written.affine, source.affine)
    free = {"datatype", "bitpix", "scl_slope", "scl_inter", "cal_min", "cal_max"}
    for key in set(source.header) - free:
        assert written.header[key].tobytes() == source.header[key].tobytes(), key

    back = read_labels(tmp_path / f"labels{ending}")
    assert np.array_equal(back.array[0], labels)
    assert np.array_equal(back.grid.affine, image.grid.affine)
    assert back.grid.shape == image.grid.shape


@pytest.mark.parametrize("name", NIFTI_IMAGES)
def test_read_image_returns_nifti_voxels_as_c_z_y_x(tmp_path: Path, name: str) -> None:
    nibabel.save(NIFTI_IMAGES[name](), tmp_path / "image.nii.gz")
    image = read_image([tmp_path / "image.nii.gz"])
    expected = nibabel.load(tmp_path / "image.nii.gz").get_fdata().reshape(6, 5, -1)
    assert image.array.shape == (1, *expected.shape[::-1])
    assert np.allclose(image.array[0].transpose(), expected)
    assert image.array.dtype.isnative
    assert image.array.dtype.itemsize <= 4


def test_read_image_keeps_the_stored_type_without_a_slope(tmp_path: Path) -> None:
    for name, expected in (("both codes", np.int16), ("uint16", np.uint16), ("slope", np.float32)):
        nibabel.save(NIFTI_IMAGES[name](), tmp_path / "image.nii")
        assert read_image([tmp_path / "image.nii"]).array.dtype == expected


def test_read_image_uses_the_spacing_alone_where_both_codes_are_0(tmp_path: Path) -> None:
    nibabel.save(NIFTI_IMAGES["both codes 0"](), tmp_path / "image.nii")
    assert np.allclose(read_image([tmp_path / "image.nii"]).grid.spacing, (3.1, 1.3, 0.7))


def itk_image(dimension: int = 3, components: int = 1) -> SimpleITK.Image:
    shape = (4, 5, 6)[3 - dimension :] + ((components,) if components > 1 else ())
    image = SimpleITK.GetImageFromArray(scan(shape=shape), isVector=components > 1)
    image.SetSpacing((0.7123456789, 1.3, 10 / 3)[:dimension])
    image.SetOrigin((1 / 7, -123.4567890123, 3.0)[:dimension])
    if dimension == 3:
        image.SetDirection(TURN.ravel().tolist())
    else:
        image.SetDirection([0.6, -0.8, 0.8, 0.6])
    return image


@pytest.mark.parametrize("ending", [".nrrd", ".mha", ".mhd"])
@pytest.mark.parametrize(("dimension", "components"), [(3, 1), (2, 1), (3, 2), (2, 3)])
def test_write_labels_keeps_the_geometry_of_an_itk_image(
    tmp_path: Path, ending: str, dimension: int, components: int
) -> None:
    source, written = tmp_path / f"image{ending}", tmp_path / f"labels{ending}"
    SimpleITK.WriteImage(itk_image(dimension, components), str(source))
    image = read_image([source])
    assert image.array.shape == (components, 4 if dimension == 3 else 1, 5, 6)
    labels = some_labels(image.grid.shape)
    write_labels(labels, image, written)

    back = read_labels(written)
    assert np.array_equal(back.array[0], labels)
    assert back.array.dtype == np.uint8
    # Not equal to the bit: NRRD stores the product of spacing and direction.
    assert np.allclose(back.grid.affine, image.grid.affine, rtol=1e-12)
    first, second = SimpleITK.ReadImage(str(source)), SimpleITK.ReadImage(str(written))
    for property_of in (
        SimpleITK.Image.GetSize,
        SimpleITK.Image.GetOrigin,
        SimpleITK.Image.GetSpacing,
        SimpleITK.Image.GetDirection,
    ):
        assert property_of(second) == pytest.approx(property_of(first), rel=1e-12)


@pytest.mark.parametrize("ending", [".nrrd", ".mha", ".nii.gz"])
def test_read_image_puts_a_voxel_at_the_same_position_in_every_format(
    tmp_path: Path, ending: str
) -> None:
    source = itk_image()
    SimpleITK.WriteImage(source, str(tmp_path / f"image{ending}"))
    image = read_image([tmp_path / f"image{ending}"])
    left_posterior_superior = source.TransformIndexToPhysicalPoint((5, 1, 3))
    position = (image.grid.affine @ (5, 1, 3, 1))[:3]
    assert np.allclose(position, np.multiply(left_posterior_superior, (-1, -1, 1)), atol=1e-4)
    assert image.array[0, 3, 1, 5] == source[5, 1, 3]


GREY = scan(np.uint8, (5, 6))
COLOURS = np.stack([GREY, GREY + np.uint8(50), GREY + np.uint8(100)], axis=-1)
OPAQUE = np.full((5, 6, 1), 255, dtype=np.uint8)
IMAGES_2D = {
    "grey": COLOURS[..., 0],
    "grey with alpha": np.concatenate([COLOURS[..., :1], OPAQUE], axis=-1),
    "colour": COLOURS,
    "colour with alpha": np.concatenate([COLOURS, OPAQUE], axis=-1),
    "16 bit": COLOURS[..., 0].astype(np.uint16) * 257,
}


FORMATS_2D = [(kind, ending) for kind in IMAGES_2D for ending in (".png", ".tif", ".tiff")]


@pytest.mark.parametrize(("kind", "ending"), [*FORMATS_2D, ("grey", ".bmp"), ("colour", ".bmp")])
def test_read_image_reads_2d_images_and_their_label_maps(
    tmp_path: Path, kind: str, ending: str
) -> None:
    pixels = IMAGES_2D[kind]
    PILImage.fromarray(pixels).save(tmp_path / f"image{ending}")
    image = read_image([tmp_path / f"image{ending}"])
    expected = pixels.reshape(5, 6, -1)
    expected = expected[..., : 3 if expected.shape[-1] >= 3 else 1]
    assert np.array_equal(image.array, np.moveaxis(expected, -1, 0)[:, None])
    assert image.array.dtype == pixels.dtype
    assert image.grid.spacing == (1.0, 1.0, 1.0)

    labels = some_labels((1, 5, 6))
    write_labels(labels, image, tmp_path / f"labels{ending}")
    back = read_labels(tmp_path / f"labels{ending}")
    assert np.array_equal(back.array[0], labels)
    assert np.array_equal(back.grid.affine, image.grid.affine)


@pytest.mark.parametrize("ending", [".png", ".bmp"])
def test_read_labels_reads_2d_images_of_one_bit_as_0_and_1(tmp_path: Path, ending: str) -> None:
    mask = scan(shape=(5, 6)) > 50
    PILImage.fromarray(mask).save(tmp_path / f"mask{ending}")
    assert read_image([tmp_path / f"mask{ending}"]).array.dtype == np.uint8
    assert np.array_equal(read_labels(tmp_path / f"mask{ending}").array[0, 0], mask)


@pytest.mark.parametrize(
    ("highest", "expected"), [(0, np.uint8), (255, np.uint8), (256, np.uint16), (65535, np.uint16)]
)
@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd", ".mha", ".png", ".tif"])
def test_write_labels_chooses_the_smallest_type(
    tmp_path: Path, ending: str, highest: int, expected: type
) -> None:
    reference = tmp_path / f"image{ending}"
    if ending == ".nii.gz":
        nibabel.save(nifti(scan(np.float32)), reference)
    elif ending in (".nrrd", ".mha"):
        SimpleITK.WriteImage(itk_image(), str(reference))
    else:
        io.imsave(reference, COLOURS, check_contrast=False)
    image = read_image([reference])
    labels = some_labels(image.grid.shape, highest).astype(np.int64)
    write_labels(labels, image, tmp_path / f"labels{ending}")
    back = read_labels(tmp_path / f"labels{ending}")
    assert back.array.dtype == expected
    assert read_image([tmp_path / f"labels{ending}"]).array.dtype == expected
    assert np.array_equal(back.array[0], labels)


@pytest.fixture
def reference(tmp_path: Path) -> Image:
    nibabel.save(nifti(scan()), tmp_path / "image.nii.gz")
    return read_image([tmp_path / "image.nii.gz"])


def test_write_labels_that_fails_leaves_nothing(
    tmp_path: Path, reference: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(image: nibabel.Nifti1Image, file: Path) -> None:
        Path(file).write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(nibabel, "save", fail)
    with pytest.raises(OSError, match="disk full"):
        write_labels(some_labels(reference.grid.shape), reference, tmp_path / "labels.nii.gz")
    assert os.listdir(tmp_path) == ["image.nii.gz"]


@pytest.mark.parametrize(
    "labels",
    [
        np.zeros((4, 5, 7), np.uint8),
        np.full((4, 5, 6), 0.5),
        np.full((4, 5, 6), -1),
        np.full((4, 5, 6), 65536),
    ],
    ids=["shape", "fractions", "negative", "too high"],
)
def test_write_labels_refuses_what_is_no_label_map_of_the_image(
    tmp_path: Path, reference: Image, labels: np.ndarray
) -> None:
    with pytest.raises(ValueError, match="labels"):
        write_labels(labels, reference, tmp_path / "labels.nii.gz")
    assert os.listdir(tmp_path) == ["image.nii.gz"]


@pytest.mark.parametrize("name", ["labels.nrrd", "labels.png", "labels.txt"])
def test_write_labels_refuses_another_format(tmp_path: Path, reference: Image, name: str) -> None:
    with pytest.raises(UserError, match=name):
        write_labels(np.zeros((4, 5, 6), np.uint8), reference, tmp_path / name)


def test_write_labels_refuses_labels_above_255_for_bmp(tmp_path: Path) -> None:
    grid = Grid((1, 2, 2), spacing_affine((1, 1, 1)))
    image = Image(np.zeros((1, 1, 2, 2), np.uint8), grid, None)
    with pytest.raises(UserError, match=r"labels\.bmp: .*300.*use PNG"):
        write_labels(np.full((1, 2, 2), 300), image, tmp_path / "labels.bmp")


def test_jpeg_may_be_an_image_but_no_label_map(tmp_path: Path) -> None:
    PILImage.fromarray(COLOURS).save(tmp_path / "image.jpg", quality=95)
    image = read_image([tmp_path / "image.jpg"])
    assert image.array.shape == (3, 1, 5, 6)
    with pytest.raises(UserError, match=r"labels\.jpg: JPEG changes values.*use PNG"):
        write_labels(np.ones((1, 5, 6), np.uint8), image, tmp_path / "labels.jpg")
    with pytest.raises(UserError, match=r"image\.jpg: JPEG changes values.*use PNG"):
        read_labels(tmp_path / "image.jpg")
    write_labels(np.ones((1, 5, 6), np.uint8), image, tmp_path / "labels.png")
    assert read_labels(tmp_path / "labels.png").array.all()


def test_read_labels_takes_whole_numbers_stored_as_floats(tmp_path: Path) -> None:
    nibabel.save(nifti(scan(np.float64)), tmp_path / "labels.nii.gz")
    labels = read_labels(tmp_path / "labels.nii.gz")
    assert labels.array.dtype == np.uint8
    assert np.array_equal(labels.array[0].transpose(), scan())


@pytest.mark.parametrize("value", [0.5, np.nan, np.inf, -1.0, 65536.0])
def test_read_labels_names_values_that_are_no_labels(tmp_path: Path, value: float) -> None:
    data = scan(np.float32)
    data[1, 2, 3] = value
    nibabel.save(nifti(data), tmp_path / "labels.nii.gz")
    with pytest.raises(UserError, match=r"labels\.nii\.gz: label value") as caught:
        read_labels(tmp_path / "labels.nii.gz")
    assert str(value) in str(caught.value)


def test_read_labels_refuses_a_colour_image(tmp_path: Path) -> None:
    PILImage.fromarray(COLOURS).quantize(8).save(tmp_path / "labels.png")
    with pytest.raises(UserError, match=r"labels\.png: .*one channel.*palette"):
        read_labels(tmp_path / "labels.png")


def whole(ending: str, folder: Path) -> bytes:
    """Return the content of a file of this ending that can be read."""
    file = folder / f"whole{ending}"
    if ".nii" in ending:
        voxels = np.random.default_rng(0).integers(0, 9999, (16, 16, 16)).astype(np.int16)
        nibabel.save(nifti(voxels), file)
    elif ending in (".nrrd", ".mha"):
        SimpleITK.WriteImage(itk_image(), str(file))
    else:
        io.imsave(file, COLOURS, check_contrast=False)
    content = file.read_bytes()
    file.unlink()
    return content


@pytest.mark.parametrize("fault", ["truncated", "text", "empty", "missing", "folder"])
@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".nrrd", ".mha", ".png", ".tif", ".bmp"])
def test_read_image_names_a_file_that_cannot_be_read(
    tmp_path: Path, ending: str, fault: str
) -> None:
    file = tmp_path / f"größe 1{ending}"
    if fault == "folder":
        file.mkdir()
    elif fault != "missing":
        content = {
            "truncated": whole(ending, tmp_path)[:-40],
            "text": b"see the other disk\n",
            "empty": b"",
        }[fault]
        file.write_bytes(content)
    reason = "cannot be read, it may be truncated"
    if fault in ("missing", "folder"):
        reason = "no such file"
    with pytest.raises(UserError, match=reason) as caught:
        read_image([file])
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def colour_nifti() -> nibabel.Nifti1Image:
    colour = np.zeros(SHAPE_XYZ, dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    return nibabel.Nifti1Image(colour, np.eye(4))


def flat_nifti() -> nibabel.Nifti1Image:
    image = nibabel.Nifti1Image(scan(), np.eye(4))
    image.header["srow_y"] = image.header["srow_x"]
    return nibabel.Nifti1Image(scan(), None, image.header)


@pytest.mark.parametrize(
    ("create", "reason"),
    [
        (lambda: nifti(scan(shape=(6, 5, 4, 3))), r"\(6, 5, 4, 3\).*split 4D"),
        (lambda: nifti(scan(shape=(6, 5, 4, 1, 3))), r"\(6, 5, 4, 1, 3\)"),
        (lambda: nifti(scan(np.complex64)), "complex64"),
        (colour_nifti, "voxels of type"),
        (flat_nifti, "no usable geometry"),
    ],
    ids=["4D", "vectors", "complex", "colour", "flat"],
)
def test_read_image_refuses_a_volume_of_another_form(
    tmp_path: Path, create: Callable, reason: str
) -> None:
    nibabel.save(create(), tmp_path / "image.nii.gz")
    with pytest.raises(UserError, match=reason) as caught:
        read_image([tmp_path / "image.nii.gz"])
    assert str(tmp_path / "image.nii.gz") in str(caught.value)


def test_read_image_reads_tiny_voxels(tmp_path: Path) -> None:
    file = tmp_path / "microscopy.nii.gz"
    nibabel.save(nibabel.Nifti1Image(scan(), np.diag([1e-5, 1e-5, 1e-4, 1.0])), file)
    assert np.allclose(read_image([file]).grid.spacing, (1e-4, 1e-5, 1e-5))


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (MemoryError(), "the memory ran out"),
        (RuntimeError("itk: Failed to allocate memory for image."), "the memory ran out"),
        (OSError(errno.ESTALE, "Stale file handle"), r"Stale file handle \(error ESTALE\)"),
        (OSError(errno.EIO, "Input/output error"), r"Input/output error \(error EIO\)"),
        (PermissionError(errno.EACCES, "Permission denied"), "Permission denied"),
    ],
)
def test_read_image_does_not_blame_the_file_for_a_failure_of_the_machine(
    failure: Exception, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(file: Path) -> None:
        raise failure

    nibabel.save(nifti(scan()), tmp_path / "image.nii.gz")
    monkeypatch.setattr(nibabel, "load", fail)
    with pytest.raises(ReadFailure, match=rf"image\.nii\.gz: cannot be read, .*{reason}") as caught:
        read_image([tmp_path / "image.nii.gz"])
    assert "truncated" not in str(caught.value)
    assert caught.value.exit_code == 1


@pytest.mark.parametrize(
    "failure", [OSError("Expected 8 bytes, got 4"), OSError(errno.EINVAL, "Invalid argument")]
)
def test_read_image_blames_the_file_for_its_content(
    failure: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(file: Path) -> None:
        raise failure

    nibabel.save(nifti(scan()), tmp_path / "image.nii.gz")
    monkeypatch.setattr(nibabel, "load", fail)
    with pytest.raises(UserError, match="it may be truncated"):
        read_image([tmp_path / "image.nii.gz"])


def channel_files(folder: Path, second: nibabel.Nifti1Image) -> list[Path]:
    files = [folder / "case_0000.nii.gz", folder / "case_0001.nii.gz"]
    nibabel.save(nifti(scan()), files[0])
    nibabel.save(second, files[1])
    return files


def test_read_image_stacks_channels_in_the_order_of_their_files(tmp_path: Path) -> None:
    image = read_image(channel_files(tmp_path, nifti(scan() + np.int16(1))))
    assert image.array.shape == (2, 4, 5, 6)
    assert image.array.dtype == np.int16
    assert np.array_equal(image.array[0] + 1, image.array[1])


def test_read_image_refuses_channels_of_two_grids(tmp_path: Path) -> None:
    with pytest.raises(
        UserError,
        match=r"case_0001\.nii\.gz: shape \(3, 5, 6\).*differs from \(4, 5, 6\).*resample",
    ):
        read_image(channel_files(tmp_path, nifti(scan(shape=(6, 5, 3)))))
    shifted = oblique_affine()
    shifted[0, 3] += 1.4
    with pytest.raises(
        UserError, match=r"case_0001\.nii\.gz: lies 2\.0 voxels beside .*case_0000\.nii\.gz"
    ):
        read_image(channel_files(tmp_path, nibabel.Nifti1Image(scan(), shifted)))


def test_ending_of_a_file_name() -> None:
    assert ending_of(Path("a.b.nii.gz")) == ".nii.gz"
    assert ending_of(Path("a.nii")) == ".nii"
    assert ending_of(Path("IMG_1.JPG")) == ".jpg"
    assert ending_of(Path("a.gz")) is None
    assert name_without_ending(Path("a.b.NII.gz")) == "a.b"
    assert variants_of(".nii") == (".nii", ".nii.gz")
    assert variants_of(".nrrd") == (".nrrd", ".nhdr")


def test_ending_of_label_maps() -> None:
    assert not {".jpg", ".jpeg"} & set(label_endings())
    written = {
        "a.JPG": ".png",
        "a.nii": ".nii",
        "a.mhd": ".mhd",
        "a.nhdr": ".nrrd",
        "folder_of_dicom": ".nii.gz",
    }
    assert {name: label_ending_for(Path(name)) for name in written} == written


def test_ending_tells_2d_images_and_several_channels() -> None:
    always = [ending for ending in supported_endings() if is_2d_image(ending, num_slices=2)]
    assert always == [".png", ".bmp", ".jpg", ".jpeg"]
    assert is_2d_image(".tif", num_slices=1)
    assert not is_2d_image(".tif", num_slices=2)
    assert not may_hold_channels(".nii.gz")
    assert may_hold_channels(".nrrd")
    assert may_hold_channels(".png")


@pytest.mark.parametrize("dataset", ["Dataset004_Hippocampus", "Dataset010_SarcomaCT"])
def test_write_labels_keeps_the_grid_of_real_scans(
    real_data: Path, tmp_path: Path, dataset: str
) -> None:
    file = min((real_data / dataset / "imagesTr").iterdir())
    image = read_image([file])
    write_labels(np.zeros(image.grid.shape, np.uint8), image, tmp_path / "labels.nii.gz")
    source, written = nibabel.load(file), nibabel.load(tmp_path / "labels.nii.gz")
    for key in (
        "dim",
        "pixdim",
        "qform_code",
        "sform_code",
        "xyzt_units",
        "quatern_b",
        "srow_x",
        "srow_z",
    ):
        assert written.header[key].tobytes() == source.header[key].tobytes()
