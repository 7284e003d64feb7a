from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

from samnet.core.errors import UserError
from samnet.dataset.images import companions_of, read_image, read_labels, write_labels

STACK = np.random.default_rng(0).integers(0, 200, (7, 5, 6)).astype(np.uint8)


def write_pages(file: Path) -> None:
    first, *rest = (Image.fromarray(page) for page in STACK)
    first.save(file, save_all=True, append_images=rest)


WRITERS: dict[str, Any] = {
    "pages": write_pages,
    "tifffile": lambda file: tifffile.imwrite(file, STACK),
    "ImageJ": lambda file: tifffile.imwrite(file, STACK, imagej=True, metadata={"axes": "ZYX"}),
    "OME": lambda file: tifffile.imwrite(file, STACK, ome=True, metadata={"axes": "ZYX"}),
    "compressed": lambda file: tifffile.imwrite(
        file, STACK, compression="zlib", metadata={"axes": "ZYX"}
    ),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_tiff_stack_is_read_as_a_volume(tmp_path: Path, writer: str) -> None:
    WRITERS[writer](tmp_path / "a.tif")
    image = read_image([tmp_path / "a.tif"])
    assert np.array_equal(image.array, STACK[None])
    assert image.grid.spacing == (1.0, 1.0, 1.0)
    write_labels(STACK, image, tmp_path / "labels.tif")
    back = read_labels(tmp_path / "labels.tif")
    assert np.array_equal(back.array[0], STACK)
    assert np.array_equal(back.grid.affine, image.grid.affine)


def test_tiff_stack_keeps_its_channels(tmp_path: Path) -> None:
    channels = np.stack([STACK, STACK // 2], axis=1)
    tifffile.imwrite(tmp_path / "a.tif", channels, imagej=True, metadata={"axes": "ZCYX"})
    assert np.array_equal(read_image([tmp_path / "a.tif"]).array, channels.swapaxes(0, 1))


@pytest.mark.parametrize("name", ["a_0000.tif", "a.tiff"])
def test_tiff_stack_takes_its_spacing_from_the_json_file_of_nnunet(
    tmp_path: Path, name: str
) -> None:
    tifffile.imwrite(tmp_path / name, STACK)
    (tmp_path / "a.json").write_text(json.dumps({"spacing": [3, 0.7, 0.31]}))
    image = read_image([tmp_path / name])
    assert image.grid.spacing == (3.0, 0.7, 0.31)
    assert companions_of(tmp_path / name) == [tmp_path / "a.json"]
    write_labels(STACK, image, tmp_path / "labels.tif")
    assert np.allclose(
        read_labels(tmp_path / "labels.tif").grid.affine, image.grid.affine, rtol=1e-6
    )


@pytest.mark.parametrize(
    ("unit", "millimetres"), [("mm", 1.0), ("um", 1e-3), ("micron", 1e-3), ("\\u00B5m", 1e-3)]
)
def test_tiff_stack_takes_its_spacing_from_imagej(
    tmp_path: Path, unit: str, millimetres: float
) -> None:
    metadata = {"axes": "ZYX", "spacing": 2.5, "unit": unit}
    tifffile.imwrite(
        tmp_path / "a.tif", STACK, imagej=True, resolution=(1 / 0.3, 1 / 0.4), metadata=metadata
    )
    spacing = read_image([tmp_path / "a.tif"]).grid.spacing
    assert spacing == pytest.approx(
        (2.5 * millimetres, 0.4 * millimetres, 0.3 * millimetres), rel=1e-6
    )


def test_tiff_spacing_in_pixels_is_ignored(tmp_path: Path) -> None:
    metadata = {"axes": "ZYX", "spacing": 2.5, "unit": "pixel"}
    tifffile.imwrite(tmp_path / "a.tif", STACK, imagej=True, resolution=(72, 72), metadata=metadata)
    assert read_image([tmp_path / "a.tif"]).grid.spacing == (1.0, 1.0, 1.0)


@pytest.mark.parametrize(
    "content", [{"spacing": [1, 2]}, {"spacing": [1, 2, 0]}, {"spacing": [1, 2, "3"]}, {}, [1]]
)
def test_tiff_spacing_of_another_form_is_reported_with_its_file(
    tmp_path: Path, content: Any
) -> None:
    tifffile.imwrite(tmp_path / "a_0000.tif", STACK)
    (tmp_path / "a.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=r'a\.json: "spacing" is .*write three lengths in mm'):
        read_image([tmp_path / "a_0000.tif"])


def test_tiff_that_is_no_volume_is_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "film.tif", STACK, imagej=True, metadata={"axes": "TYX"})
    with pytest.raises(
        UserError, match=r"film\.tif: has shape \(7, 5, 6\) along TYX; expected a 2D image"
    ):
        read_image([tmp_path / "film.tif"])
    with tifffile.TiffWriter(tmp_path / "two.tif") as writer:
        writer.write(STACK[0])
        writer.write(STACK[0, :3])
    with pytest.raises(UserError, match=r"two\.tif: holds 2 images of different form"):
        read_image([tmp_path / "two.tif"])


def test_tiff_stack_takes_its_spacing_from_ome(tmp_path: Path) -> None:
    metadata = {"axes": "ZYX"}
    for axis, size, unit in (("X", 300.0, "nm"), ("Y", 0.4, "\u00b5m"), ("Z", 0.0025, "mm")):
        metadata |= {f"PhysicalSize{axis}": size, f"PhysicalSize{axis}Unit": unit}
    tifffile.imwrite(tmp_path / "a.tif", STACK, ome=True, metadata=metadata)
    image = read_image([tmp_path / "a.tif"])
    assert image.grid.spacing == pytest.approx((2.5e-3, 4e-4, 3e-4))
    write_labels(STACK, image, tmp_path / "labels.tif")
    labels = read_labels(tmp_path / "labels.tif")
    assert np.allclose(labels.grid.affine, image.grid.affine, rtol=1e-6, atol=0)


def test_tiff_stack_takes_units_of_each_axis_from_imagej(tmp_path: Path) -> None:
    metadata = {"axes": "ZYX", "spacing": 2.5, "unit": "um", "zunit": "mm"}
    tifffile.imwrite(
        tmp_path / "a.tif", STACK, imagej=True, resolution=(1 / 0.3, 1 / 0.4), metadata=metadata
    )
    spacing = read_image([tmp_path / "a.tif"]).grid.spacing
    assert spacing == pytest.approx((2.5, 4e-4, 3e-4), rel=1e-6)


def test_tiff_stack_without_the_distance_of_its_slices_has_no_unit(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    metadata = {"axes": "ZYX", "PhysicalSizeX": 0.3, "PhysicalSizeY": 0.3}
    tifffile.imwrite(tmp_path / "a.tif", STACK, ome=True, metadata=metadata)
    grid = read_image([tmp_path / "a.tif"]).grid
    assert (grid.spacing, grid.unit) == ((1.0, 1.0, 1.0), "voxels")
    assert "but not the distance of its slices" in caplog.text
    assert "a.json" in caplog.text


@pytest.mark.parametrize(
    ("resolution", "unit", "expected"),
    [
        ((40000, 20000), "CENTIMETER", (2.5e-4, 5e-4, 2.5e-4)),
        ((101600, 101600), "INCH", (2.5e-4, 2.5e-4, 2.5e-4)),
        ((72, 72), "INCH", None),
        ((300, 300), "INCH", None),
        ((118.11, 118.11), "CENTIMETER", None),
        ((40000, 40000), "NONE", None),
    ],
)
def test_resolution_tags_of_a_microscope_count_and_those_for_printing_do_not(
    tmp_path: Path,
    resolution: tuple[float, float],
    unit: str,
    expected: tuple[float, float, float] | None,
) -> None:
    tifffile.imwrite(tmp_path / "a.tif", STACK[0], resolution=resolution, resolutionunit=unit)
    grid = read_image([tmp_path / "a.tif"]).grid
    assert grid.spacing == pytest.approx(expected or (1.0, 1.0, 1.0))
    assert grid.unit == ("pixels" if expected is None else "mm")
    assert grid.sampling_spacing == (1.0, 1.0, 1.0)


def test_label_map_of_a_2d_tiff_keeps_its_spacing(tmp_path: Path) -> None:
    resolution = (40000, 20000)
    tifffile.imwrite(
        tmp_path / "a.tif", STACK[0], resolution=resolution, resolutionunit="CENTIMETER"
    )
    image = read_image([tmp_path / "a.tif"])
    write_labels(STACK[:1], image, tmp_path / "labels.tif")
    labels = read_labels(tmp_path / "labels.tif")
    assert np.array_equal(labels.array[0], STACK[:1])
    assert labels.grid.spacing[1:] == pytest.approx(image.grid.spacing[1:])


def test_label_map_without_a_spacing_fits_an_image_with_one(tmp_path: Path) -> None:
    metadata = {"axes": "ZYX", "spacing": 2.5, "unit": "um"}
    tifffile.imwrite(tmp_path / "a.tif", STACK, imagej=True, resolution=(3, 3), metadata=metadata)
    tifffile.imwrite(tmp_path / "labels.tif", STACK)
    image, labels = read_image([tmp_path / "a.tif"]), read_labels(tmp_path / "labels.tif")
    assert labels.grid.difference(image.grid) is None
    assert image.grid.difference(labels.grid) is None


def ome_of_planes(tmp_path: Path, own: int, num_planes: int = 3) -> Path:
    """Write one plane of an OME-TIFF whose XML names a file for each plane."""
    entries = [
        f'<TiffData FirstZ="{z}" IFD="0" PlaneCount="1">'
        f'<UUID FileName="z{z}.ome.tif">urn:uuid:{z}</UUID></TiffData>'
        for z in range(num_planes)
    ]
    xml = (
        '<?xml version="1.0" encoding="UTF-8"?>'
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
        f'UUID="urn:uuid:{own}"><Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" '
        f'Type="uint8" SizeX="6" SizeY="5" SizeZ="{num_planes}" SizeC="1" SizeT="1">'
        f'<Channel ID="Channel:0:0" SamplesPerPixel="1"/>{"".join(entries)}</Pixels></Image></OME>'
    )
    file = tmp_path / f"z{own}.ome.tif"
    tifffile.imwrite(file, STACK[own], description=xml, metadata=None)
    return file


def test_planes_in_other_files_are_refused_by_name(tmp_path: Path) -> None:
    files = [ome_of_planes(tmp_path, own) for own in range(3)]
    with pytest.raises(UserError, match=r"z1\.ome\.tif: .*several files \(z0\.ome\.tif, z2\.ome"):
        read_image([files[1]])
    renamed = files[1].rename(tmp_path / "case_0000.tif")
    with pytest.raises(UserError, match=r"case_0000\.tif: .*z0\.ome\.tif.*save them as one file"):
        read_image([renamed])


def test_renamed_ome_tiff_that_is_complete_is_read(tmp_path: Path) -> None:
    file = ome_of_planes(tmp_path, own=0, num_planes=1).rename(tmp_path / "case.tif")
    assert np.array_equal(read_image([file]).array[0, 0], STACK[0])


def test_ome_tiff_that_lacks_declared_planes_is_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", STACK, ome=True, metadata={"axes": "ZYX"})
    content = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "a.tif").write_bytes(
        content.replace(b'SizeZ="7"', b'SizeZ="9"').replace(b'"7"/>', b'"7"/>')
    )
    with pytest.raises(UserError, match=r"a\.tif: 2 of its 9 planes are missing"):
        read_image([tmp_path / "a.tif"])


COLOURS = np.random.default_rng(1).integers(0, 255, (5, 6, 3)).astype(np.uint8)


def test_inks_are_converted_to_colours(tmp_path: Path) -> None:
    inks = 255 - np.concatenate([COLOURS, np.full((5, 6, 1), 255, np.uint8)], axis=-1)
    tifffile.imwrite(tmp_path / "a.tif", inks, photometric="separated")
    found = np.moveaxis(read_image([tmp_path / "a.tif"]).array[:, 0], 0, -1)
    assert np.array_equal(found, COLOURS)


@pytest.mark.parametrize("mode", ["LAB", "YCbCr"])
def test_other_colour_spaces_are_converted_to_colours(tmp_path: Path, mode: str) -> None:
    smooth = np.zeros((5, 6, 3), np.uint8) + np.array([180, 90, 60], np.uint8)
    if mode == "LAB":
        profiles = [ImageCms.createProfile(name) for name in ("sRGB", "LAB")]
        transform = ImageCms.buildTransform(*profiles, "RGB", "LAB")
        converted = ImageCms.applyTransform(Image.fromarray(smooth), transform)
        assert converted is not None
    else:
        converted = Image.fromarray(smooth).convert(mode)
    converted.save(tmp_path / "a.tif")
    found = np.moveaxis(read_image([tmp_path / "a.tif"]).array[:, 0], 0, -1)
    assert np.abs(found.astype(int) - smooth).max() <= 3


def test_palette_of_a_tiff_shows_its_colours_in_an_image_and_not_in_a_label_map(
    tmp_path: Path,
) -> None:
    indices = STACK[0] % 3
    colour_map = np.zeros((3, 256), np.uint16)
    colour_map[0, 1], colour_map[1, 2] = 65535, 65535
    tifffile.imwrite(tmp_path / "a.tif", indices, photometric="palette", colormap=colour_map)
    expected = (colour_map >> 8).astype(np.uint8)[:, indices]
    assert np.array_equal(read_image([tmp_path / "a.tif"]).array[:, 0], expected)
    assert np.array_equal(read_labels(tmp_path / "a.tif").array[0, 0], indices)


def test_image_with_0_as_white_is_inverted_and_a_label_map_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", STACK[0], photometric="miniswhite")
    assert np.array_equal(read_image([tmp_path / "a.tif"]).array[0, 0], 255 - STACK[0])
    with pytest.raises(UserError, match=r"a\.tif: declares that 0 is white"):
        read_labels(tmp_path / "a.tif")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("compression", ["lzw", "deflate", "packbits", "lzma", "zstd"])
def test_compressed_tiff_is_read(tmp_path: Path, compression: str, dtype: type) -> None:
    stack = STACK.astype(dtype) * np.dtype(dtype).type(1 if dtype is np.uint8 else 257)
    metadata = {"axes": "ZYX"}
    tifffile.imwrite(tmp_path / "a.tif", stack, compression=compression, metadata=metadata)
    assert np.array_equal(read_image([tmp_path / "a.tif"]).array[0], stack)
    assert np.array_equal(read_labels(tmp_path / "a.tif").array[0], stack)


def test_tiff_compressed_with_jpeg_is_an_image_and_no_label_map(tmp_path: Path) -> None:
    smooth = np.zeros((32, 32, 3), np.uint8) + np.array([180, 90, 60], np.uint8)
    Image.fromarray(smooth).save(tmp_path / "a.tif", compression="jpeg")
    found = read_image([tmp_path / "a.tif"]).array[:, 0]
    assert np.abs(np.moveaxis(found, 0, -1).astype(int) - smooth).max() <= 4
    with pytest.raises(UserError, match=r"a\.tif: is compressed with JPEG"):
        read_labels(tmp_path / "a.tif")


def test_fourth_sample_counts_as_a_channel_unless_it_is_opacity(tmp_path: Path) -> None:
    four = np.concatenate([COLOURS, COLOURS[..., :1]], axis=-1)
    tifffile.imwrite(tmp_path / "a.tif", four, photometric="rgb", extrasamples=["unassalpha"])
    assert len(read_image([tmp_path / "a.tif"]).array) == 3
    tifffile.imwrite(tmp_path / "b.tif", four, photometric="rgb", extrasamples=["unspecified"])
    assert len(read_image([tmp_path / "b.tif"]).array) == 4


@pytest.mark.parametrize("kind", ["cielab", "icclab", "ycbcr"])
def test_16_bits_of_other_colour_spaces_are_refused(tmp_path: Path, kind: str) -> None:
    pixels = np.full((5, 6, 3), 300, np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric=kind)
    with pytest.raises(
        UserError, match=f"kind {kind.upper()} with 16 bits; save it in grey or RGB"
    ):
        read_image([tmp_path / "a.tif"])


def test_half_precision_is_read_as_32_bit_floats(tmp_path: Path) -> None:
    values = np.linspace(0, 60000, 30).reshape(5, 6).astype(np.float16)
    tifffile.imwrite(tmp_path / "a.tif", values)
    array = read_image([tmp_path / "a.tif"]).array
    assert array.dtype == np.float32
    assert np.array_equal(array[0, 0], values)
