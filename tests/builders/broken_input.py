"""Kinds of broken input: how a file is spoilt, and what the report has to say about it.

Every kind is applied to a case of a data set as `make_dataset` writes it, with the channels T1 and
T2 and one class.
"""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import nibabel
import numpy as np
from skimage import io

CHANNELS = ("T1", "T2")
SHAPE = (4, 12, 10)
CASE = "case_01"
T1 = f"imagesTr/{CASE}_0000.nii.gz"
T2 = f"imagesTr/{CASE}_0001.nii.gz"
LABELS = f"labelsTr/{CASE}.nii.gz"
Spoil = Callable[[Path], object]
Edit = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Broken:
    """One kind of broken input.

    Attributes:
        file: The file to spoil, relative to the data set.
        spoil: Function that spoils it.
        value: Part of what the report says about the finding.
        remedy: Part of what the report says about the remedy.
        named: The file that the report names, where it is another one.
        is_skipped: Whether prediction skips the case.
    """

    file: str
    spoil: Spoil
    value: str
    remedy: str
    named: str | None = None
    is_skipped: bool = True

    def of_case(self, name: str) -> tuple[str, str]:
        """Return the file to spoil and the file to be named, for another case than `CASE`."""
        return self.file.replace(CASE, name), (self.named or self.file).replace(CASE, name)


def change(
    file: Path,
    edit: Edit = np.asarray,
    affine: Edit = np.asarray,
) -> None:
    """Write a NIfTI file again with edited voxels `(X, Y, Z)` and affine."""
    image = nibabel.load(file)
    array = edit(np.asarray(image.dataobj).copy())
    nibabel.save(nibabel.Nifti1Image(array, affine(image.affine.copy())), file)


def describe(folder: Path, **changes: object) -> None:
    """Change keys of the `dataset.json` in a folder."""
    content = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps({**content, **changes}))


def put(value: complex, dtype: type, index: tuple[int, int, int] = (3, 4, 2)) -> Edit:
    """Return a function that sets one voxel `(X, Y, Z)` of an array."""

    def edit(array: np.ndarray) -> np.ndarray:
        array = array.astype(dtype)
        array[index] = value
        return array

    return edit


def crop(array: np.ndarray) -> np.ndarray:
    return array[:-1]


def four_dimensional(array: np.ndarray) -> np.ndarray:
    return np.stack([array, array], axis=-1)


def colours(array: np.ndarray) -> np.ndarray:
    repeated = np.repeat(array[..., None], 3, axis=-1)
    return repeated.view([("R", "u1"), ("G", "u1"), ("B", "u1")])[..., 0]


def moved(affine: np.ndarray) -> np.ndarray:
    affine[0, 3] += 3
    return affine


def stretched(affine: np.ndarray) -> np.ndarray:
    affine[:, 1] *= 1.25
    return affine


def flipped(affine: np.ndarray) -> np.ndarray:
    affine[:, 0] *= -1
    return affine


def sheared(affine: np.ndarray) -> np.ndarray:
    affine[1, 2] = affine[2, 2] * np.tan(np.radians(15))
    return affine


def mask_of_255(array: np.ndarray) -> np.ndarray:
    return array * np.uint8(255)


def with_voxels(edit: Edit) -> Spoil:
    return partial(change, edit=edit)


def with_affine(affine: Edit) -> Spoil:
    return partial(change, affine=affine)


def files_of_case(file: Path) -> list[Path]:
    """Return both channels and the label map, if it exists, of the case of a first channel."""
    name = file.name.removesuffix("_0000.nii.gz")
    files = [file, file.with_name(f"{name}_0001.nii.gz")]
    labels = file.parents[1] / "labelsTr" / f"{name}.nii.gz"
    if labels.is_file():
        files.append(labels)
    return files


def shear_case(file: Path) -> None:
    for each in files_of_case(file):
        change(each, affine=sheared)


def all_sevens(array: np.ndarray) -> np.ndarray:
    return np.full_like(array, 7)


def make_constant(file: Path) -> None:
    for each in files_of_case(file)[:2]:
        change(each, all_sevens)


def copy_other_case(file: Path) -> None:
    sources = ("case_00_0000.nii.gz", "case_00_0001.nii.gz")
    for each, source in zip(files_of_case(file)[:2], sources, strict=True):
        shutil.copy(file.with_name(source), each)


