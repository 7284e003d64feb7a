"""NRRD and MetaImage headers whose voxels are in other files."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from samnet.cli.convert_folder import main
from samnet.core.errors import UserError
from samnet.dataset.cases import Case, RawDataset
from samnet.dataset.contents import case_key, hash_files
from samnet.dataset.images import companions_of, read_image, read_labels, write_labels

VOXELS = np.random.default_rng(0).integers(0, 99, (3, 4, 5)).astype(np.uint8)
SPACING = (3.0, 0.7, 0.5)


def write(file: Path, array: np.ndarray = VOXELS) -> None:
    image = SimpleITK.GetImageFromArray(array)
    image.SetSpacing(SPACING[::-1])
    SimpleITK.WriteImage(image, str(file))


def write_detached_nrrd(folder: Path, data_file: str) -> Path:
    header = "NRRD0004\ntype: uint8\ndimension: 3\nsizes: 5 4 3\nencoding: raw\n"
    file = folder / "a.nhdr"
    file.write_text(f"{header}spacings: 0.5 0.7 3\ndata file: {data_file}\n")
    for index, plane in enumerate(VOXELS):
        (folder / f"plane_{index}.raw").write_bytes(plane.tobytes())
    return file


def test_detached_nrrd_is_read_with_its_voxels(tmp_path: Path) -> None:
    write(tmp_path / "a.nhdr")
    image = read_image([tmp_path / "a.nhdr"])
    assert np.array_equal(image.array[0], VOXELS)
    assert image.grid.spacing == pytest.approx(SPACING)
    assert companions_of(tmp_path / "a.nhdr") == [tmp_path / "a.raw"]


@pytest.mark.parametrize(
    "data_file", ["plane_%d.raw 0 2 1 2", "LIST 2\nplane_0.raw\nplane_1.raw\nplane_2.raw"]
)
def test_detached_nrrd_may_have_a_file_for_each_slice(tmp_path: Path, data_file: str) -> None:
    file = write_detached_nrrd(tmp_path, data_file)
    planes = [tmp_path / f"plane_{index}.raw" for index in range(3)]
    assert companions_of(file) == planes
    assert np.array_equal(read_image([file]).array[0], VOXELS)
    planes[1].unlink()
    with pytest.raises(UserError, match=r"a\.nhdr: its voxels are in plane_1\.raw.*missing"):
        read_image([file])


def test_label_map_of_a_detached_nrrd_is_one_file(tmp_path: Path) -> None:
    write(tmp_path / "a.nhdr")
    image = read_image([tmp_path / "a.nhdr"])
    write_labels(VOXELS, image, tmp_path / "out" / "a.nhdr")
    assert os.listdir(tmp_path / "out") == ["a.nhdr"]
    assert companions_of(tmp_path / "out" / "a.nhdr") == []
    assert np.array_equal(read_labels(tmp_path / "out" / "a.nhdr").array[0], VOXELS)


def detach_mha(folder: Path) -> Path:
    write(folder / "a.mhd")
    return (folder / "a.mhd").rename(folder / "a.mha")


def detach_nrrd(folder: Path) -> Path:
    write(folder / "a.nhdr")
    return (folder / "a.nhdr").rename(folder / "a.nrrd")


def keep_nhdr(folder: Path) -> Path:
    write(folder / "a.nhdr")
    return folder / "a.nhdr"


@pytest.mark.parametrize("detach", [detach_mha, detach_nrrd, keep_nhdr])
def test_hash_of_a_case_covers_the_voxels_of_any_header(tmp_path: Path, detach: object) -> None:
    assert callable(detach)
    case = Case("a", (detach(tmp_path),))
    before = case_key(hash_files(case, tmp_path, {}))
    (tmp_path / "a.raw").write_bytes((VOXELS + 1).tobytes())
    assert case_key(hash_files(case, tmp_path, {})) != before


@pytest.mark.parametrize("detach", [detach_mha, detach_nrrd, keep_nhdr])
def test_convert_folder_copies_the_voxels_of_any_header(
    tmp_path: Path, folders: dict[str, Path], detach: object
) -> None:
    assert callable(detach)
    for part in ("images", "masks"):
        (tmp_path / part).mkdir()
    image = detach(tmp_path / "images")
    labels = np.zeros_like(VOXELS)
    labels[1, 1:3, 1:3] = 1
    ending = ".nrrd" if image.suffix == ".nhdr" else image.suffix
    write(tmp_path / "masks" / f"a{ending}", labels)
    options = ["-d", "7", "--name", "Copied"]
    source = ["--images", str(tmp_path / "images"), "--masks", str(tmp_path / "masks")]
    assert main([*source, *options]) == 0
    (case,) = RawDataset.load(7).cases
    assert np.array_equal(read_image(case.image_files).array[0], VOXELS)
    assert companions_of(case.image_files[0]) == []
