from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest

SPACING_X_Y_Z = (1.0, 2.0, 3.0)


def write_label_file(path: Path, array: np.ndarray, shift_mm: float = 0.0) -> None:
    """Write a NIfTI label map from an array `(Z, Y, X)`, its first voxel moved by `shift_mm` along x."""
    affine = np.diag([*SPACING_X_Y_Z, 1.0])
    affine[0, 3] = shift_mm
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array.transpose(), affine), path)


def synthetic_labels(seed: int) -> np.ndarray:
    """Two boxes, label 1 and 2, at a place that depends on the seed; `(Z, Y, X)`."""
    generator = np.random.default_rng(seed)
    labels = np.zeros((6, 8, 10), dtype=np.uint8)
    z, y, x = generator.integers(0, 3, size=3)
    labels[z : z + 2, y : y + 3, x : x + 3] = 1
    labels[z : z + 3, y + 3 : y + 5, x + 3 : x + 6] = 2
    return labels


@pytest.fixture
def write_labels() -> Callable[..., None]:
    return write_label_file


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """A data set with `labelsTs` and, in `preds`, predictions that are wrong by a shift of one voxel along x."""
    folder = tmp_path / "Dataset001_Synthetic"
    folder.mkdir()
    description = {
        "channel_names": {"0": "MRI"},
        "labels": {"background": 0, "left, inner": 1, "right": 2},
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(description))
    for seed in range(3):
        labels = synthetic_labels(seed)
        write_label_file(folder / "labelsTs" / f"case_{seed}.nii.gz", labels)
        write_label_file(folder / "preds" / f"case_{seed}.nii.gz", np.roll(labels, 1, axis=2))
    return folder
