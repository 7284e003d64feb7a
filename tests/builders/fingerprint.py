"""Fingerprints of data sets that need not exist."""

from __future__ import annotations

from samnet.dataset.label_scheme import LabelScheme
from samnet.fingerprint.records import (
    SCHEMA_VERSION,
    SHAPE_PERCENTILES,
    BlankVoxels,
    CaseFingerprint,
    ChannelStatistics,
    ClassStatistics,
    Fingerprint,
    ShapeStatistics,
)


def make_fingerprint(
    shape: tuple[int, int, int] = (40, 200, 160),
    spacing: tuple[float, float, float] = (3.0, 1.0, 1.0),
    channels: tuple[str, ...] = ("MRI",),
    diameters: dict[str, float] | None = None,
    thickness: float | None = None,
    values: tuple[float, float] = (0.0, 1000.0),
    foreground: tuple[float, float] | None = (100.0, 300.0),
    whole_numbers: bool = True,
    labelled_slices: int | tuple[int, int, int] = 20,
    case_names: tuple[str, ...] = ("a", "b", "c", "d", "e", "f"),
    file_ending: str = ".nii.gz",
    patient_key: str | None = None,
    shapes: tuple[tuple[int, int, int], ...] = (),
    blank: BlankVoxels | None = None,
) -> Fingerprint:
    """Return the fingerprint of a data set whose cases are alike.

    Args:
        shape: Of every case, `(Z, Y, X)` in voxels.
        spacing: Of every case, `(Z, Y, X)` in mm.
        channels: Names of the image channels.
        diameters: In mm, by class; None for a class that never occurs.
        thickness: Of every class in mm; its diameter where it is None.
        values: Smallest and largest intensity.
        foreground: Lowest and highest percentile of the labelled voxels; None where nothing is
            labelled.
        whole_numbers: Whether all intensities are whole numbers.
        labelled_slices: Of each case across every axis. A single number is that across its shortest
            axis, while all slices across the other axes are labelled.
        case_names: Names of the cases.
        file_ending: Ending of the images.
        patient_key: As declared in `dataset.json`.
        shapes: Shapes of the cases, where they differ; used in turn.
        blank: The blank voxels of every case; None where they were not measured.

    Returns:
        The fingerprint.
    """
    diameters = {"organ": 40.0} if diameters is None else diameters
    percentiles = None if foreground is None else _percentiles(*foreground)
    channel = ChannelStatistics(*values, whole_numbers, _percentiles(*values), percentiles)

    def case(shape: tuple[int, int, int]) -> CaseFingerprint:
        slices = _labelled(labelled_slices, shape)
        return CaseFingerprint(
            shape=shape,
            spacing=spacing,
            cropped_shape=shape,
            channels=(channel,) * len(channels),
            classes={name: _class(diameter, slices) for name, diameter in diameters.items()},
            labelled_slices=slices,
            blank=blank,
        )

    shapes = shapes or (shape,)
    labels = {"background": 0} | {name: value for value, name in enumerate(diameters, 1)}
    cases = {name: case(shapes[index % len(shapes)]) for index, name in enumerate(case_names)}
    return Fingerprint(
        schema_version=SCHEMA_VERSION,
        dataset_name="Dataset500_Synthetic",
        data_key="key",
        channel_names=channels,
        label_scheme=LabelScheme(labels),
        file_ending=file_ending,
        patient_key=patient_key,
        foreground=(percentiles or (0.0,) * 5,) * len(channels),
        shapes={name: (_shape(diameter, thickness),) * 3 for name, diameter in diameters.items()},
        cases=cases,
    )


def _percentiles(low: float, high: float) -> tuple[float, ...]:
    return tuple(low + (high - low) * share for share in (0.0, 0.05, 0.5, 0.95, 1.0))


def _labelled(
    slices: int | tuple[int, int, int], shape: tuple[int, int, int]
) -> tuple[int, int, int]:
    if isinstance(slices, tuple):
        return slices
    if not slices:
        return 0, 0, 0
    counts = list(shape)
    counts[shape.index(min(shape))] = slices
    z, y, x = counts
    return z, y, x


def _class(diameter: float | None, slices: tuple[int, int, int]) -> ClassStatistics:
    if diameter is None:
        return ClassStatistics(0, 0, (0, 0, 0))
    return ClassStatistics(10_000, 1, slices)


def _shape(diameter: float | None, thickness: float | None) -> ShapeStatistics:
    if diameter is None:
        return ShapeStatistics((), ())
    points = len(SHAPE_PERCENTILES)
    return ShapeStatistics((diameter,) * points, (thickness or diameter,) * points)
