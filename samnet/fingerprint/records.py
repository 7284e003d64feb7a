"""What a fingerprint holds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from samnet.core.errors import UserError
from samnet.core.files import read_json, write_json_rows
from samnet.core.records import from_json, to_json
from samnet.dataset.images import is_2d_image
from samnet.dataset.label_scheme import Label, Labelled

SCHEMA_VERSION = 2
PERCENTILES = (0.5, 5.0, 50.0, 95.0, 99.5)
SHAPE_PERCENTILES = tuple(range(0, 101, 5))


@dataclass(frozen=True)
class ChannelStatistics:
    """Intensities of one channel.

    minimum, maximum: over all voxels. whole_numbers: every value is one.
    nonzero: percentiles (`PERCENTILES`) of the voxels that are not 0.
    foreground: percentiles of the labelled voxels, or None where nothing is labelled.
    """

    minimum: float
    maximum: float
    whole_numbers: bool
    nonzero: tuple[float, ...]
    foreground: tuple[float, ...] | None


@dataclass(frozen=True)
class ClassStatistics:
    """One class or region in one case: its voxels, its components in 3D, and the number of slices that show it.

    slices: across `(Z, Y, X)`.
    """

    voxels: int
    components: int
    slices: tuple[int, int, int]


@dataclass(frozen=True)
class ShapeStatistics:
    """How one class looks in slices across one canonical axis: percentiles (`SHAPE_PERCENTILES`) over all cases.

    Up to 32 evenly chosen slices of each case that show the class count. Both are empty for a class that never occurs.

    diameters: in mm, of a disc with the area of a slice's typical component (area-weighted median over components).
    thicknesses: the largest inscribed width of that component in mm.
    """

    diameters: tuple[float, ...]
    thicknesses: tuple[float, ...]


@dataclass(frozen=True)
class CaseFingerprint:
    """One case: canonical shape and spacing `(Z, Y, X)`, channels in order, classes or regions by name.

    cropped_shape: without the empty margins that preprocessing cuts off.
    labelled_slices: slices with any foreground, across each axis.
    """

    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    cropped_shape: tuple[int, int, int]
    channels: tuple[ChannelStatistics, ...]
    classes: dict[str, ClassStatistics]
    labelled_slices: tuple[int, int, int]


@dataclass(frozen=True)
class Fingerprint(Labelled):
    """Everything the planner knows of a data set.

    labels, ignore_label, regions_class_order: see `Labelled`.
    data_key: changes with the names and contents of the raw files.
    shapes: of each class or region across the axes `(Z, Y, X)`.
    foreground: per channel the percentiles (`PERCENTILES`) of all labelled voxels, each case weighing the same.
    """

    schema_version: int
    dataset_name: str
    data_key: str
    channel_names: tuple[str, ...]
    labels: dict[str, Label]
    ignore_label: int | None
    file_ending: str
    patient_key: str | None
    foreground: tuple[tuple[float, ...], ...]
    shapes: dict[str, tuple[ShapeStatistics, ...]]
    cases: dict[str, CaseFingerprint]
    regions_class_order: tuple[int, ...] = ()

    @property
    def is_2d_image(self) -> bool:
        """Whether the data are 2D pictures whose spacing says nothing."""
        return is_2d_image(self.file_ending, max(case.shape[0] for case in self.cases.values()))

    @property
    def median_spacing(self) -> tuple[float, float, float]:
        """Median over cases, in mm along the canonical `(Z, Y, X)`."""
        z, y, x = np.median([case.spacing for case in self.cases.values()], axis=0)
        return float(z), float(y), float(x)

    @property
    def labelled_part(self) -> float | None:
        """The part of the volume in which foreground lies: of the slices across each axis the share that shows any,
        multiplied; median over the cases that have some. None where nothing is labelled."""
        parts = [
            float(np.prod(np.array(case.labelled_slices) / case.shape))
            for case in self.cases.values()
            if any(case.labelled_slices)
        ]
        return float(np.median(parts)) if parts else None

    def labelled_slices(self, axis: int) -> int:
        """Slices across `axis` with any foreground, over all cases."""
        return sum(case.labelled_slices[axis] for case in self.cases.values())

    def diameter(self, name: str, axis: int, percentile: float) -> float | None:
        """A percentile of a class' in-plane diameters in mm in slices across `axis`; None if it never occurs."""
        return _percentile(self.shapes[name][axis].diameters, percentile)

    def thickness(self, name: str, axis: int, percentile: float) -> float | None:
        """A percentile of a class' in-plane inscribed widths in mm in slices across `axis`; None if it never occurs."""
        return _percentile(self.shapes[name][axis].thicknesses, percentile)

    def save(self, path: Path) -> None:
        """Write it with a case, and a class' shapes, on one line each."""
        write_json_rows(path, to_json(self))

    @classmethod
    def load(cls, path: Path) -> Fingerprint:
        """Read a fingerprint.

        Raises:
            UserError: the file is missing, of another schema version, or damaged.
        """
        content = read_json(path)
        if not isinstance(content, dict) or content.get("schema_version") != SCHEMA_VERSION:
            raise UserError(
                f"{path}: written by another version of samnet; run samnet_extract_fingerprint again"
            )
        return from_json(cls, content, str(path))


def _percentile(table: tuple[float, ...], percentile: float) -> float | None:
    return float(np.interp(percentile, SHAPE_PERCENTILES, table)) if table else None
