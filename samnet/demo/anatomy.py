"""A made CT data set: small abdomens, each with its own organs, in nnU-Net v2's raw layout.

An abdomen is drawn as smooth shapes in millimetres (x to the patient's right, y to the front, z to the head), sampled
on an oblique anisotropic grid, and stored in one of several axis orders, so that geometry is exercised as real data do.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter

from samnet.core.errors import UserError
from samnet.core.files import atomic_path, read_json, write_json
from samnet.core.geometry import Grid

DATASET_NAME = "Dataset999_Demo"
LABELS = {"background": 0, "liver": 1, "spleen": 2, "left_kidney": 3, "right_kidney": 4, "aorta": 5}
ORIENTATIONS = ("LPS", "RAS", "PSR", "LAS")
FILE_ENDING = ".nii.gz"

_AIR, _FAT, _MUSCLE = -1000.0, -100.0, 42.0


def make_demo_dataset(folder: Path, num_training: int, num_test: int, seed: int) -> None:
    """Write `Dataset999_Demo` below `folder`, whole or not at all; where it already is as asked, do nothing.

    Case i depends on `seed` and i only; the test cases are numbered on from the training cases.

    Raises:
        UserError: the number of cases is not usable, or another data set is in the way.
    """
    if num_training < 1 or num_test < 0:
        raise UserError(
            f"demo data set with {num_training} training and {num_test} test cases: "
            "ask for at least 1 training case and 0 or more test cases"
        )
    target = Path(folder) / DATASET_NAME
    recipe = {"num_training": num_training, "num_test": num_test, "seed": seed}
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        _require_same_recipe(target, recipe)
        return
    with atomic_path(target) as temporary:
        for index in range(num_training + num_test):
            _write_case(temporary, "Tr" if index < num_training else "Ts", index, seed)
        write_json(temporary / "dataset.json", _description(recipe))


def _require_same_recipe(target: Path, recipe: dict[str, int]) -> None:
    description = target / "dataset.json"
    content = read_json(description) if description.is_file() else None
    found = content.get("demo") if isinstance(content, dict) else None
    if found != recipe:
        raise UserError(
            f"{target}: already there with the recipe {found}, asked for was {recipe}; "
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
    name, orientation = f"demo_{index:03d}", ORIENTATIONS[index % len(ORIENTATIONS)]
    _write_nifti(hounsfield, grid, orientation, folder / f"images{part}" / f"{name}_0000{FILE_ENDING}")
    _write_nifti(labels, grid, orientation, folder / f"labels{part}" / f"{name}{FILE_ENDING}")


def _write_nifti(array: np.ndarray, grid: Grid, orientation: str, file: Path) -> None:
    """Store a canonical array `(Z, Y, X)` with its axes permuted and flipped to `orientation`, such as LPS."""
    import nibabel
    from nibabel.orientations import axcodes2ornt, ornt_transform

    transform = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(orientation))
    image = nibabel.Nifti1Image(array.transpose(), grid.affine).as_reoriented(transform)
    image.set_qform(image.affine, code=1)
    image.set_sform(image.affine, code=1)
    file.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(image, file)


def make_case(seed: int, index: int) -> tuple[np.ndarray, np.ndarray, Grid]:
    """One case in canonical axes.

    Returns:
        Hounsfield units `(Z, Y, X)` int16, labels `(Z, Y, X)` uint8, and their grid.
    """
    generator = np.random.default_rng([seed, index])
    grid, centre = _draw_grid(generator)
    x_y_z = np.indices(grid.shape, dtype=np.float32)[::-1]
    points = np.tensordot(grid.affine[:3, :3], x_y_z, axes=1) + (grid.affine[:3, 3] - centre)[:, None, None, None]
    body = _Body(points.astype(np.float32), generator)
    body.paint_all()
    return _scan(body.hounsfield, generator), body.labels, grid


def _draw_grid(generator: np.random.Generator) -> tuple[Grid, np.ndarray]:
    """An oblique grid around an abdomen, and the world position of the abdomen's centre in mm."""
    in_plane, between = generator.uniform(1.95, 2.3), generator.uniform(4.3, 6.0)
    shape = (
        int(np.clip(round(generator.uniform(115, 130) / between), 18, 28)),
        int(np.clip(round(196 / in_plane), 84, 104)),
        int(np.clip(round(246 / in_plane), 100, 128)),
    )
    affine = np.eye(4)
    affine[:3, :3] = _rotation(generator, degrees=7.0) @ np.diag([in_plane, in_plane, between])
    centre = generator.uniform(-90, 90, 3)
    middle = affine[:3, :3] @ ((np.array(shape[::-1]) - 1) / 2)
    affine[:3, 3] = centre - middle + generator.uniform(-5, 5, 3)
    return Grid(shape, affine), centre


