"""The measurements of a folder of label maps, which need no reference."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from samnet.core.errors import SamnetError, UserError
from samnet.core.files import write_json, write_text
from samnet.core.tables import align_numbers
from samnet.core.worker_pool import run_jobs
from samnet.dataset.cases import Case, find_label_files, find_prediction_input
from samnet.dataset.description import DatasetDescription
from samnet.dataset.images import read_image, read_labels
from samnet.evaluation.measurements import (
    SHAPE_COLUMNS,
    Measured,
    intensity_columns,
    measure_label_map,
)
from samnet.evaluation.pairing import known_grid, value_faults
from samnet.evaluation.tables import UNKNOWN, show_volume
from samnet.evaluation.volumes import size_word, volume_unit

JSON_FILE = "measurements.json"
CSV_FILE = "measurements.csv"


@dataclass(frozen=True)
class CaseMeasurements:
    """The measurements of one case.

    Attributes:
        identifier: Name of the case.
        prediction_file: The label map.
        volume_unit: Unit of its volumes: `mL`, `mm2`, `pixels` or `voxels`.
        length_unit: Unit of its lengths and positions: `mm`, `pixels` or `voxels`.
        classes: Name of a class -> name of a measurement -> its value.
    """

    identifier: str
    prediction_file: Path
    volume_unit: str
    length_unit: str
    classes: dict[str, Measured]


@dataclass(frozen=True)
class FolderMeasurements:
    """The measurements of a folder.

    Attributes:
        cases: Those of each case, in the order of their names.
        channel_names: The channels whose intensities are measured.
        failed: Name of a case that could not be measured -> the reason.
    """

    cases: list[CaseMeasurements]
    channel_names: tuple[str, ...] = ()
    failed: dict[str, str] = field(default_factory=dict)

    def raise_if_failed(self) -> None:
        """Raise an error that names the cases that could not be measured, if there are any.

        Raises:
            SamnetError: A case could not be measured.
        """
        if not self.failed:
            return
        total = len(self.cases) + len(self.failed)
        lines = [f"  {name}: {reason}" for name, reason in self.failed.items()]
        raise SamnetError(
            "\n".join([f"{len(self.failed)} of {total} cases could not be measured:", *lines])
        )


def measure_folder(
    predictions: Path,
    description: DatasetDescription,
    output: Path,
    processes: int,
    images: Path | None = None,
) -> FolderMeasurements:
    """Measure every label map of a folder, and write `measurements.csv` and `measurements.json`.

    A case that cannot be measured does not stop the others. Nothing is written if none can be.

    Args:
        predictions: Folder of label maps.
        description: The data set, which declares the labels.
        output: Folder to write to.
        processes: Number of worker processes; 0 for none.
        images: Folder of the images, for intensities; None to measure none.

    Returns:
        The measurements.

    Raises:
        UserError: A folder does not exist, or has no label maps or images.
    """
    endings = description.label_map_endings
    files = find_label_files(predictions, endings)
    if not files:
        raise UserError(
            f"{predictions}: holds no {endings[0]} file, which is what dataset.json names as file "
            "ending"
        )
    failed: dict[str, str] = {}
    arguments: dict[str, tuple] = {}
    found = None if images is None else _images_by_name(images, description)
    for name, file in sorted(files.items()):
        image_files: Sequence[Path] = ()
        if found is not None:
            case = found.get(name)
            if case is None or case.fault is not None:
                failed[name] = _fault_of_image(file, images, case)
                continue
            image_files = case.image_files
        arguments[name] = (name, file, image_files, description)
    outcome = run_jobs(measure_case, arguments, processes, "measuring")
    channels = () if images is None else _distinct(description.channel_names)
    cases = [outcome.results[name] for name in sorted(outcome.results)]
    measured = FolderMeasurements(
        cases, channels, dict(sorted((failed | outcome.failures).items()))
    )
    if cases:
        _write_csv(measured, output / CSV_FILE)
        write_json(output / JSON_FILE, _as_json(measured))
    return measured


def _images_by_name(images: Path, description: DatasetDescription) -> Mapping[str, Case]:
    if not images.is_dir():
        raise UserError(f"{images}: no such folder")
    return {case.identifier: case for case in find_prediction_input(images, description).cases}


def _fault_of_image(file: Path, images: Path | None, case: Case | None) -> str:
    if case is not None and case.fault is not None:
        return case.fault
    return f"{file}: {images} has no image of that name; add it, or measure without -i"


def _distinct(channel_names: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the channels, with their numbers where two have the same name."""
    if len(set(channel_names)) == len(channel_names):
        return tuple(channel_names)
    return tuple(f"{name}_{number}" for number, name in enumerate(channel_names))


