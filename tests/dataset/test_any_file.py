"""Label maps on any grid come back from files of every 3D format."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK
from builders.properties import affines, for_any_input, shapes
from hypothesis import given
from hypothesis import strategies as st

from samnet.core.geometry import Grid
from samnet.dataset.images import read_image, read_labels, write_labels


def write_image(file: Path, shape: tuple[int, int, int], affine: np.ndarray) -> None:
    """Write ones on a grid; ITK counts positions to the left and to the back (LPS)."""
    if file.name.endswith(".nii.gz"):
        nibabel.save(nibabel.Nifti1Image(np.ones(shape[::-1], np.int16), affine), file)
        return
    image = SimpleITK.GetImageFromArray(np.ones(shape, np.int16))
    lps = np.diag([-1, -1, 1, 1]) @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    SimpleITK.WriteImage(image, str(file))


@pytest.mark.parametrize("ending", [".nii.gz", ".nrrd", ".mha"])
@for_any_input(12, simplify=False)
@given(affines(), shapes(), st.sampled_from((1, 255, 60_000)), st.integers(0, 999))
def test_labels_on_any_grid_come_back_from_a_file(
    tmp_path: Path,
    ending: str,
    affine: np.ndarray,
    shape: tuple[int, int, int],
    highest: int,
    seed: int,
) -> None:
    """Formats name axes and directions differently; voxels and their places are the same."""
    image_file = tmp_path / f"image{ending}"
    write_image(image_file, shape, affine)
    image = read_image([image_file])
    assert image.grid.difference(Grid(shape, affine), 1e-3) is None
    labels = np.random.default_rng(seed).integers(0, highest, shape, endpoint=True)
    file = tmp_path / f"labels{ending}"
    write_labels(labels, image, file)
    found = read_labels(file)
    assert np.array_equal(found.array[0], labels)
    assert found.grid.difference(image.grid, 1e-3) is None
