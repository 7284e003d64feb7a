"""2D images are read as viewers show them; masks keep what is drawn in them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import PIL.Image
import pytest
from PIL import ImageOps

from samnet.core.errors import UserError
from samnet.dataset.images import read_image, read_labels, read_mask, write_labels
from samnet.dataset.masks import mask_codes

RANDOM = np.random.default_rng(0)
GREY = RANDOM.integers(0, 255, (5, 6)).astype(np.uint8)
COLOURS = RANDOM.integers(0, 255, (5, 6, 3)).astype(np.uint8)
MASK = np.zeros((5, 6), np.uint8)
MASK[1:3, 2:5] = 1
MASK[4, 0] = 2


def save_turned(pixels: np.ndarray, file: Path, orientation: int) -> None:
    exif = PIL.Image.Exif()
    exif[274] = orientation
    tags: dict[str, Any] = {"tiffinfo": {274: orientation}}
    PIL.Image.fromarray(pixels).save(file, **(tags if file.suffix == ".tif" else {"exif": exif}))


def channels_last(file: Path) -> np.ndarray:
    return np.moveaxis(read_image([file]).array[:, 0], 0, -1)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("ending", [".png", ".jpg", ".tif"])
def test_read_image_turns_an_image_as_its_orientation_says(
    tmp_path: Path, ending: str, orientation: int
) -> None:
    file = tmp_path / f"a{ending}"
    save_turned(COLOURS, file, orientation)
    with PIL.Image.open(file) as stored:
        expected = np.asarray(ImageOps.exif_transpose(stored))
    assert np.array_equal(channels_last(file), expected)


@pytest.mark.parametrize("ending", [".png", ".tif"])
def test_label_map_of_a_turned_image_is_upright_as_the_image_is_shown(
    tmp_path: Path, ending: str
) -> None:
    save_turned(GREY, tmp_path / f"a{ending}", 6)
    image = read_image([tmp_path / f"a{ending}"])
    assert image.grid.shape == (1, 6, 5)
    labels = (image.array[0] > 100).astype(np.uint8)
    write_labels(labels, image, tmp_path / f"labels{ending}")
    with PIL.Image.open(tmp_path / f"labels{ending}") as stored:
        assert np.array_equal(np.asarray(ImageOps.exif_transpose(stored)), labels[0])
    assert np.array_equal(read_labels(tmp_path / f"labels{ending}").array[0], labels)


def test_read_labels_turns_a_label_map_as_its_orientation_says(tmp_path: Path) -> None:
    save_turned(MASK, tmp_path / "a.png", 3)
    assert np.array_equal(read_labels(tmp_path / "a.png").array[0, 0], MASK[::-1, ::-1])


@pytest.mark.parametrize("samples", [1, 3, 4])
def test_png_of_16_bits_keeps_every_level(tmp_path: Path, samples: int) -> None:
    pixels = RANDOM.integers(0, 65535, (5, 6, samples)).astype(np.uint16)
    encoded = imagecodecs.png_encode(pixels[..., 0] if samples == 1 else pixels)
    (tmp_path / "a.png").write_bytes(encoded)
    found = channels_last(tmp_path / "a.png")
    assert found.dtype == np.uint16
    assert np.array_equal(found, pixels[..., :3])


def test_read_image_shows_a_palette_as_its_colours(tmp_path: Path) -> None:
    image = PIL.Image.fromarray(COLOURS).quantize(8)
    image.save(tmp_path / "a.png")
    assert np.array_equal(channels_last(tmp_path / "a.png"), np.asarray(image.convert("RGB")))


def test_read_image_converts_inks_to_colours(tmp_path: Path) -> None:
    smooth = np.tile(np.linspace(20, 200, 64).astype(np.uint8)[:, None, None], (1, 64, 3))
    smooth[..., 1] //= 2
    PIL.Image.fromarray(smooth).convert("CMYK").save(tmp_path / "a.jpg", quality=98)
    found = channels_last(tmp_path / "a.jpg")
    assert found.shape == (64, 64, 3)
    assert np.abs(found.astype(int) - smooth).max() < 12


def test_read_image_leaves_out_opacity(tmp_path: Path) -> None:
    alpha = RANDOM.integers(0, 255, (5, 6, 1)).astype(np.uint8)
    PIL.Image.fromarray(np.concatenate([COLOURS, alpha], axis=-1)).save(tmp_path / "a.png")
    assert np.array_equal(channels_last(tmp_path / "a.png"), COLOURS)


@pytest.mark.parametrize("form", ["alpha", "transparent colour"])
def test_transparent_pixels_of_a_mask_are_background(tmp_path: Path, form: str) -> None:
    visible = MASK > 0
    drawn = np.where(visible, 255, 77).astype(np.uint8)
    if form == "alpha":
        alpha = np.where(visible, 255, 0).astype(np.uint8)
        PIL.Image.fromarray(np.stack([drawn, alpha], axis=-1)).save(tmp_path / "a.png")
    else:
        PIL.Image.fromarray(drawn).save(tmp_path / "a.png", transparency=77)
    assert np.array_equal(read_mask(tmp_path / "a.png").array[0, 0], 255 * visible)
    assert np.array_equal(mask_codes(tmp_path / "a.png")[1][0], 255 * visible)
    assert np.array_equal(read_labels(tmp_path / "a.png").array[0, 0], 255 * visible)


def test_mask_that_is_drawn_in_its_opacity_only_is_refused(tmp_path: Path) -> None:
    alpha = (255 * (MASK > 0)).astype(np.uint8)
    black = np.stack([np.zeros_like(MASK)] * 3 + [alpha], axis=-1)
    PIL.Image.fromarray(black).save(tmp_path / "a.png")
    for read in (read_labels, read_mask):
        with pytest.raises(UserError, match=r"a\.png: is black, and only its opacity"):
            read(tmp_path / "a.png")


def voc_palette() -> list[int]:
    palette = []
    for number in range(256):
        colour = [0, 0, 0]
        rest = number
        for position in range(7, -1, -1):
            for channel in range(3):
                colour[channel] |= (rest >> channel & 1) << position
            rest >>= 3
        palette += colour
    return palette


def palette_mask(palette: list[int]) -> PIL.Image.Image:
    image = PIL.Image.fromarray(MASK).convert("L")
    image = PIL.Image.frombytes("P", image.size, image.tobytes())
    image.putpalette(palette)
    return image


def test_read_labels_takes_the_numbers_of_the_palette_of_pascal_voc(tmp_path: Path) -> None:
    palette_mask(voc_palette()).save(tmp_path / "a.png")
    assert np.array_equal(read_labels(tmp_path / "a.png").array[0, 0], MASK)


def test_read_labels_refuses_the_palette_of_pascal_voc_with_a_transparent_colour(
    tmp_path: Path,
) -> None:
    """Where a label is hidden, nothing says whether it is meant."""
    palette_mask(voc_palette()).save(tmp_path / "a.png", transparency=2)
    with pytest.raises(UserError, match=r"a\.png: "):
        read_labels(tmp_path / "a.png")


def test_read_labels_takes_the_values_of_a_grey_palette(tmp_path: Path) -> None:
    greys = [2, 2, 2, 0, 0, 0, 1, 1, 1]  # as a program may reorder them: number 0 is the value 2
    palette_mask(greys).save(tmp_path / "a.png")
    expected = np.array([2, 0, 1])[MASK]
    assert np.array_equal(read_labels(tmp_path / "a.png").array[0, 0], expected)


def test_read_labels_refuses_a_palette_of_other_colours(tmp_path: Path) -> None:
    palette_mask([0, 0, 0, 255, 0, 0, 0, 0, 255]).save(tmp_path / "a.png")
    with pytest.raises(UserError, match=r"a\.png: .*palette.*samnet_convert_folder"):
        read_labels(tmp_path / "a.png")


def test_read_labels_takes_grey_that_is_stored_in_colour(tmp_path: Path) -> None:
    PIL.Image.fromarray(np.stack([MASK] * 3, axis=-1)).save(tmp_path / "a.png")
    assert np.array_equal(read_labels(tmp_path / "a.png").array[0, 0], MASK)


@pytest.mark.parametrize("bits", [2, 4])
def test_read_labels_takes_the_stored_values_of_few_bits(tmp_path: Path, bits: int) -> None:
    image = PIL.Image.fromarray(MASK)
    palette = PIL.Image.frombytes("P", image.size, image.tobytes())
    palette.putpalette([0, 0, 0, 1, 1, 1, 2, 2, 2])
    stream = io.BytesIO()
    palette.save(stream, "PNG", bits=bits)
    (tmp_path / "a.png").write_bytes(as_grey(stream.getvalue()))
    assert np.array_equal(read_labels(tmp_path / "a.png").array[0, 0], MASK)


def as_grey(png: bytes) -> bytes:
    """Declare the samples of a PNG file grey in place of numbers of a palette."""
    import struct
    import zlib

    chunks, position = [png[:8]], 8
    while position < len(png):
        (length,) = struct.unpack(">I", png[position : position + 4])
        name, data = png[position + 4 : position + 8], png[position + 8 : position + 8 + length]
        if name == b"IHDR":
            data = data[:9] + b"\0" + data[10:]
        if name != b"PLTE":
            body = name + data
            chunks.append(struct.pack(">I", length) + body + struct.pack(">I", zlib.crc32(body)))
        position += length + 12
    return b"".join(chunks)


@pytest.mark.parametrize("form", ["PNG", "GIF"])
def test_animated_images_are_refused(tmp_path: Path, form: str) -> None:
    first, second = PIL.Image.fromarray(GREY), PIL.Image.fromarray(255 - GREY)
    first.save(tmp_path / "a.png", form, save_all=True, append_images=[second])
    with pytest.raises(UserError, match=r"a\.png: is animated, with 2 frames"):
        read_image([tmp_path / "a.png"])


def test_read_labels_refuses_jpeg_under_another_name(tmp_path: Path) -> None:
    PIL.Image.fromarray(MASK).save(tmp_path / "a.png", "JPEG")
    with pytest.raises(UserError, match=r"a\.png: holds a JPEG image.*as PNG"):
        read_labels(tmp_path / "a.png")


@pytest.mark.parametrize("ending", [".png", ".bmp", ".jpg"])
def test_images_of_any_size_are_read(
    tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 100)
    PIL.Image.fromarray(np.tile(GREY, (5, 5))).save(tmp_path / f"a{ending}")
    assert read_image([tmp_path / f"a{ending}"]).array.shape[1:] == (1, 25, 30)
    assert PIL.Image.MAX_IMAGE_PIXELS == 100


def test_2d_images_have_no_unit_of_length(tmp_path: Path) -> None:
    PIL.Image.fromarray(GREY).save(tmp_path / "a.png", dpi=(300, 300))
    assert read_image([tmp_path / "a.png"]).grid.unit == "pixels"


def test_grey_stored_in_colour_is_one_channel_where_one_is_expected(tmp_path: Path) -> None:
    PIL.Image.fromarray(np.stack([GREY] * 3, axis=-1)).save(tmp_path / "grey.png")
    PIL.Image.fromarray(COLOURS).save(tmp_path / "colour.png")
    assert len(read_image([tmp_path / "grey.png"], num_channels=1).array) == 1
    assert len(read_image([tmp_path / "grey.png"], num_channels=3).array) == 3
    assert len(read_image([tmp_path / "grey.png"]).array) == 3
    assert len(read_image([tmp_path / "colour.png"], num_channels=1).array) == 3
    assert len(read_image([tmp_path / "grey.png"] * 2, num_channels=2).array) == 2
