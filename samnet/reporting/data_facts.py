"""The training data of a model in a few numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from samnet.core.geometry import Grid, spacing_affine
from samnet.core.units import show_length
from samnet.dataset.splits import patient_of
from samnet.evaluation.volumes import common_unit, volume_unit, voxel_volume
from samnet.fingerprint.records import Fingerprint
from samnet.reporting.numbers import UNKNOWN, show_size


@dataclass(frozen=True)
class ClassFacts:
    """One class or region in the training data.

    Attributes:
        name: Its name.
        num_cases: In how many cases it occurs.
        median: Its median volume there.
        lowest: Its smallest volume there.
        highest: Its largest volume there.
    """

    name: str
    num_cases: int
    median: str
    lowest: str
    highest: str


@dataclass(frozen=True)
class DataFacts:
    """What a report says of the training data.

    Attributes:
        facts: Name of a fact -> the fact.
        classes: The classes or regions.
        unit: The unit of their volumes.
    """

    facts: dict[str, str]
    classes: tuple[ClassFacts, ...]
    unit: str


def describe_data(fingerprint: Fingerprint, unit: str, patient_key: str | None = None) -> DataFacts:
    """Summarise a fingerprint.

    Args:
        fingerprint: The statistics of the data.
        unit: The unit of volumes: `mL`, `mm2`, `pixels` or `voxels`.
        patient_key: How the plan finds the patient in the name of a case; None where every case is
            a patient.
    """
    cases = fingerprint.cases
    patients = {patient_of(name, patient_key) for name in cases}
    facts = {
        "Cases": f"{len(cases):,}",
        "Patients": f"{len(patients):,}" if patient_key else "one for each case",
        "Channels": ", ".join(fingerprint.channel_names),
        "Size in voxels": _show_ranges([case.shape for case in cases.values()], str),
    }
    if fingerprint.is_2d:
        shapes = [case.shape[1:] for case in cases.values()]
        facts["Size in pixels"] = _show_ranges(shapes, str)
        del facts["Size in voxels"]
    elif fingerprint.unit == "mm":
        spacings = [case.spacing for case in cases.values()]
        facts["Spacing in mm"] = _show_ranges(spacings, lambda length: show_length(length, 2))
    else:
        facts["Spacing"] = "not stated in the files"
    if not fingerprint.is_2d:
        facts["Order of the axes"] = "head-feet × front-back × left-right"  # noqa: RUF001
    names = fingerprint.label_scheme.class_names
    classes = tuple(_describe_class(fingerprint, name, unit) for name in names)
    return DataFacts(facts, classes, unit)


def grid_of(fingerprint: Fingerprint, name: str) -> Grid:
    """Return the grid of a case, without its position.

    Args:
        fingerprint: The statistics of the data.
        name: The case.
    """
    case = fingerprint.cases[name]
    has_spacing = case.has_spacing and not fingerprint.is_2d
    return Grid(case.shape, spacing_affine(case.spacing), has_spacing, fingerprint.is_2d)


def unit_of_volumes(fingerprint: Fingerprint) -> str:
    """Return the unit in which the volumes of all cases can be compared.

    Args:
        fingerprint: The statistics of the data.
    """
    return common_unit([volume_unit(grid_of(fingerprint, name)) for name in fingerprint.cases])


def volume_of_voxel(fingerprint: Fingerprint, name: str, unit: str) -> float:
    """Return the volume of a voxel of a case.

    Args:
        fingerprint: The statistics of the data.
        name: The case.
        unit: The unit of the volume.
    """
    grid = grid_of(fingerprint, name)
    return voxel_volume(grid.shape, grid.spacing, unit)


def _describe_class(fingerprint: Fingerprint, name: str, unit: str) -> ClassFacts:
    volumes = []
    for case_name, case in fingerprint.cases.items():
        statistics = case.classes.get(name)
        if statistics is not None and statistics.voxels:
            voxel = volume_of_voxel(fingerprint, case_name, unit)
            volumes.append(statistics.voxels * voxel)
    if not volumes:
        return ClassFacts(name, 0, UNKNOWN, UNKNOWN, UNKNOWN)
    numbers = (float(np.median(volumes)), min(volumes), max(volumes))
    median, lowest, highest = map(show_size, numbers)
    return ClassFacts(name, len(volumes), median, lowest, highest)


def _show_ranges(rows: Iterable[Sequence[float]], show: Callable[[float], str]) -> str:
    """Return the range along each axis, such as `26 to 47 x 40 to 58`."""
    ranges = []
    for column in zip(*rows, strict=True):
        low, high = show(min(column)), show(max(column))
        ranges.append(low if low == high else f"{low} to {high}")
    return " × ".join(ranges)  # noqa: RUF001
