"""Large synthetic CTs: small ones of the demo, enlarged, with a scanner's noise on every voxel."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
from scipy import ndimage

from samnet.demo.abdomen import LABELS
from samnet.demo.anatomy import make_case

NOISE_HU = 15.0


def enlarged_case(shape: tuple[int, int, int], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return an enlarged CT of the demo with noise, and its labels.

    Args:
        shape: Number of voxels along `(Z, Y, X)`.
        seed: Seed of the anatomy and of the noise.

    Returns:
        Hounsfield units `(Z, Y, X)` int16 and labels `(Z, Y, X)` uint8.
    """
    small, small_labels, _ = make_case(seed, 0)
    factors = [target / length for target, length in zip(shape, small.shape, strict=True)]
    image = ndimage.zoom(small.astype(np.float32), factors, order=1)
    image += NOISE_HU * np.random.default_rng(seed).standard_normal(shape, np.float32)
    labels = ndimage.zoom(small_labels, factors, order=0)
    return np.clip(np.rint(image), -1024, 3071).astype(np.int16), labels


def write_dataset(
    folder: Path, shape: tuple[int, int, int], spacings: list[tuple[float, float, float]]
) -> None:
    """Write a raw data set of synthetic CTs in nnU-Net v2's layout.

    Args:
        folder: The folder of the data set.
        shape: Number of voxels of each case along `(Z, Y, X)`.
        spacings: The spacing of each case along `(Z, Y, X)` in mm; one case for each.
    """
    for seed, (z, y, x) in enumerate(spacings):
        image, labels = enlarged_case(shape, seed)
        name = f"synthetic{seed}"
        affine = np.diag([x, y, z, 1.0])
        for part, array in ((f"imagesTr/{name}_0000", image), (f"labelsTr/{name}", labels)):
            file = folder / f"{part}.nii.gz"
            file.parent.mkdir(parents=True, exist_ok=True)
            nibabel.save(nibabel.Nifti1Image(array.transpose(), affine), file)
    described = {
        "channel_names": {"0": "CT"},
        "labels": LABELS,
        "numTraining": len(spacings),
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(described), encoding="utf-8")
