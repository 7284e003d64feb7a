"""The made abdomen: tissues as smooth random shapes, painted one over the other at points in space.

Positions are millimetres around the middle of the body: x to the patient's right, y to the front, z to the head.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

LABELS = {"background": 0, "liver": 1, "spleen": 2, "left_kidney": 3, "right_kidney": 4, "aorta": 5}
AIR, FAT, MUSCLE = -1000.0, -100.0, 42.0


def draw_rotation(generator: np.random.Generator, degrees: float) -> np.ndarray:
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


class Abdomen:
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
        self.hounsfield = np.full(shape, AIR, dtype=np.float32)
        self.labels = np.zeros(shape, dtype=np.uint8)
        self.cavity = np.zeros(shape, dtype=bool)
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

    def _paint(
        self, mask: np.ndarray, hounsfield: float, label: str = "background", texture: float = 5.0
    ) -> None:
        """Fill `mask` with tissue; `texture` is the standard deviation of its inner variation in HU."""
        self.hounsfield[mask] = hounsfield + texture * self.texture[mask]
        self.labels[mask] = LABELS[label]

    def _waves(self, points: np.ndarray, wavelength: float, amplitude: float) -> np.ndarray:
        """A smooth random field `(Z, Y, X)` with a standard deviation of `amplitude`."""
        field = np.zeros(points.shape[1:], dtype=np.float32)
        number = 5
        for _ in range(number):
            direction = self.generator.standard_normal(3)
            direction *= (
                2
                * np.pi
                / (wavelength * self.generator.uniform(0.7, 1.4) * np.linalg.norm(direction))
            )
            phase = self.generator.uniform(0, 2 * np.pi)
            field += np.sin(
                np.tensordot(direction.astype(np.float32), points, axes=1) + np.float32(phase)
            )
        return field * np.float32(amplitude * np.sqrt(2 / number))

    def _vary(self, blob: _Blob, shift: float = 4.0, stretch: float = 0.1) -> _Blob:
        """Another patient's version of an organ: moved by some mm, and each radius changed by a share of itself."""
        centre = np.array(blob.centre) + self.generator.uniform(-shift, shift, 3)
        radii = np.array(blob.radii) * self.generator.uniform(1 - stretch, 1 + stretch, 3)
        return _Blob(tuple(centre), tuple(radii))

    def _radius(self, blob: _Blob, tilt: float = 10.0, bumps: float = 0.07) -> np.ndarray:
        """Distance from the blob's centre `(Z, Y, X)` in units of its surface: below 1 inside."""
        centre = np.array(blob.centre, dtype=np.float32)[:, None, None, None]
        local = np.tensordot(
            draw_rotation(self.generator, tilt).astype(np.float32), self.points - centre, axes=1
        )
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
        self._paint((table < 4) & (np.abs(self.unbent[0]) < 90), -60, texture=20)
        rim = self.generator.uniform(6, 14)

        def inside(depth: float) -> np.ndarray:
            a, b = half_width - depth, half_depth - depth
            return np.abs(x / a) ** 2.4 + np.abs(y / b) ** 2.4 < 1

        self._paint(inside(0), 15)
        self._paint(inside(2), FAT, texture=8)
        self._paint(inside(rim), MUSCLE, texture=7)
        slanted = np.sin((z + 0.5 * y + self.generator.uniform(0, 30)) * (2 * np.pi / 30))
        ribs = inside(rim + 1.5) & ~inside(rim + 6) & (slanted > 0.1) & (np.abs(x) > 35) & (z > -25)
        self._paint(ribs, self.generator.uniform(330, 450), texture=60)
        self.cavity = inside(rim + 8)
        self._paint(self.cavity, FAT + 6, texture=16)

    def _paint_bowel(self) -> None:
        for _ in range(11):
            x, y, z = (
                float(self.generator.uniform(*span)) for span in ((-62, 62), (-4, 44), (-75, 5))
            )
            radius = self._radius(
                _Blob((x, y, z), tuple(self.generator.uniform(10, 19, 3))), tilt=60
            )
            self._paint((radius < 1) & self.cavity, self.generator.uniform(40, 75), texture=6)
            gas = self.generator.uniform() < 0.25
            self._paint(
                (radius < 0.75) & self.cavity,
                -750 if gas else self.generator.uniform(15, 45),
                texture=12,
            )

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
        self._paint((radius < 1.08) & self.cavity, FAT, texture=10)
        value = 45 + 68 * self.contrast + self.generator.normal(0, 4)
        self._paint((radius < 1) & self.cavity, value, "spleen", texture=5)

    def _paint_kidneys(self) -> None:
        """One shape and one density for both sides: only their place tells them apart."""
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
        """Muscles along the spine, vertebrae with their canal, and discs between them."""
        for side in (-1, 1):
            self._paint(self._tube(side * 24, -50, (21, 12), bend=1) < 1, MUSCLE, texture=7)
            self._paint(
                (self._tube(side * 24, -30, (10, 11), bend=1) < 1) & (self.points[2] < 15),
                MUSCLE,
                texture=7,
            )
        period = np.sin(self.points[2] * (2 * np.pi / 33) + self.generator.uniform(0, 2 * np.pi))
        body = self._tube(0, -30, (17, 14), bend=0.5)
        arch = np.minimum(
            self._tube(0, -47, (11, 9), bend=0.5), self._tube(0, -56, (3.5, 11), bend=0.5)
        )
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
        self._paint(aorta < 1.25, FAT + 20, texture=8)
        self._paint(aorta < 1, 45 + 145 * self.contrast, "aorta", texture=5)
