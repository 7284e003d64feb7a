"""The synthetic abdomen: tissues as smooth random shapes that are painted one over the other.

Positions are in millimetres from the middle of the body: x to the patient's right, y to the front,
z to the head.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

LABELS = {"background": 0, "liver": 1, "spleen": 2, "left_kidney": 3, "right_kidney": 4, "aorta": 5}
AIR, FAT, MUSCLE = -1000.0, -100.0, 42.0  # in Hounsfield units
_HALF_WIDTH, _HALF_DEPTH = 99.0, 73.0  # of the body, in mm
_NUM_WAVES = 5


def draw_rotation(generator: np.random.Generator, degrees: float) -> np.ndarray:
    """Draw a rotation about all three axes.

    Args:
        generator: Source of randomness.
        degrees: Largest angle about each axis.

    Returns:
        Rotation matrix, 3 x 3.
    """
    matrix = np.eye(3)
    for axis in range(3):
        angle = np.deg2rad(generator.uniform(-degrees, degrees))
        i, j = (axis + 1) % 3, (axis + 2) % 3
        rotation = np.eye(3)
        rotation[[i, j], [i, j]] = np.cos(angle)
        rotation[i, j], rotation[j, i] = -np.sin(angle), np.sin(angle)
        matrix = rotation @ matrix
    return matrix


@dataclass(frozen=True)
class _Blob:
    """An ellipsoid in mm: centre and radii along (x, y, z)."""

    centre: tuple[float, float, float]
    radii: tuple[float, float, float]

    def mirrored(self) -> _Blob:
        """Return the same ellipsoid on the other side of the body."""
        x, y, z = self.centre
        return _Blob((-x, y, z), self.radii)


_LIVER = (_Blob((45, 10, 22), (42, 41, 48)), _Blob((6, 33, 30), (50, 18, 26)))
_SPLEEN = _Blob((-69, -8, 20), (20, 31, 34))
_STOMACH = _Blob((-34, 26, 20), (29, 25, 34))
_RIGHT_KIDNEY = _Blob((46, -29, -12), (19, 16, 36))
_RIGHT_HILUM = _Blob((28, -24, -12), (12, 8, 13))
_GALLBLADDER = _Blob((27, 27, -6), (9, 11, 16))


class Abdomen:
    """One abdomen, painted tissue over tissue at the voxel centres of a volume.

    Attributes:
        generator: Source of randomness.
        unbent: Positions of the voxels `(3, Z, Y, X)` in mm; the first axis is (x, y, z).
        points: The same positions after this patient's size and bending are removed.
        texture: Random field `(Z, Y, X)` with unit variance.
        hounsfield: Hounsfield units `(Z, Y, X)`, float32, as painted so far.
        labels: Labels `(Z, Y, X)`, uint8, as painted so far.
        cavity: Whether a voxel lies in the abdominal cavity, `(Z, Y, X)`.
        contrast: Amount of contrast agent, about 1.
    """

    def __init__(self, points: np.ndarray, generator: np.random.Generator) -> None:
        """Draw the patient's size and shape; nothing is painted yet.

        Args:
            points: Positions of the voxels `(3, Z, Y, X)` in mm; the first axis is (x, y, z).
            generator: Source of randomness.
        """
        self.generator = generator
        size = generator.uniform(0.93, 1.03, 3)[:, None, None, None]
        self.unbent = points
        warp = np.stack([self._waves(points, wavelength=110.0, amplitude=3.0) for _ in range(3)])
        self.points = (points / size + warp).astype(np.float32)
        shape = points.shape[1:]
        texture = gaussian_filter(generator.standard_normal(shape), (0.6, 1.5, 1.5))
        self.texture = (texture / texture.std()).astype(np.float32)
        self.hounsfield = np.full(shape, AIR, dtype=np.float32)
        self.labels = np.zeros(shape, dtype=np.uint8)
        self.cavity = np.zeros(shape, dtype=bool)
        self.contrast = generator.uniform(0.85, 1.15)

    def paint_all(self) -> None:
        """Paint all tissues, from the outside in; later tissues cover earlier ones."""
        self._paint_wall()
        self._paint_bowel()
        self._paint_stomach()
        self._paint_liver()
        self._paint_spleen()
        self._paint_kidneys()
        self._paint_back()
        self._paint_vessels()

    def _paint(
        self, mask: np.ndarray, hounsfield: float, label: str = "background", texture: float = 5.0
    ) -> None:
        """Fill a mask with tissue; `texture` is the standard deviation inside of it, in HU."""
        self.hounsfield[mask] = hounsfield + texture * self.texture[mask]
        self.labels[mask] = LABELS[label]

    def _waves(self, points: np.ndarray, wavelength: float, amplitude: float) -> np.ndarray:
        """Return a smooth random field `(Z, Y, X)` with a standard deviation of `amplitude`."""
        field = np.zeros(points.shape[1:], dtype=np.float32)
        for _ in range(_NUM_WAVES):
            direction = self.generator.standard_normal(3)
            factor = self.generator.uniform(0.7, 1.4)
            direction *= 2 * np.pi / (wavelength * factor * np.linalg.norm(direction))
            phase = np.float32(self.generator.uniform(0, 2 * np.pi))
            field += np.sin(np.tensordot(direction.astype(np.float32), points, axes=1) + phase)
        return field * np.float32(amplitude * np.sqrt(2 / _NUM_WAVES))

    def _vary(self, blob: _Blob, shift: float = 4.0, stretch: float = 0.1) -> _Blob:
        """Return this patient's version of an organ.

        Its centre moves by at most `shift` mm along each axis, and each radius changes by at most
        the share `stretch`.
        """
        centre = np.array(blob.centre) + self.generator.uniform(-shift, shift, 3)
        radii = np.array(blob.radii) * self.generator.uniform(1 - stretch, 1 + stretch, 3)
        return _Blob(tuple(centre), tuple(radii))

    def _radius(self, blob: _Blob, tilt: float = 10.0, bumps: float = 0.07) -> np.ndarray:
        """Return the distance from a blob's centre, `(Z, Y, X)`, which is 1 at its surface."""
        centre = np.array(blob.centre, dtype=np.float32)[:, None, None, None]
        rotation = draw_rotation(self.generator, tilt).astype(np.float32)
        local = np.tensordot(rotation, self.points - centre, axes=1)
        squares = sum((local[axis] / np.float32(blob.radii[axis])) ** 2 for axis in range(3))
        return np.sqrt(squares) * (1 + self._waves(local, wavelength=55.0, amplitude=bumps))

    def _tube(self, x: float, y: float, radii: tuple[float, float], bend: float) -> np.ndarray:
        """As `_radius`, for an elliptic tube along z whose axis sways by about `bend` mm."""
        z = self.points[2]
        phase = self.generator.uniform(0, 2 * np.pi, 2)
        across = (self.points[0] - x - bend * np.sin(z / 40 + phase[0])) / radii[0]
        along = (self.points[1] - y - bend * np.sin(z / 55 + phase[1])) / radii[1]
        return np.hypot(across, along)

    def _paint_wall(self) -> None:
        """Paint table, skin, fat, muscle and ribs, and the fat that the organs lie in."""
        x, y, z = self.points
        from_table = np.abs(self.unbent[1] + _HALF_DEPTH * 1.1 + 7 - 0.0016 * self.unbent[0] ** 2)
        self._paint((from_table < 4) & (np.abs(self.unbent[0]) < 90), -60, texture=20)
        fat_depth = self.generator.uniform(6, 14)
        self._paint(self._deeper_than(0), 15)
        self._paint(self._deeper_than(2), FAT, texture=8)
        self._paint(self._deeper_than(fat_depth), MUSCLE, texture=7)
        slanted = np.sin((z + 0.5 * y + self.generator.uniform(0, 30)) * (2 * np.pi / 30))
        rib_layer = self._deeper_than(fat_depth + 1.5) & ~self._deeper_than(fat_depth + 6)
        ribs = rib_layer & (slanted > 0.1) & (np.abs(x) > 35) & (z > -25)
        self._paint(ribs, self.generator.uniform(330, 450), texture=60)
        self.cavity = self._deeper_than(fat_depth + 8)
        self._paint(self.cavity, FAT + 6, texture=16)

    def _deeper_than(self, depth: float) -> np.ndarray:
        """Return the mask `(Z, Y, X)` of the points more than `depth` mm below the skin."""
        x, y, _ = self.points
        half_width, half_depth = _HALF_WIDTH - depth, _HALF_DEPTH - depth
        return np.abs(x / half_width) ** 2.4 + np.abs(y / half_depth) ** 2.4 < 1

    def _paint_bowel(self) -> None:
        for _ in range(11):
            x = float(self.generator.uniform(-62, 62))
            y = float(self.generator.uniform(-4, 44))
            z = float(self.generator.uniform(-75, 5))
            loop = _Blob((x, y, z), tuple(self.generator.uniform(10, 19, 3)))
            radius = self._radius(loop, tilt=60)
            self._paint((radius < 1) & self.cavity, self.generator.uniform(40, 75), texture=6)
            holds_gas = self.generator.uniform() < 0.25
            content = -750 if holds_gas else self.generator.uniform(15, 45)
            self._paint((radius < 0.75) & self.cavity, content, texture=12)

    def _paint_stomach(self) -> None:
        radius = self._radius(self._vary(_STOMACH, shift=6, stretch=0.18))
        self._paint((radius < 1) & self.cavity, 60)
        lumen = (radius < 0.84) & self.cavity
        self._paint(lumen, self.generator.uniform(5, 35), texture=10)
        # The patient lies on the back, so gas rises to the front and has a level surface.
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
        self._paint((radius < 1.08) & self.cavity, FAT, texture=10)
        value = 45 + 68 * self.contrast + self.generator.normal(0, 4)
        self._paint((radius < 1) & self.cavity, value, "spleen", texture=5)

    def _paint_kidneys(self) -> None:
        """Paint both kidneys with one shape and one density: only their position differs."""
        right, hilum = self._vary(_RIGHT_KIDNEY), self._vary(_RIGHT_HILUM, shift=1.5)
        value = 45 + 112 * self.contrast
        sides = (
            ("right_kidney", right, hilum),
            ("left_kidney", right.mirrored(), hilum.mirrored()),
        )
        for name, kidney, notch in sides:
            radius = self._radius(self._vary(kidney, shift=3, stretch=0.04), bumps=0.05)
            self._paint((radius < 1.15) & self.cavity, FAT, texture=10)
            bean = (radius < 1) & (self._radius(notch, tilt=5) > 1) & self.cavity
            self._paint(bean, value + 15, name, texture=6)
            self._paint(bean & (radius < 0.62), value - 22, name, texture=8)

    def _paint_back(self) -> None:
        """Paint muscles along the spine, vertebrae with their canal, and discs between them."""
        for side in (-1, 1):
            self._paint(self._tube(side * 24, -50, (21, 12), bend=1) < 1, MUSCLE, texture=7)
            psoas = self._tube(side * 24, -30, (10, 11), bend=1) < 1
            self._paint(psoas & (self.points[2] < 15), MUSCLE, texture=7)
        period = np.sin(self.points[2] * (2 * np.pi / 33) + self.generator.uniform(0, 2 * np.pi))
        body = self._tube(0, -30, (17, 14), bend=0.5)
        arch = self._tube(0, -47, (11, 9), bend=0.5)
        spinous_process = self._tube(0, -56, (3.5, 11), bend=0.5)
        self._paint(np.minimum(arch, spinous_process) < 1, 380, texture=50)
        self._paint(body < 1, 480, texture=50)
        self._paint(body < 0.82, 190, texture=35)
        self._paint((body < 1) & (period > 0.82), 75, texture=8)
        self._paint(self._tube(0, -46.5, (7, 6), bend=0.5) < 1, 25)

    def _paint_vessels(self) -> None:
        """Paint the aorta, left of the middle, and next to it a vein that has no label."""
        vein = self._tube(15 + self.generator.uniform(-3, 3), -9, (9, 7), bend=2)
        self._paint(vein < 1, 45 + 80 * self.contrast, texture=5)
        width = self.generator.uniform(7.0, 10.0)
        aorta = self._tube(-7 + self.generator.uniform(-3, 3), -7, (width, width), bend=2.5)
        self._paint(aorta < 1.25, FAT + 20, texture=8)
        self._paint(aorta < 1, 45 + 145 * self.contrast, "aorta", texture=5)
