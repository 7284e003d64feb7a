"""What a fingerprint holds."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from samnet.core.errors import UserError
from samnet.core.files import read_json, write_json_rows
from samnet.core.records import INLINE, from_json, to_json
from samnet.dataset.images import is_2d_image
from samnet.dataset.label_scheme import LabelScheme

SCHEMA_VERSION = 4
# Version 2 took all spacings for mm, version 3 knew nothing of blank voxels. Plans made from them
# are still trained; data are measured again.
_READABLE_VERSIONS = (2, 3, SCHEMA_VERSION)
PERCENTILES = (0.5, 5.0, 50.0, 95.0, 99.5)
SHAPE_PERCENTILES = tuple(range(0, 101, 5))


@dataclass(frozen=True)
class ChannelStatistics:
    """Intensities of one channel of one case.

    Attributes:
        minimum: Lowest intensity of all voxels.
        maximum: Highest intensity of all voxels.
        whole_numbers: Whether every intensity is a whole number.
        nonzero: Percentiles (`PERCENTILES`) of the voxels that are not 0.
        foreground: Percentiles of the labelled voxels, or None where nothing is labelled.
    """

    minimum: float
    maximum: float
    whole_numbers: bool
    nonzero: tuple[float, ...]
    foreground: tuple[float, ...] | None


@dataclass(frozen=True)
class BlankVoxels:
    """How much of a case is blank, see `samnet.core.field_of_view`.

    Labelled voxels count in slices across all three axes. For them twice the range is blank, so
    that labels nearly as dark are noticed too.

    Attributes:
        share: Share of the blank voxels.
        labelled: The largest share of the voxels of a class or region that lie amid blank ones.
        outside: Number of labelled voxels outside the field of view.
    """

    share: float
    labelled: float
    outside: int


@dataclass(frozen=True)
class ClassStatistics:
    """One class or region in one case.

    Attributes:
        voxels: Number of its voxels.
        components: Number of its connected components in 3D.
        slices: Number of slices that show it, across `(Z, Y, X)`.
    """

    voxels: int
    components: int
    slices: tuple[int, int, int]


@dataclass(frozen=True)
class ShapeStatistics:
    """The size of one class in slices across one canonical axis, over all cases.

    Up to 32 evenly chosen slices of each case that show the class count. Both tuples hold
    percentiles (`SHAPE_PERCENTILES`) and are empty for a class that never occurs.

    Attributes:
        diameters: In mm, of a disc with the area of a slice's typical component (area-weighted
            median over components).
        thicknesses: The largest inscribed width of that component in mm.
    """

    diameters: tuple[float, ...]
    thicknesses: tuple[float, ...]


@dataclass(frozen=True)
class CaseFingerprint:
    """The statistics of one case.

    Attributes:
        shape: Canonical shape `(Z, Y, X)` in voxels.
        spacing: Canonical spacing `(Z, Y, X)` in mm; 1 for 2D images, which are taken by pixels.
        cropped_shape: Shape `(Z, Y, X)` without the empty margins that preprocessing cuts off.
        channels: Intensities, in channel order.
        classes: Classes or regions by name.
        labelled_slices: Number of slices with any foreground, across `(Z, Y, X)`.
        has_spacing: Whether the files state their spacing.
        blank: Its blank voxels; None in fingerprints of older versions.
    """

    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    cropped_shape: tuple[int, int, int]
    channels: tuple[ChannelStatistics, ...]
    classes: dict[str, ClassStatistics]
    labelled_slices: tuple[int, int, int]
    has_spacing: bool = True
    blank: BlankVoxels | None = None


@dataclass(frozen=True)
class Fingerprint:
    """Everything that the planner knows of a data set.

    Attributes:
        schema_version: Version of the file's form.
        dataset_name: `DatasetXXX_Name`.
        data_key: Hash that changes with the names and contents of the raw files.
        channel_names: Names of the image channels.
        label_scheme: The classes or regions, and the ignore label.
        file_ending: Ending of the images.
        patient_key: As declared in `dataset.json`, or None.
        foreground: For each channel the percentiles (`PERCENTILES`) of all labelled voxels; every
            case has the same weight.
        shapes: For each class or region its sizes in slices across the axes `(Z, Y, X)`.
        cases: The cases by name.
        num_unlabelled: Number of cases in `imagesUn`, which are not measured.
    """

    schema_version: int
    dataset_name: str
    data_key: str
    channel_names: tuple[str, ...]
    label_scheme: LabelScheme = field(metadata=INLINE)
    file_ending: str
    patient_key: str | None
    foreground: tuple[tuple[float, ...], ...]
    shapes: dict[str, tuple[ShapeStatistics, ...]]
    cases: dict[str, CaseFingerprint]
    num_unlabelled: int = 0

    @property
    def is_2d(self) -> bool:
        """Whether the data are 2D images whose spacing says nothing."""
        num_slices = max(case.shape[0] for case in self.cases.values())
        return is_2d_image(self.file_ending, num_slices)

    @property
    def unit(self) -> str:
        """The unit of lengths: `mm`, or `pixels` (2D images) or `voxels` where none is known."""
        if self.is_2d:
            return "pixels"
        is_known = all(case.has_spacing for case in self.cases.values())
        return "mm" if is_known else "voxels"

    @property
    def median_spacing(self) -> tuple[float, float, float]:
        """Median spacing over cases, in mm along the canonical `(Z, Y, X)`."""
        z, y, x = np.median([case.spacing for case in self.cases.values()], axis=0)
        return float(z), float(y), float(x)

    @property
    def labelled_part(self) -> float | None:
        """The part of the volume in which foreground lies; None where nothing is labelled.

        It is the share of the slices across each axis that shows any foreground, multiplied over
        the axes; the median over the cases that have some.
        """
        parts = [
            float(np.prod(np.array(case.labelled_slices) / case.shape))
            for case in self.cases.values()
            if any(case.labelled_slices)
        ]
        return float(np.median(parts)) if parts else None

    def labelled_slices(self, axis: int) -> int:
        """Count the slices with any foreground, over all cases.

        Args:
            axis: The canonical axis across which the slices lie.

        Returns:
            Their number.
        """
        return sum(case.labelled_slices[axis] for case in self.cases.values())

    def diameter(self, name: str, axis: int, percentile: float) -> float | None:
        """Return a percentile of the in-plane diameters of a class.

        Args:
            name: The class or region.
            axis: The canonical axis across which the slices lie.
            percentile: From 0 to 100.

        Returns:
            The diameter in mm; None for a class that never occurs.
        """
        return _percentile(self.shapes[name][axis].diameters, percentile)

    def thickness(self, name: str, axis: int, percentile: float) -> float | None:
        """Return a percentile of the in-plane inscribed widths of a class.

        Args:
            name: The class or region.
            axis: The canonical axis across which the slices lie.
            percentile: From 0 to 100.

        Returns:
            The width in mm; None for a class that never occurs.
        """
        return _percentile(self.shapes[name][axis].thicknesses, percentile)

    def save(self, path: Path) -> None:
        """Write the fingerprint as JSON, with each case, and the shapes of each class, on one line.

        Args:
            path: The file.
        """
        write_json_rows(path, to_json(self))

    @classmethod
    def load(cls, path: Path) -> Fingerprint:
        """Read a fingerprint.

        Args:
            path: The file.

        Returns:
            Its content.

        Raises:
            UserError: The file is missing, of another schema version, or damaged.
        """
        content = read_json(path)
        if not isinstance(content, dict) or content.get("schema_version") not in _READABLE_VERSIONS:
            raise UserError(
                f"{path}: written by another version of samnet; run samnet_extract_fingerprint "
                "again"
            )
        return from_json(cls, content, str(path))


def _percentile(table: tuple[float, ...], percentile: float) -> float | None:
    return float(np.interp(percentile, SHAPE_PERCENTILES, table)) if table else None
