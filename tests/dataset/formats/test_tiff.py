from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

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
