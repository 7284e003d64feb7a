from __future__ import annotations

from collections.abc import Callable

import pytest

from samnet.fingerprint.records import (
    SCHEMA_VERSION,
    SHAPE_PERCENTILES,
    CaseFingerprint,
    ChannelStatistics,
    ClassStatistics,
    Fingerprint,
    ShapeStatistics,
)


@pytest.fixture
def make_fingerprint() -> Callable[..., Fingerprint]:
    return made_fingerprint


def made_fingerprint(
    shape: tuple[int, int, int] = (40, 200, 160),
    spacing: tuple[float, float, float] = (3.0, 1.0, 1.0),
    channels: tuple[str, ...] = ("MRI",),
    diameters: dict[str, float] | None = None,
    thickness: float | None = None,
    values: tuple[float, float] = (0.0, 1000.0),
    foreground: tuple[float, float] | None = (100.0, 300.0),
    whole_numbers: bool = True,
    labelled_slices: int = 20,
    case_names: tuple[str, ...] = ("a", "b", "c", "d", "e", "f"),
    file_ending: str = ".nii.gz",
    patient_key: str | None = None,
    shapes: tuple[tuple[int, int, int], ...] = (),
) -> Fingerprint:
    """The fingerprint of a data set whose cases are alike.

    diameters: in mm, by class; None for a class that never occurs. thickness: of every class in mm; as the diameter
    without it. values: the smallest and largest intensity. foreground: its lowest and highest percentile, or None
    where nothing is labelled. labelled_slices: of each case across every axis. shapes: of the cases, where they differ.
    """
    diameters = {"organ": 40.0} if diameters is None else diameters
    percentiles = None if foreground is None else _percentiles(*foreground)
    channel = ChannelStatistics(*values, whole_numbers, _percentiles(*values), percentiles)
    classes = {name: _class(diameter, labelled_slices) for name, diameter in diameters.items()}
    cases = {
        name: CaseFingerprint(
            shape=shapes[index % len(shapes)] if shapes else shape,
            spacing=spacing,
            cropped_shape=shapes[index % len(shapes)] if shapes else shape,
            channels=(channel,) * len(channels),
            classes=classes,
            labelled_slices=(labelled_slices,) * 3,
        )
        for index, name in enumerate(case_names)
    }
    return Fingerprint(
        schema_version=SCHEMA_VERSION,
        dataset_name="Dataset500_Made",
        data_key="key",
        channel_names=channels,
        labels={"background": 0} | {name: value for value, name in enumerate(diameters, 1)},
        ignore_label=None,
        file_ending=file_ending,
        patient_key=patient_key,
        foreground=(percentiles or (0.0,) * 5,) * len(channels),
        shapes={name: (_shape(diameter, thickness),) * 3 for name, diameter in diameters.items()},
        cases=cases,
    )


def _percentiles(low: float, high: float) -> tuple[float, ...]:
    return tuple(low + (high - low) * share for share in (0.0, 0.05, 0.5, 0.95, 1.0))


def _class(diameter: float | None, slices: int) -> ClassStatistics:
    return ClassStatistics(0, 0, (0, 0, 0)) if diameter is None else ClassStatistics(10_000, 1, (slices,) * 3)


def _shape(diameter: float | None, thickness: float | None) -> ShapeStatistics:
    if diameter is None:
        return ShapeStatistics((), ())
    points = len(SHAPE_PERCENTILES)
    return ShapeStatistics((diameter,) * points, (thickness or diameter,) * points)