def measure_case(
    identifier: str, file: Path, image_files: Sequence[Path], description: DatasetDescription
) -> CaseMeasurements:
    """Measure one label map.

    Args:
        identifier: Name of the case.
        file: The label map.
        image_files: The files of its image; empty to measure no intensities.
        description: The data set.

    Returns:
        The measurements.

    Raises:
        UserError: A file cannot be read, the image lies on another grid, or there are labels that
            the data set does not declare.
    """
    labels = read_labels(file)
    faults = value_faults(file, labels, description.label_scheme.highest_value)
    if faults:
        raise UserError(faults[0])
    grid = labels.grid
    image: np.ndarray | None = None
    channels: tuple[str, ...] = ()
    if image_files:
        channels = _distinct(description.channel_names)
        read = read_image(image_files, len(channels))
        difference = grid.difference(read.grid)
        if difference is not None:
            raise UserError(f"{file}: {difference.describe(str(image_files[0]))}")
        if len(read.array) != len(channels):
            raise UserError(
                f"{image_files[0]}: has {len(read.array)} channels, dataset.json names "
                f"{len(channels)} ({', '.join(channels)})"
            )
        image, grid = read.array, known_grid(labels, read)
    classes = measure_label_map(labels.array[0], grid, description.label_scheme, image, channels)
    return CaseMeasurements(identifier, file, volume_unit(grid), grid.unit, classes)


def _write_csv(measured: FolderMeasurements, path: Path) -> None:
    """Write a row for each case and class. What is not known is an empty cell."""
    columns = [*SHAPE_COLUMNS, *intensity_columns(measured.channel_names)]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["case", "class", "volume_unit", "length_unit", *columns])
    for case in measured.cases:
        for name, values in case.classes.items():
            known = _without_nan(values)
            cells = ["" if known[column] is None else known[column] for column in columns]
            writer.writerow([case.identifier, name, case.volume_unit, case.length_unit, *cells])
    write_text(path, text.getvalue())


def _as_json(measured: FolderMeasurements) -> dict[str, Any]:
    cases = {}
    for case in measured.cases:
        classes = {name: _without_nan(values) for name, values in case.classes.items()}
        cases[case.identifier] = {
            "prediction_file": str(case.prediction_file),
            "volume_unit": case.volume_unit,
            "length_unit": case.length_unit,
            "classes": classes,
        }
    return {"cases": cases, "failed": measured.failed}


def _without_nan(values: Measured) -> dict[str, float | None]:
    return {name: None if math.isnan(value) else value for name, value in values.items()}


def format_measurements(measured: FolderMeasurements) -> str:
    """Return volumes and numbers of components over all cases as a table for the screen.

    Args:
        measured: The measurements of at least one case.

    Returns:
        Plain text with a row for each class; a table for each unit where cases differ in it.
    """
    units = sorted({case.volume_unit for case in measured.cases})
    return "\n\n".join(_table(measured.cases, unit) for unit in units)


def _table(cases: Sequence[CaseMeasurements], unit: str) -> str:
    """Return the table of the cases that are measured in a unit."""
    in_unit = [case.classes for case in cases if case.volume_unit == unit]
    rows = [["class", "cases", "median", "range", "components"]]
    for name in in_unit[0]:
        there = [classes[name] for classes in in_unit if classes[name]["voxels"]]
        volumes = [values["volume"] for values in there]
        if not there:
            rows.append([name, "0", UNKNOWN, UNKNOWN, UNKNOWN])
            continue
        spread = f"{show_volume(min(volumes), unit)} to {show_volume(max(volumes), unit)}"
        parts = sorted(int(values["components"]) for values in there)
        components = str(parts[0]) if parts[0] == parts[-1] else f"{parts[0]} to {parts[-1]}"
        median = show_volume(float(np.median(volumes)), unit)
        rows.append([name, str(len(there)), median, spread, components])
    return f"{size_word(unit)} ({unit})\n{align_numbers(rows, has_total=False)}"
