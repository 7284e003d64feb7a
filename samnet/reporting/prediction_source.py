"""A report about a folder of predictions, with or without references."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from samnet.confidence.calibration import Expectation
from samnet.confidence.files import read_confidence
from samnet.core.errors import UserError
from samnet.core.worker_pool import run_jobs
from samnet.dataset.cases import Case, find_label_files, find_prediction_cases
from samnet.dataset.description import DatasetDescription
from samnet.dataset.label_scheme import Label
from samnet.evaluation.evaluator import SUMMARY_FILE, EvaluationIncomplete, evaluate_folder
from samnet.evaluation.measure_folder import CaseMeasurements, measure_case
from samnet.evaluation.summary import names_of_classes
from samnet.evaluation.summary_files import read_summary
from samnet.evaluation.volumes import common_unit
from samnet.inference.warning_file import read_warnings
from samnet.reporting.source import (
    ClassResult,
    ReportedCase,
    Source,
    existing_reference,
    note_missing_references,
    results_of,
)


@dataclass(frozen=True)
class PredictionFolders:
    """Where predictions and what belongs to them lie.

    Attributes:
        predictions: Folder of the predicted label maps.
        images: Folder of their images.
        references: Folder of the true label maps, or None.
    """

    predictions: Path
    images: Path
    references: Path | None = None


def read_predictions(
    folders: PredictionFolders, description: DatasetDescription, processes: int
) -> Source:
    """Collect what a report says about a folder of predictions.

    With references the predictions are scored. Without, scores that lie in the folder are shown;
    else the volumes alone.

    Args:
        folders: Where the files lie.
        description: Channels and labels.
        processes: Number of worker processes; 0 for none.

    Returns:
        The source of the report.

    Raises:
        UserError: A folder does not exist or has no label maps.
        DatasetFaults: A prediction does not fit its reference.
    """
    predictions = _find_label_maps(folders.predictions, description)
    images, notes = _find_images(folders.images, description)
    summary = _find_scores(folders, description, processes)
    scored: dict[str, Any] = {}
    if summary is not None:
        scored = {entry["case"]: entry for entry in summary["metric_per_case"]}
    unscored = {name: file for name, file in predictions.items() if name not in scored}
    arguments = {name: (name, file, (), description) for name, file in unscored.items()}
    measured = run_jobs(measure_case, arguments, processes, "measuring")
    unit = common_unit([entry.volume_unit for entry in measured.results.values()])
    names: dict[Label, str] = {}
    if summary is not None:
        unit = summary["volume_unit"]
        names = names_of_classes(summary)
    failed = measured.failures | ({} if summary is None else summary["failed"])
    notes += [f"{name} has no results: {why}." for name, why in sorted(failed.items())]
    warnings = read_warnings(folders.predictions)
    confidence = read_confidence(folders.predictions)
    cases = []
    for name, file in sorted(predictions.items()):
        results: dict[str, ClassResult] = {}
        if name in scored:
            results = results_of(scored[name]["metrics"], names, None)
        elif name in measured.results:
            results = _unscored(measured.results[name], unit)
        expected = confidence.get(name, {})
        cases.append(
            ReportedCase(
                identifier=name,
                image=images.get(name),
                prediction=file,
                reference=existing_reference(scored[name]) if name in scored else None,
                results=_with_expectations(results, expected),
                warnings=(*warnings.get(name, ()), *_doubts(expected)),
            )
        )
    return Source(
        title=f"Predictions in {folders.predictions.absolute().name}",
        subject=f"the predictions in {folders.predictions}",
        description=description,
        cases=tuple(cases),
        volume_unit=unit,
        summary=summary,
        notes=(*notes, *note_missing_references(cases)),
    )


def _find_label_maps(folder: Path, description: DatasetDescription) -> dict[str, Path]:
    found = find_label_files(folder, description.label_map_endings)
    if not found:
        endings = ", ".join(description.label_map_endings)
        raise UserError(f"{folder}: holds no label map, that is no file ending in {endings}")
    return found


def _find_images(
    folder: Path, description: DatasetDescription
) -> tuple[dict[str, Case], list[str]]:
    """Return name of a case -> its files, and notes about those that cannot be used."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    try:
        cases = find_prediction_cases(folder, description)
    except UserError as error:
        return {}, [f"No image is shown: {error}"]
    notes = [case.fault for case in cases if case.fault is not None]
    return {case.identifier: case for case in cases if case.fault is None}, notes


def _find_scores(
    folders: PredictionFolders, description: DatasetDescription, processes: int
) -> dict[str, Any] | None:
    """Score the predictions, or read the scores that are there; None for none of both."""
    if folders.references is None:
        file = folders.predictions / SUMMARY_FILE
        found = read_summary(file) if file.is_file() else {}
        # Those of nnU-Net do not name the classes, and those of older versions lack the intervals.
        return found if "volume_unit" in found else None
    with tempfile.TemporaryDirectory() as folder:
        try:
            summary = evaluate_folder(
                folders.predictions,
                folders.references,
                description,
                Path(folder),
                processes,
                skip_missing=True,
            )
        except EvaluationIncomplete as error:
            summary = error.summary
    return summary if summary["metric_per_case"] else None


def _with_expectations(
    results: Mapping[str, ClassResult], expected: Mapping[str, Expectation]
) -> dict[str, ClassResult]:
    return {name: replace(entry, expected=expected.get(name)) for name, entry in results.items()}


def _doubts(expected: Mapping[str, Expectation]) -> list[str]:
    """Return why somebody should look at a case."""
    return [f"{name}: {entry.reason}" for name, entry in expected.items() if entry.is_doubtful]


def _unscored(measured: CaseMeasurements, unit: str) -> dict[str, ClassResult]:
    """Return the volumes of a case in a unit that is its own or counts voxels."""
    size = "volume" if unit == measured.volume_unit else "voxels"
    results = {}
    for name, values in measured.classes.items():
        results[name] = ClassResult(predicted=values[size], parts=values["components"])
    return results
