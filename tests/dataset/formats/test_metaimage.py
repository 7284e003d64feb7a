from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from samnet.core.errors import UserError
from samnet.dataset.images import companions_of, read_image, read_labels, write_labels


def write_header_and_voxels(file: Path, compressed: bool) -> np.ndarray:
    array = np.random.default_rng(0).integers(0, 999, (3, 4, 5)).astype(np.int16)
    image = SimpleITK.GetImageFromArray(array)
    image.SetSpacing((0.5, 0.7, 3.0))
    SimpleITK.WriteImage(image, str(file), compressed)
    return array


@pytest.mark.parametrize(("compressed", "voxels"), [(False, "a.raw"), (True, "a.zraw")])
def test_read_image_finds_the_voxels_of_an_mhd_header(
    tmp_path: Path, compressed: bool, voxels: str
) -> None:
    array = write_header_and_voxels(tmp_path / "a.mhd", compressed)
    image = read_image([tmp_path / "a.mhd"])
    assert np.array_equal(image.array[0], array)
    assert image.grid.spacing == pytest.approx((3.0, 0.7, 0.5))
    assert companions_of(tmp_path / "a.mhd") == [tmp_path / voxels]


def test_write_labels_writes_an_mhd_as_one_file(tmp_path: Path) -> None:
    write_header_and_voxels(tmp_path / "a.mhd", compressed=True)
    image = read_image([tmp_path / "a.mhd"])
    labels = (image.array[0] > 500).astype(np.uint8)
    write_labels(labels, image, tmp_path / "out" / "a.mhd")
    assert os.listdir(tmp_path / "out") == ["a.mhd"]
    back = read_labels(tmp_path / "out" / "a.mhd")
    assert np.array_equal(back.array[0], labels)
    assert np.array_equal(back.grid.affine, image.grid.affine)
    assert companions_of(tmp_path / "out" / "a.mhd") == []


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (
            "ElementDataFile = gone.raw\n",
            r"its voxels are in gone\.raw, which is missing; put it next to the header",
        ),
        ("ElementDataFile = LIST\na.raw\n", r"several files \(LIST\); save it as one \.mha"),
        ("ElementDataFile = a_%03d.raw 1 9 1\n", "several files"),
        ("NDims = 3\n", "no ElementDataFile in it"),
    ],
)
def test_read_image_reports_an_mhd_header_without_voxels(
    tmp_path: Path, header: str, reason: str
) -> None:
    (tmp_path / "a.mhd").write_text(header)
    with pytest.raises(UserError, match=rf"a\.mhd: .*{reason}"):
        read_image([tmp_path / "a.mhd"])
