"""A synthetic CT data set of small abdomens with different organs, in nnU-Net v2's raw layout.

Every case has a different grid, oblique and anisotropic, and is stored in one of several axis
orders. The demo therefore exercises geometry as real data do.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from nibabel.orientations import axcodes2ornt, ornt_transform
from scipy.ndimage import gaussian_filter

from samnet.core.errors import UserError
from samnet.core.files import atomic_path, read_json, write_json
from samnet.core.geometry import Grid
from samnet.demo.abdomen import AIR, LABELS, Abdomen, draw_rotation

DATASET_NAME = "Dataset999_Demo"
ORIENTATIONS = ("LPS", "RAS", "PSR", "LAS")
FILE_ENDING = ".nii.gz"


def make_demo_dataset(folder: Path, num_training: int, num_test: int, seed: int) -> None:
    """Write `Dataset999_Demo` completely or not at all; do nothing where it already exists.

    Case i depends only on `seed` and i. The numbers of the test cases follow those of the training
    cases.

    Args:
        folder: The folder of raw data sets.
        num_training: Number of training cases.
        num_test: Number of test cases.
        seed: Seed of all cases.

    Raises:
        UserError: A number of cases or the seed is out of range, or the folder already holds
            another data set of this name.
    """
    if num_training < 1 or num_test < 0 or seed < 0:
        raise UserError(
            f"demo data set with {num_training} training cases, {num_test} test cases and seed "
            f"{seed}: expected at least 1 training case, at least 0 test cases and a seed of at "
            "least 0"
        )
    target = Path(folder) / DATASET_NAME
    recipe = {"num_training": num_training, "num_test": num_test, "seed": seed}
    if target.exists() and not _is_empty_folder(target):
        _require_same_recipe(target, recipe)
        return
    with atomic_path(target) as temporary:
        for index in range(num_training + num_test):
            part = "Tr" if index < num_training else "Ts"
            _write_case(temporary, part, index, seed)
        write_json(temporary / "dataset.json", _description(recipe))


def _is_empty_folder(path: Path) -> bool:
    return path.is_dir() and not any(path.iterdir())


def _require_same_recipe(target: Path, recipe: dict[str, int]) -> None:
    description = target / "dataset.json"
    content = read_json(description) if description.is_file() else None
    found = content.get("demo") if isinstance(content, dict) else None
    if found != recipe:
        raise UserError(
            f"{target}: already there with the recipe {found}, requested was {recipe}; "
            "remove the folder, or choose another one"
        )


def _description(recipe: dict[str, int]) -> dict[str, Any]:
    return {
        "name": "Demo",
        "description": "Synthetic abdominal CT made by samnet; no patient's data",
        "channel_names": {"0": "CT"},
        "labels": LABELS,
        "numTraining": recipe["num_training"],
        "file_ending": FILE_ENDING,
        "demo": recipe,
    }


def _write_case(folder: Path, part: str, index: int, seed: int) -> None:
    hounsfield, labels, grid = make_case(seed, index)
    name = f"demo_{index:03d}"
    orientation = ORIENTATIONS[index % len(ORIENTATIONS)]
    image_file = folder / f"images{part}" / f"{name}_0000{FILE_ENDING}"
    label_file = folder / f"labels{part}" / f"{name}{FILE_ENDING}"
    _write_nifti(hounsfield, grid, orientation, image_file)
    _write_nifti(labels, grid, orientation, label_file)


def _write_nifti(array: np.ndarray, grid: Grid, orientation: str, file: Path) -> None:
    """Write a canonical array `(Z, Y, X)` with axes permuted and flipped to one such as LPS."""
    transform = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(orientation))
    image = nibabel.Nifti1Image(array.transpose(), grid.affine).as_reoriented(transform)
    image.set_qform(image.affine, code=1)
    image.set_sform(image.affine, code=1)
    file.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(image, file)


def make_case(seed: int, index: int) -> tuple[np.ndarray, np.ndarray, Grid]:
    """Draw one case in canonical axes.

    Args:
        seed: Seed of the data set.
        index: Number of the case.

    Returns:
        Hounsfield units `(Z, Y, X)` int16, labels `(Z, Y, X)` uint8, and their grid.
    """
    generator = np.random.default_rng([seed, index])
    grid, centre = _draw_grid(generator)
    x_y_z = np.indices(grid.shape, dtype=np.float32)[::-1]
    origin = (grid.affine[:3, 3] - centre)[:, None, None, None]
    points = np.tensordot(grid.affine[:3, :3], x_y_z, axes=1) + origin
    abdomen = Abdomen(points.astype(np.float32), generator)
    abdomen.paint_all()
    return _scan(abdomen.hounsfield, generator), abdomen.labels, grid


def _draw_grid(generator: np.random.Generator) -> tuple[Grid, np.ndarray]:
    """Return an oblique grid around an abdomen, and the world position of its centre in mm."""
    in_plane, between = generator.uniform(1.95, 2.3), generator.uniform(4.3, 6.0)
    shape = (
        int(np.clip(round(generator.uniform(115, 130) / between), 18, 28)),
        int(np.clip(round(205 / in_plane), 96, 112)),
        int(np.clip(round(246 / in_plane), 104, 128)),
    )
    affine = np.eye(4)
    affine[:3, :3] = draw_rotation(generator, degrees=7.0) @ np.diag([in_plane, in_plane, between])
    centre = generator.uniform(-90, 90, 3)
    middle = affine[:3, :3] @ ((np.array(shape[::-1]) - 1) / 2)
    affine[:3, 3] = centre - middle + (0, 0, -5) + generator.uniform(-4, 4, 3)
    return Grid(shape, affine), centre


def _scan(hounsfield: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Simulate a scan of true Hounsfield units: blur, a slow drift, noise, and whole numbers."""
    blurred = gaussian_filter(hounsfield, (0.25, 0.6, 0.6))
    z, y, x = (np.linspace(-1, 1, size) for size in hounsfield.shape)
    slope = generator.normal(0, 0.006, 3)
    drift = slope[0] * z[:, None, None] + slope[1] * y[:, None] + slope[2] * x**2
    noise = gaussian_filter(generator.standard_normal(hounsfield.shape), (0, 0.5, 0.5))
    noise *= generator.uniform(13, 22) / noise.std()
    scanned = (blurred - AIR) * (1 + drift) + AIR + noise
    return np.clip(np.rint(scanned), -1024, 3071).astype(np.int16)
