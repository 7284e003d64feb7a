"""Synthetic data sets in nnU-Net's layout."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import SimpleITK
from skimage import io


def write_dataset(
    folder: Path,
    number: int = 501,
    name: str = "Tiny",
    num_cases: int = 6,
    shape: tuple[int, int, int] = (8, 24, 20),
    spacing: tuple[float, float, float] = (2.0, 1.0, 1.0),
    affine: np.ndarray | None = None,
    labels: dict[str, int] | None = None,
    file_ending: str = ".nii.gz",
    num_test: int = 0,
    channels: tuple[str, ...] = ("MRI",),
) -> Path:
    """Write a data set of bright balls in noise, in nnU-Net's layout.

    Args:
        folder: The folder of raw data.
        number: The id of the data set.
        name: Its name without the id.
        num_cases: Number of training cases.
        shape: Shape of the volumes, `(Z, Y, X)`. Of 2D formats the middle slice is written.
        spacing: Spacing in mm, `(Z, Y, X)`.
        affine: 4 x 4 matrix from `(x, y, z)` to mm in RAS+; replaces the spacing.
        labels: Name -> value; by default background and one class.
        file_ending: Ending of all files.
        num_test: Number of test cases.
        channels: Names of the channels.

    Returns:
        The folder of the data set.
    """
    labels = labels or {"background": 0, "ball": 1}
    values = [value for value in labels.values() if value]
    dataset = folder / f"Dataset{number:03d}_{name}"
    affine = np.diag([*spacing[::-1], 1.0]) if affine is None else affine
    for index in range(num_cases + num_test):
        part, case = "Tr" if index < num_cases else "Ts", f"case_{index:02d}"
        volumes, label_map = synthetic_case(index, shape, values, len(channels))
        for channel, volume in enumerate(volumes):
            file = dataset / f"images{part}" / f"{case}_{channel:04d}{file_ending}"
            write_volume(file, volume, affine)
        write_volume(dataset / f"labels{part}" / f"{case}{file_ending}", label_map, affine)
    description = {
        "channel_names": {str(channel): name for channel, name in enumerate(channels)},
        "labels": labels,
        "numTraining": num_cases,
        "file_ending": file_ending,
    }
    (dataset / "dataset.json").write_text(json.dumps(description), encoding="utf-8")
    return dataset


def synthetic_case(
    seed: int, shape: tuple[int, int, int], values: list[int], num_channels: int
) -> tuple[list[np.ndarray], np.ndarray]:
    """Return channels and label map `(Z, Y, X)`: a ball for each value, brighter with the value."""
    generator = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, size) for size in shape), indexing="ij"))
    label_map = np.zeros(shape, dtype=np.uint8)
    for value in values:
        centre = generator.uniform(-0.4, 0.4, size=3)
        label_map[((grid - centre[:, None, None, None]) ** 2).sum(axis=0) < 0.3] = value
    volumes = []
    for _ in range(num_channels):
        intensities = 20 + 60 * label_map + generator.normal(0, 5, shape)
        volumes.append(intensities.clip(1, 255).astype(np.uint8))
    return volumes, label_map


def write_volume(file: Path, array: np.ndarray, affine: np.ndarray) -> None:
    """Write an array `(Z, Y, X)`.

    NIfTI files get the affine (RAS+, mm), ITK's formats only its spacing, 2D formats neither.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    if ".nii" in file.name:
        nibabel.save(nibabel.Nifti1Image(array.transpose(), affine), file)
    elif file.suffix in (".nrrd", ".mha"):
        image = SimpleITK.GetImageFromArray(array)
        image.SetSpacing(np.linalg.norm(affine[:3, :3], axis=0).tolist())
        SimpleITK.WriteImage(image, str(file))
    else:
        io.imsave(file, array[len(array) // 2], check_contrast=False)