def _rotation(generator: np.random.Generator, degrees: float) -> np.ndarray:
    """A 3 x 3 rotation by at most `degrees` about each axis."""
    matrix = np.eye(3)
    for axis in range(3):
        angle = np.deg2rad(generator.uniform(-degrees, degrees))
        i, j = (axis + 1) % 3, (axis + 2) % 3
        turn = np.eye(3)
        turn[[i, j], [i, j]] = np.cos(angle)
        turn[i, j], turn[j, i] = -np.sin(angle), np.sin(angle)
        matrix = turn @ matrix
    return matrix


def _scan(hounsfield: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """What a scanner makes of true Hounsfield units: blur, a slow drift, noise, and whole numbers."""
    blurred = gaussian_filter(hounsfield, (0.25, 0.6, 0.6))
    z, y, x = (np.linspace(-1, 1, size) for size in hounsfield.shape)
    slope = generator.normal(0, 0.006, 3)
    drift = slope[0] * z[:, None, None] + slope[1] * y[:, None] + slope[2] * x**2
    noise = gaussian_filter(generator.standard_normal(hounsfield.shape), (0, 0.5, 0.5))
    noise *= generator.uniform(13, 22) / noise.std()
    scanned = (blurred - _AIR) * (1 + drift) + _AIR + noise
    return np.clip(np.rint(scanned), -1024, 3071).astype(np.int16)


@dataclass(frozen=True)
class _Blob:
    """An ellipsoid in mm: centre and radii along (x, y, z)."""

    centre: tuple[float, float, float]
    radii: tuple[float, float, float]

    def mirrored(self) -> _Blob:
        x, y, z = self.centre
        return _Blob((-x, y, z), self.radii)


_LIVER = (_Blob((45, 10, 22), (42, 41, 48)), _Blob((6, 33, 30), (50, 18, 26)))
_SPLEEN = _Blob((-69, -8, 20), (20, 31, 34))
_STOMACH = _Blob((-34, 26, 20), (29, 25, 34))
_RIGHT_KIDNEY = _Blob((46, -29, -12), (19, 16, 36))
_RIGHT_HILUM = _Blob((28, -24, -12), (12, 8, 13))
_GALLBLADDER = _Blob((27, 27, -6), (9, 11, 16))


class _Body:
    """One abdomen being painted, tissue over tissue, at sample points in mm `(3, Z, Y, X)`, first index (x, y, z)."""

    def __init__(self, points: np.ndarray, generator: np.random.Generator) -> None:
        self.generator = generator
        size = generator.uniform(0.93, 1.03, 3)[:, None, None, None]
        self.unbent = points
        warp = np.stack([self._waves(points, wavelength=110.0, amplitude=3.0) for _ in range(3)])
        self.points = (points / size + warp).astype(np.float32)
        shape = points.shape[1:]
        texture = gaussian_filter(generator.standard_normal(shape), (0.6, 1.5, 1.5))
        self.texture = (texture / texture.std()).astype(np.float32)
        self.hounsfield = np.full(shape, _AIR, dtype=np.float32)
        self.labels = np.zeros(shape, dtype=np.uint8)
        self.contrast = generator.uniform(0.85, 1.15)

    def paint_all(self) -> None:
        """From the outside in and from the back of the scene to its front: what comes later covers what was there."""
        self._paint_wall()
        self._paint_bowel()
        self._paint_stomach()
        self._paint_liver()
        self._paint_spleen()
        self._paint_kidneys()
        self._paint_back()
        self._paint_vessels()

    def _paint(self, mask: np.ndarray, hounsfield: float, label: str = "background", texture: float = 5.0) -> None:
        """Fill `mask` with tissue; `texture` is the standard deviation of its inner variation in HU."""
        self.hounsfield[mask] = hounsfield + texture * self.texture[mask]
        self.labels[mask] = LABELS[label]

    def _waves(self, points: np.ndarray, wavelength: float, amplitude: float) -> np.ndarray:
        """A smooth random field `(Z, Y, X)` with a standard deviation of `amplitude`."""
        field = np.zeros(points.shape[1:], dtype=np.float32)
        number = 5
        for _ in range(number):
            direction = self.generator.standard_normal(3)
            direction *= 2 * np.pi / (wavelength * self.generator.uniform(0.7, 1.4) * np.linalg.norm(direction))
            phase = self.generator.uniform(0, 2 * np.pi)
            field += np.sin(np.tensordot(direction.astype(np.float32), points, axes=1) + np.float32(phase))
        return field * np.float32(amplitude * np.sqrt(2 / number))

    def _vary(self, blob: _Blob, shift: float = 4.0, stretch: float = 0.1) -> _Blob:
        """Another patient's version of an organ: moved by some mm, and each radius changed by a share of itself."""
        centre = np.array(blob.centre) + self.generator.uniform(-shift, shift, 3)
        radii = np.array(blob.radii) * self.generator.uniform(1 - stretch, 1 + stretch, 3)
        return _Blob(tuple(centre), tuple(radii))

    def _radius(self, blob: _Blob, tilt: float = 10.0, bumps: float = 0.07) -> np.ndarray:
        """Distance from the blob's centre `(Z, Y, X)` in units of its surface: below 1 inside."""
        centre = np.array(blob.centre, dtype=np.float32)[:, None, None, None]
        local = np.tensordot(_rotation(self.generator, tilt).astype(np.float32), self.points - centre, axes=1)
        squares = sum((local[axis] / np.float32(blob.radii[axis])) ** 2 for axis in range(3))
        return np.sqrt(squares) * (1 + self._waves(local, wavelength=55.0, amplitude=bumps))

    def _tube(self, x: float, y: float, radii: tuple[float, float], bend: float) -> np.ndarray:
        """As `_radius`, for an elliptic tube along z whose middle sways by about `bend` mm."""
        z = self.points[2]
        phase = self.generator.uniform(0, 2 * np.pi, 2)
        across = (self.points[0] - x - bend * np.sin(z / 40 + phase[0])) / radii[0]
        along = (self.points[1] - y - bend * np.sin(z / 55 + phase[1])) / radii[1]
        return np.hypot(across, along)

    def _paint_wall(self) -> None:
        """Table, skin, fat, ribs and muscle, and the fat that the organs lie in."""
        x, y, z = self.points
        half_width, half_depth = 99.0, 73.0
        table = np.abs(self.unbent[1] + half_depth * 1.1 + 7 - 0.0016 * self.unbent[0] ** 2)
        self._paint((table < 3.5) & (np.abs(self.unbent[0]) < 90), -150, texture=20)
        rim = self.generator.uniform(6, 14)

        def inside(depth: float) -> np.ndarray:
            a, b = half_width - depth, half_depth - depth
            return np.abs(x / a) ** 2.4 + np.abs(y / b) ** 2.4 < 1

        self._paint(inside(0), 15)
        self._paint(inside(2), _FAT, texture=8)
        self._paint(inside(rim), _MUSCLE, texture=7)
        slanted = np.sin((z + 0.5 * y + self.generator.uniform(0, 30)) * (2 * np.pi / 30))
        ribs = inside(rim + 1.5) & ~inside(rim + 6) & (slanted > 0.1) & (np.abs(x) > 35) & (z > -25)
        self._paint(ribs, self.generator.uniform(330, 450), texture=60)
        self.cavity = inside(rim + 8)
        self._paint(self.cavity, _FAT + 6, texture=16)

    def _paint_bowel(self) -> None:
        for _ in range(11):
            x, y, z = (float(self.generator.uniform(*span)) for span in ((-62, 62), (-4, 44), (-75, 5)))
            radius = self._radius(_Blob((x, y, z), tuple(self.generator.uniform(10, 19, 3))), tilt=60) / 1.0
            self._paint((radius < 1) & self.cavity, self.generator.uniform(40, 75), texture=6)
            gas = self.generator.uniform() < 0.25
            self._paint((radius < 0.75) & self.cavity, -750 if gas else self.generator.uniform(15, 45), texture=12)

    def _paint_stomach(self) -> None:
        radius = self._radius(self._vary(_STOMACH, shift=6, stretch=0.18))
        self._paint((radius < 1) & self.cavity, 60)
        lumen = (radius < 0.84) & self.cavity
        self._paint(lumen, self.generator.uniform(5, 35), texture=10)
        # The patient lies on the back: gas rises to the front and has a level surface.
        self._paint(lumen & (self.unbent[1] > self.generator.uniform(22, 34)), -900, texture=15)

    def _paint_liver(self) -> None:
        right, left = (self._radius(self._vary(blob)) for blob in _LIVER)
        liver = (np.minimum(right, left) < 1) & self.cavity
        value = 45 + 45 * self.contrast + self.generator.normal(0, 4)
        self._paint(liver, value, "liver", texture=5)
        self._paint(liver & (self.texture > 1.9), value + 35, "liver", texture=0)
        gallbladder = self._radius(self._vary(_GALLBLADDER, stretch=0.2))
        self._paint((gallbladder < 1) & self.cavity, 10, texture=3)

    def _paint_spleen(self) -> None:
        radius = self._radius(self._vary(_SPLEEN, stretch=0.15))
        self._paint((radius < 1.08) & self.cavity, _FAT, texture=10)
        value = 45 + 68 * self.contrast + self.generator.normal(0, 4)
        self._paint((radius < 1) & self.cavity, value, "spleen", texture=5)

    def _paint_kidneys(self) -> None:
        """One shape and one density for both sides: only their place tells them apart."""
        right, hilum = self._vary(_RIGHT_KIDNEY), self._vary(_RIGHT_HILUM, shift=1.5)
        value = 45 + 112 * self.contrast
        sides = (("right_kidney", right, hilum), ("left_kidney", right.mirrored(), hilum.mirrored()))
        for name, kidney, notch in sides:
            radius = self._radius(self._vary(kidney, shift=3, stretch=0.04), bumps=0.05)
            self._paint((radius < 1.15) & self.cavity, _FAT, texture=10)
            bean = (radius < 1) & (self._radius(notch, tilt=5) > 1) & self.cavity
            self._paint(bean, value + 15, name, texture=6)
            self._paint(bean & (radius < 0.62), value - 22, name, texture=8)

    def _paint_back(self) -> None:
        """Muscles along the spine, vertebrae with their canal, and discs between them."""
        for side in (-1, 1):
            self._paint(self._tube(side * 24, -50, (21, 12), bend=1) < 1, _MUSCLE, texture=7)
            self._paint((self._tube(side * 24, -30, (10, 11), bend=1) < 1) & (self.points[2] < 15), _MUSCLE, texture=7)
        period = np.sin(self.points[2] * (2 * np.pi / 33) + self.generator.uniform(0, 2 * np.pi))
        body = self._tube(0, -30, (17, 14), bend=0.5)
        arch = np.minimum(self._tube(0, -47, (11, 9), bend=0.5), self._tube(0, -56, (3.5, 11), bend=0.5))
        self._paint(arch < 1, 380, texture=50)
        self._paint(body < 1, 480, texture=50)
        self._paint(body < 0.82, 190, texture=35)
        self._paint((body < 1) & (period > 0.82), 75, texture=8)
        self._paint(self._tube(0, -46.5, (7, 6), bend=0.5) < 1, 25)

    def _paint_vessels(self) -> None:
        """The aorta, left of the middle, and beside it a vein that is not labelled."""
        vein = self._tube(15 + self.generator.uniform(-3, 3), -9, (9, 7), bend=2)
        self._paint(vein < 1, 45 + 80 * self.contrast, texture=5)
        width = self.generator.uniform(7.0, 10.0)
        aorta = self._tube(-7 + self.generator.uniform(-3, 3), -7, (width, width), bend=2.5)
        self._paint(aorta < 1.25, _FAT + 20, texture=8)
        self._paint(aorta < 1, 45 + 145 * self.contrast, "aorta", texture=5)