def drop(file: Path) -> None:
    file.unlink()


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-60])


def empty(file: Path) -> None:
    file.write_bytes(b"")


def not_compressed(file: Path) -> None:
    file.write_bytes(gzip.decompress(file.read_bytes()))


def replace_by_web_page(file: Path) -> None:
    file.write_text("<html>Please log in</html>")


def replace_by_png(file: Path) -> None:
    image = file.with_name("image.png")
    io.imsave(image, np.zeros((5, 5), np.uint8), check_contrast=False)
    image.replace(file)


def no_geometry(file: Path) -> None:
    image = nibabel.load(file)
    header = image.header.copy()
    array = np.asarray(image.dataobj).copy()
    header.set_sform(np.zeros((4, 4)), 1)
    nibabel.save(nibabel.Nifti1Image(array, None, header), file)


def copy_to(name: str) -> Spoil:
    """Return a function that copies a file within its folder; `CASE` in the name is replaced."""

    def copy(file: Path) -> None:
        case = file.name[: len(CASE)]
        shutil.copy(file, file.with_name(name.replace(CASE, case)))

    return copy


def described(**changes: object) -> Spoil:
    def edit(file: Path) -> None:
        describe(file.parent, **changes)

    return edit


def reverse(array: np.ndarray) -> np.ndarray:
    return array[::-1]


def repeat_case_in_capitals(file: Path) -> None:
    """Write the case again, with its name in capitals and with other voxels."""
    name = file.name.removesuffix("_0000.nii.gz")
    for source in files_of_case(file):
        copied = source.with_name(source.name.replace(name, name.upper()))
        shutil.copy(source, copied)
        change(copied, reverse)


