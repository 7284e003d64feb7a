"""Label maps as files, and a data set of references with predictions to evaluate."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from builders.data import write_volume

SPACING_XYZ = (1.0, 2.0, 3.0)


def write_label_map(file: Path, array: np.ndarray, shift_mm: float = 0.0) -> None:
    """Write a NIfTI label map whose voxels have the spacing `SPACING_XYZ` in mm.

    Args:
        file: The file; its folder is created.
        array: Labels `(Z, Y, X)`.
        shift_mm: Position of the first voxel along x in mm.
    """
    affine = np.diag([*SPACING_XYZ, 1.0])
    affine[0, 3] = shift_mm
    write_volume(file, array, affine)


def two_boxes(seed: int) -> np.ndarray:
    """Return a label map `(Z, Y, X)` of two boxes, with the labels 1 and 2.

    Args:
        seed: Decides where they lie.
    """
    generator = np.random.default_rng(seed)
    labels = np.zeros((6, 8, 10), dtype=np.uint8)
    z, y, x = generator.integers(0, 3, size=3)
    labels[z : z + 2, y : y + 3, x : x + 3] = 1
    labels[z : z + 3, y + 3 : y + 5, x + 3 : x + 6] = 2
    return labels


def write_predicted_dataset(folder: Path) -> Path:
    """Write a data set with references of three cases in `labelsTs`, and predictions in `preds`.

    Each prediction is its reference, shifted by one voxel along x.

    Args:
        folder: The folder for data sets.

    Returns:
        The folder of the data set.
    """
    dataset = folder / "Dataset001_Synthetic"
    for seed in range(3):
        labels = two_boxes(seed)
        write_label_map(dataset / "labelsTs" / f"case_{seed}.nii.gz", labels)
        write_label_map(dataset / "preds" / f"case_{seed}.nii.gz", np.roll(labels, 1, axis=2))
    description = {
        "channel_names": {"0": "MRI"},
        "labels": {"background": 0, "left, inner": 1, "right": 2},
        "file_ending": ".nii.gz",
    }
    (dataset / "dataset.json").write_text(json.dumps(description), encoding="utf-8")
    return dataset
