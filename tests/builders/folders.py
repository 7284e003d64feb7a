"""Folders of images and masks to convert, and the command that converts them."""

from __future__ import annotations

import zlib
from pathlib import Path

import nibabel
import numpy as np
from PIL import Image

from samnet.cli.convert_folder import main
from samnet.dataset.cases import RawDataset
from samnet.dataset.images import read_image, read_labels
from samnet.dataset.integrity import verify_dataset

SIZE = 16
ROWS = {"": (), "top": (2, 6), "middle": (4, 8), "bottom": (10, 14)}


def save_image(file: Path, value: int = 100, shape: tuple[int, ...] = (SIZE, SIZE)) -> None:
    """Write an image of noise above a value; that of each file differs."""
    noise = np.random.default_rng(zlib.crc32(str(file).encode())).integers(0, 20, shape)
    _save(file, (value + noise).astype(np.uint8))


def save_mask(file: Path, band: str = "top", value: int = 1) -> None:
    """Write a mask with a band of rows; `top` and `middle` overlap by two rows."""
    mask = np.zeros((SIZE, SIZE), np.uint8)
    if band:
        mask[slice(*ROWS[band])] = value
    _save(file, mask)


def _save(file: Path, array: np.ndarray) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    if ".nii" in file.name:
        volume = np.repeat(array.T[:, :, None], 3, axis=2)
        nibabel.save(nibabel.Nifti1Image(volume, np.diag([0.5, 0.5, 2.0, 1.0])), file)
    else:
        Image.fromarray(array).save(file)


def convert(images: Path, masks: Path, *options: str) -> int:
    """Run the command; return its exit code."""
    source = ["--images", str(images), "--masks", str(masks)]
    return main([*source, "-d", "7", "--name", "T", *options])


def converted() -> RawDataset:
    """Return the data set that was written, after a check of all files."""
    dataset = RawDataset.load(7)
    verify_dataset(dataset, processes=0)
    return dataset


def labels_of(dataset: RawDataset) -> dict[str, list[int]]:
    """Return the label of each row in the first slice of each case."""
    rows = {}
    for case in dataset.cases:
        assert case.label_file is not None
        rows[case.identifier] = read_labels(case.label_file).array[0, 0, :, 0].tolist()
    return rows


def values_of(dataset: RawDataset) -> dict[str, list[int]]:
    """Return, for each case, the value that each channel was written with."""
    values = {}
    for case in dataset.cases:
        channels = read_image(case.image_files).array
        values[case.identifier] = [int(channel.min()) // 20 * 20 for channel in channels]
    return values


def rows(**bands: int) -> list[int]:
    """Return the label of each row where bands have labels; a later band covers an earlier one."""
    labels = [0] * SIZE
    for band, label in bands.items():
        for row in range(*ROWS[band]):
            labels[row] = label
    return labels