IMAGE_FAULTS: dict[str, Broken] = {
    "the first channel is missing": Broken(T1, drop, "no such file", "add it, or remove the case"),
    "the last channel is missing": Broken(
        T2,
        drop,
        "1 channel(s) in 1 file(s), dataset.json names 2: ['T1', 'T2']",
        "add what is missing",
        named=T1,
    ),
    "a channel too many": Broken(
        T2,
        copy_to(f"{CASE}_0002.nii.gz"),
        "3 channel(s) in 3 file(s), dataset.json names 2",
        "remove what is too much",
        named=T1,
    ),
    "truncated": Broken(T1, truncate, "cannot be read, it may be truncated", "put a whole file"),
    "no bytes": Broken(T1, empty, "cannot be read", "put a whole file"),
    "a web page": Broken(T2, replace_by_web_page, "cannot be read", "put a whole file"),
    "a 2D image called a volume": Broken(T1, replace_by_png, "cannot be read", "put a whole file"),
    "not compressed but called so": Broken(
        T1, not_compressed, "cannot be read", "put a whole file"
    ),
    "4D": Broken(
        T1,
        with_voxels(four_dimensional),
        "has shape (10, 12, 4, 2)",
        "split 4D series into channels",
    ),
    "colours in a volume": Broken(
        T1, with_voxels(colours), "has voxels of type", "expected one number each"
    ),
    "complex numbers": Broken(
        T2, with_voxels(put(1j, np.complex64)), "voxels of type complex64", "expected one number"
    ),
    "not a number": Broken(
        T1, with_voxels(put(np.nan, np.float32)), "1 voxels are NaN or infinite", "replace them"
    ),
    "infinite": Broken(
        T2, with_voxels(put(-np.inf, np.float32)), "1 voxels are NaN or infinite", "replace them"
    ),
    "no geometry": Broken(T1, no_geometry, "header has no usable geometry", "put a whole file"),
    "axes not perpendicular": Broken(
        T1, shear_case, "not perpendicular, by 15.0 degrees", "resample the image", is_skipped=False
    ),
    "channel of another shape": Broken(
        T2,
        with_voxels(crop),
        "shape (4, 12, 9) (z, y, x) differs from (4, 12, 10) of",
        "resample it",
        is_skipped=False,
    ),
    "channel of another spacing": Broken(
        T2,
        with_affine(stretched),
        "spacing [2.0, 1.25, 1.0] and not [2.0, 1.0, 1.0]",
        "copy the header",
        is_skipped=False,
    ),
    "channel of another origin": Broken(
        T2, with_affine(moved), "lies 3.0 voxels beside", "copy the header", is_skipped=False
    ),
    "channel of another direction": Broken(
        T2,
        with_affine(flipped),
        "direction [[-1.0, 0.0, 0.0], ",
        "copy the header",
        is_skipped=False,
    ),
    "constant": Broken(
        T1,
        make_constant,
        "every voxel is 7, but its label map is not empty",
        "export the image",
        is_skipped=False,
    ),
    "the image of another case": Broken(
        T1,
        copy_other_case,
        "the same image as case_00_0000.nii.gz of case case_00",
        "keep one",
        is_skipped=False,
    ),
}
LABEL_FAULTS: dict[str, Broken] = {
    "no label map": Broken(LABELS, drop, "missing", "every case of imagesTr needs a label map"),
    "truncated label map": Broken(
        LABELS, truncate, "cannot be read, it may be truncated", "put a whole label map"
    ),
    "4D label map": Broken(
        LABELS, with_voxels(four_dimensional), "has shape (10, 12, 4, 2)", "expected a 3D volume"
    ),
    "fractions": Broken(
        LABELS,
        with_voxels(put(0.5, np.float32)),
        "0.5 is not a whole number",
        "save the labels as int",
    ),
    "a label that is no number": Broken(
        LABELS, with_voxels(put(np.nan, np.float32)), "label value nan", "save the labels"
    ),
    "negative labels": Broken(
        LABELS,
        with_voxels(put(-1, np.int16)),
        "label values go from -1 to 1",
        "expected 0 to 65535",
    ),
    "undeclared labels": Broken(
        LABELS, with_voxels(put(7, np.uint8)), "does not declare: 7 (1 voxels)", "or declare the"
    ),
    "255 for 1": Broken(
        LABELS,
        with_voxels(mask_of_255),
        "does not declare: 255 (",
        "map 255 to 1",
    ),
    "255 next to 1": Broken(
        LABELS, with_voxels(put(255, np.uint8)), "does not declare: 255 (1 voxels)", "correct the"
    ),
    "label map of another shape": Broken(
        LABELS,
        with_voxels(crop),
        "shape (4, 12, 9) (z, y, x) differs from (4, 12, 10) of its image",
        "resample it",
    ),
    "label map of another spacing": Broken(
        LABELS,
        with_affine(stretched),
        "(spacing [2.0, 1.25, 1.0] and not [2.0, 1.0, 1.0]",
        "copy the header of its image",
    ),
    "label map of another origin": Broken(
        LABELS,
        with_affine(moved),
        "(origin [3.0, 0.0, 0.0] and not [0.0, 0.0, 0.0])",
        "copy the header of its image",
    ),
    "label map of another direction": Broken(
        LABELS,
        with_affine(flipped),
        "lies 18.0 voxels beside its image (direction [[-1.0",
        "copy the header of its image",
    ),
}
FOLDER_FAULTS: dict[str, Broken] = {
    "a label map without an image": Broken(
        LABELS,
        copy_to("größe 9.nii.gz"),
        "a label map without an image in imagesTr",
        "add the image or remove it",
        named="labelsTr/größe 9.nii.gz",
    ),
    "a label map in another format": Broken(
        LABELS,
        copy_to(f"{CASE}.nrrd"),
        "ends in .nrrd and is not used, as dataset.json names .nii.gz",
        "convert or remove it",
        named=f"labelsTr/{CASE}.nrrd",
    ),
    "an image in another format": Broken(
        T1,
        copy_to("case_77_0000.png"),
        "ends in .png and is not used",
        "convert or remove it",
        named="imagesTr/case_77_0000.png",
    ),
    "an image without a channel number": Broken(
        T1,
        copy_to("scan.nii.gz"),
        "an image without a channel number",
        "call the first channel scan_0000.nii.gz",
        named="imagesTr/scan.nii.gz",
    ),
    "names that differ in case only": Broken(
        T1,
        repeat_case_in_capitals,
        "differ in upper and lower case only: case_",
        "rename one",
        named="imagesTr",
    ),
    "another number of cases": Broken(
        "dataset.json",
        described(numTraining=99),
        "numTraining is 99, imagesTr holds ",
        "correct the number, or remove",
    ),
    "a patient key that finds nothing": Broken(
        "dataset.json",
        described(patient_key=r"^patient\d+"),
        "finds nothing in ",
        "write an expression",
    ),
}
FAULTS = IMAGE_FAULTS | LABEL_FAULTS | FOLDER_FAULTS
