"""Data that older versions read otherwise are prepared again, and no others."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import imagecodecs
import nibabel
import numpy as np
import PIL.Image
import pytest
import SimpleITK
import tifffile
from builders.data import write_dataset

from samnet.dataset.cases import RawDataset
from samnet.dataset.contents import content_keys, load_hashes
from samnet.dataset.formats.itk_headers import add_nrrd_units
from samnet.dataset.images import read_image
from samnet.dataset.reading_changes import describe_reading_changes
from samnet.preprocessing.prepare import find_outdated, prepare_dataset
from samnet.preprocessing.storage import load_case

GREY = np.random.default_rng(0).integers(0, 255, (5, 6)).astype(np.uint8)
COLOURS = np.random.default_rng(1).integers(0, 255, (5, 6, 3)).astype(np.uint8)
STACK = np.stack([GREY, GREY + 1, GREY + 2])


def save_turned(pixels: np.ndarray, file: Path, orientation: int) -> None:
    exif = PIL.Image.Exif()
    exif[274] = orientation
    PIL.Image.fromarray(pixels).save(file, exif=exif)


def save_nifti(file: Path, unit: str) -> None:
    image = nibabel.Nifti1Image(STACK, np.eye(4))
    image.header.set_xyzt_units(unit)
    nibabel.save(image, file)


def save_nrrd(file: Path, units: tuple[str, ...]) -> None:
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(STACK), str(file))
    add_nrrd_units(file, units)


def save_inks(file: Path) -> None:
    PIL.Image.fromarray(COLOURS).convert("CMYK").save(file)


def save_16_bits(file: Path) -> None:
    file.write_bytes(imagecodecs.png_encode(COLOURS.astype(np.uint16) * 257))


IMAGEJ = {"axes": "ZYX", "spacing": 2.0, "unit": "um"}
READ_AS_BEFORE: dict[str, tuple[str, Callable[[Path], object]]] = {
    "NIfTI in mm": ("a.nii.gz", lambda file: save_nifti(file, "mm")),
    "NIfTI without unit": ("a.nii", lambda file: save_nifti(file, "unknown")),
    "NRRD in mm": ("a.nrrd", lambda file: save_nrrd(file, ("mm",) * 3)),
    "MetaImage": (
        "a.mha",
        lambda file: SimpleITK.WriteImage(SimpleITK.GetImageFromArray(STACK), str(file)),
    ),
    "photograph": ("a.jpg", lambda file: PIL.Image.fromarray(COLOURS).save(file)),
    "upright photograph": ("a.jpg", lambda file: save_turned(COLOURS, file, 1)),
    "16-bit grey": ("a.png", lambda file: PIL.Image.fromarray(GREY.astype(np.uint16)).save(file)),
    "palette": ("a.png", lambda file: PIL.Image.fromarray(COLOURS).quantize(9).save(file)),
    "TIFF": ("a.tif", lambda file: tifffile.imwrite(file, COLOURS, photometric="rgb")),
    "TIFF for print": (
        "a.tif",
        lambda file: tifffile.imwrite(file, GREY, resolution=(300, 300), resolutionunit="INCH"),
    ),
    "stack of ImageJ": (
        "a.tif",
        lambda file: tifffile.imwrite(file, STACK, imagej=True, resolution=(2, 2), metadata=IMAGEJ),
    ),
    "damaged": ("a.png", lambda file: file.write_bytes(b"nothing")),
    "text": ("a.json", lambda file: file.write_text("{}")),
}
READ_OTHERWISE: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "NIfTI in metres": ("a.nii.gz", lambda file: save_nifti(file, "meter"), "unit of 1000 mm"),
    "NRRD in micrometres": ("a.nrrd", lambda file: save_nrrd(file, ("um",) * 3), "units um um um"),
    "turned photograph": ("a.jpg", lambda file: save_turned(COLOURS, file, 6), "orientation 6"),
    "turned PNG": ("a.png", lambda file: save_turned(GREY, file, 3), "orientation 3"),
    "inks": ("a.jpg", save_inks, "colours CMYK"),
    "16-bit colours": ("a.png", save_16_bits, "16 bits"),
    "TIFF with 0 as white": (
        "a.tif",
        lambda file: tifffile.imwrite(file, GREY, photometric="miniswhite"),
        "photometric interpretation 0",
    ),
    "turned TIFF": (
        "a.tif",
        lambda file: tifffile.imwrite(file, GREY, extratags=[(274, 3, 1, 8, True)]),
        "orientation 8",
    ),
    "2D image of ImageJ with a spacing": (
        "a.tif",
        lambda file: tifffile.imwrite(
            file, GREY, imagej=True, resolution=(2, 2), metadata={"unit": "um"}
        ),
        "spacing",
    ),
    "OME with a spacing": (
        "a.ome.tif",
        lambda file: tifffile.imwrite(
            file, GREY, metadata={"axes": "YX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
        ),
        "spacing",
    ),
}


@pytest.mark.parametrize("kind", READ_AS_BEFORE)
def test_what_was_always_read_so_has_no_changes(tmp_path: Path, kind: str) -> None:
    name, save = READ_AS_BEFORE[kind]
    save(tmp_path / name)
    assert describe_reading_changes(tmp_path / name) == ""


@pytest.mark.parametrize("kind", READ_OTHERWISE)
def test_what_older_versions_read_otherwise_is_named(tmp_path: Path, kind: str) -> None:
    name, save, expected = READ_OTHERWISE[kind]
    save(tmp_path / name)
    assert describe_reading_changes(tmp_path / name) == expected


def as_an_older_version_left_it(dataset: RawDataset) -> None:
    """Write records and remembered hashes as before reading changes were looked at."""
    file = dataset.folder.hashes_file
    entries = {
        path: {"size": entry.size, "mtime_ns": entry.mtime_ns, "sha256": entry.sha256}
        for path, entry in load_hashes(dataset).items()
    }
    file.write_text(json.dumps({"files": entries}))
    for case in dataset.cases:
        digest = hashlib.sha256()
        for raw in case.raw_files():
            path = str(raw.relative_to(dataset.folder.raw))
            digest.update(f"{raw.name}\0{entries[path]['sha256']}\n".encode())
        record = dataset.folder.slices / f"{case.identifier}.json"
        content = json.loads(record.read_text())
        record.write_text(json.dumps({**content, "source_key": digest.hexdigest()}))


def turn_a_photograph(dataset: RawDataset) -> None:
    """Let the first image and its label map be stored on their side, as by a phone."""
    case = dataset.cases[0]
    for file in case.raw_files():
        with PIL.Image.open(file) as image:
            pixels = np.asarray(image)
        save_turned(np.rot90(pixels), file, 6)


def test_turned_photographs_of_older_versions_are_prepared_again(
    folders: dict[str, Path],
) -> None:
    write_dataset(folders["raw"], number=7, num_cases=2, shape=(1, 20, 30), file_ending=".png")
    dataset = RawDataset.load(7)
    turn_a_photograph(dataset)
    folder = prepare_dataset(dataset, (0,), 0)
    as_an_older_version_left_it(dataset)
    prepared = [load_case(folder, case.identifier) for case in dataset.cases]
    [turned, other] = [case.identifier for case in dataset.cases]
    assert find_outdated(dataset, dataset.cases, prepared, 0) == [turned]
    before = (folder / f"{other}.json").stat().st_mtime_ns
    shutil.copy(folder / f"{other}_view0_image.b2nd", folder / f"{turned}_view0_image.b2nd")
    prepare_dataset(dataset, (0,), 0)
    assert (folder / f"{other}.json").stat().st_mtime_ns == before
    upright = load_case(folder, turned).volume()
    image = read_image(dataset.cases[0].image_files)
    assert np.array_equal(upright.restore(upright.array[0]), image.array[0])
    assert find_outdated(dataset, dataset.cases, [load_case(folder, turned)], 0) == []


def test_hashes_of_older_versions_are_not_computed_again(folders: dict[str, Path]) -> None:
    write_dataset(folders["raw"], number=7, num_cases=2)
    dataset = RawDataset.load(7)
    prepare_dataset(dataset, (0,), 0)
    keys = content_keys(dataset, dataset.cases, 0)
    as_an_older_version_left_it(dataset)
    content = json.loads(dataset.folder.hashes_file.read_text())
    for entry in content["files"].values():
        entry["sha256"] = "a" * 64
    dataset.folder.hashes_file.write_text(json.dumps(content))
    assert content_keys(dataset, dataset.cases, 0) != keys
    assert {entry.sha256 for entry in load_hashes(dataset).values()} == {"a" * 64}
    assert {entry.reading_changes for entry in load_hashes(dataset).values()} == {""}
