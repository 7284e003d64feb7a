"""A report about a trained model: the held-out cases of its folds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samnet.core.errors import UserError
from samnet.dataset.cases import Case, RawDataset
from samnet.dataset.dataset_folder import DatasetFolder
from samnet.evaluation.evaluator import INCOMPLETE_SUMMARY_FILE, SUMMARY_FILE
from samnet.evaluation.summary import names_of_classes
from samnet.evaluation.summary_files import read_summary
from samnet.evaluation.volumes import VOXELS
from samnet.fingerprint.records import Fingerprint
from samnet.inference.warning_file import read_warnings
from samnet.models.model_folder import ALL_CASES, ModelFolder, RunFolder
from samnet.plan.plan import Plan, decisions_key
from samnet.postprocessing.model_rules import describe_outdated
from samnet.postprocessing.rules import load_postprocessing
from samnet.reporting.data_facts import unit_of_volumes, volume_of_voxel
from samnet.reporting.source import (
    ReportedCase,
    Source,
    existing_reference,
    note_missing_references,
    results_of,
)
from samnet.selection.cross_validation import merge_summaries


@dataclass(frozen=True)
class _ScoredFold:
    """The scores of the held-out cases of a fold: its folder, and its summary with the file."""

    run: RunFolder
    file: Path
    summary: dict[str, Any]


def read_model(model: ModelFolder, folds: Sequence[str] | None = None) -> Source:
    """Collect what a report says about a model.

    What is not on this machine, such as the images, is left out and noted.

    Args:
        model: The model, or one of its runs.
        folds: The folds to report on; None for all.

    Returns:
        The source of the report.

    Raises:
        UserError: There is no such model, fold or plan, or two folds were scored by other rules.
    """
    runs = _choose_runs(model, folds)
    plan = runs[0].plan
    notes = list(_notes_about_runs(runs))
    scored, missing = _read_folds(runs)
    notes += missing
    images, image_notes = _find_images(plan.dataset_name)
    fingerprint = _find_fingerprint(plan)
    notes += image_notes
    if fingerprint is None:
        notes.append("The statistics of the training data are not on this machine.")
    summary = merge_summaries([fold.file for fold in scored]) if scored else None
    unit, has_volumes = _volume_unit(scored, fingerprint)
    voxels = {} if has_volumes else _volumes_of_voxels(fingerprint, unit)
    cases: list[ReportedCase] = []
    for fold in scored:
        cases += _cases_of(fold, images, None if has_volumes else voxels)
    notes += note_missing_references(cases)
    return Source(
        title=f"{plan.dataset_name}, {plan.single_name}",
        subject=_describe_folds([fold.run for fold in scored]),
        description=plan.description,
        cases=tuple(sorted(cases, key=lambda case: case.identifier)),
        volume_unit=unit,
        summary=summary,
        plan=plan,
        runs=tuple(runs),
        fingerprint=fingerprint,
        postprocessing=_describe_postprocessing(model, plan),
        notes=tuple(notes),
    )


def _describe_postprocessing(model: ModelFolder, plan: Plan) -> tuple[str, ...]:
    """Say what is done to label maps that the model predicts; damaged rules say what is wrong."""
    try:
        rules = load_postprocessing(model.path, plan.label_scheme)
        outdated = describe_outdated(rules, model.path, [model])
        return tuple(rules.describe()) if outdated is None else (outdated,)
    except UserError as error:
        return (str(error),)


def _choose_runs(model: ModelFolder, folds: Sequence[str] | None) -> list[RunFolder]:
    if not model.path.is_dir():
        raise UserError(f"{model}: no such model folder")
    runs = model.runs()
    if not runs:
        raise UserError(f"{model}: holds no model: there is no fold_N with a plan.json in it")
    if folds is not None:
        there = {run.name: run for run in runs}
        missing = [fold for fold in folds if f"fold_{fold}" not in there]
        if missing:
            raise UserError(f"{model}: has no fold_{missing[0]} (there: {', '.join(there)})")
        runs = [there[f"fold_{fold}"] for fold in dict.fromkeys(folds)]
    if len(runs) > 1:
        # `all` has seen every case and holds none out: it is another model, not one more fold.
        runs = [run for run in runs if run.name != f"fold_{ALL_CASES}"]
    return runs


def _notes_about_runs(runs: Sequence[RunFolder]) -> Iterator[str]:
    unfinished = [run.name for run in runs if not run.is_finished]
    if unfinished:
        yield f"Not trained to the end: {', '.join(unfinished)}."
    if len({decisions_key(run.plan) for run in runs}) > 1:
        yield "The folds were trained by different plans; the plan of the first one is shown."


def _read_folds(runs: Sequence[RunFolder]) -> tuple[list[_ScoredFold], list[str]]:
    """Return the scores of the folds that have some, and notes about the others."""
    scored, notes = [], []
    for run in runs:
        files = [run.validation / name for name in (SUMMARY_FILE, INCOMPLETE_SUMMARY_FILE)]
        file = next((file for file in files if file.is_file()), None)
        if file is None:
            notes.append(f"{run.name} has no scores of held-out cases.")
            continue
        try:
            summary = read_summary(file)
        except UserError as error:
            notes.append(f"The scores of {run.name} cannot be read: {error}.")
            continue
        for case, reason in summary.get("failed", {}).items():
            notes.append(f"{case} has no scores: {reason}.")
        scored.append(_ScoredFold(run, file, summary))
    return scored, notes


def _find_images(dataset_name: str) -> tuple[dict[str, Case], list[str]]:
    """Return name of a case -> its files; where they are not there, a note says why."""
    try:
        dataset = RawDataset.read(DatasetFolder.find(dataset_name))
    except UserError as error:
        return {}, [f"The images are not on this machine, so none are shown: {error}"]
    return {case.identifier: case for case in dataset.cases}, []


def _find_fingerprint(plan: Plan) -> Fingerprint | None:
    """Return the statistics of the data that a model was planned for; None where others are."""
    try:
        fingerprint = Fingerprint.load(DatasetFolder.find(plan.dataset_name).fingerprint_file)
    except UserError:
        return None
    return fingerprint if fingerprint.data_key == plan.data_key else None


def _volume_unit(folds: Sequence[_ScoredFold], fingerprint: Fingerprint | None) -> tuple[str, bool]:
    """Return the unit of the volumes, and whether the summaries hold them.

    Those of older versions count voxels only.
    """
    units = [fold.summary.get("volume_unit") for fold in folds]
    if units and units[0] is not None and len(set(units)) == 1:
        return units[0], True
    return VOXELS if fingerprint is None else unit_of_volumes(fingerprint), False


def _volumes_of_voxels(fingerprint: Fingerprint | None, unit: str) -> dict[str, float]:
    """Return name of a case -> the volume of its voxels."""
    if fingerprint is None:
        return {}
    return {name: volume_of_voxel(fingerprint, name, unit) for name in fingerprint.cases}


def _cases_of(
    fold: _ScoredFold, images: dict[str, Case], voxels: dict[str, float] | None
) -> Iterator[ReportedCase]:
    """Yield the cases of a fold; with the volumes of its summary where `voxels` is None."""
    names = names_of_classes(fold.summary)
    warnings = read_warnings(fold.run.validation)
    for entry in fold.summary["metric_per_case"]:
        name = entry["case"]
        image = images.get(name)
        # The folder of the model may have been moved since it was scored.
        prediction = fold.run.validation / Path(entry["prediction_file"]).name
        labels = None if image is None else image.label_file
        voxel = None if voxels is None else voxels.get(name, 1.0)
        yield ReportedCase(
            identifier=name,
            image=image,
            prediction=prediction,
            reference=existing_reference(entry, labels),
            fold=fold.run.name.removeprefix("fold_"),
            results=results_of(entry["metrics"], names, voxel),
            warnings=tuple(warnings.get(name, ())),
        )


def _describe_folds(runs: Sequence[RunFolder]) -> str:
    if not runs:
        return "no held-out cases"
    if len(runs) == 1:
        return f"the held-out cases of {runs[0].name.replace('_', ' ')}"
    return f"the held-out cases of {len(runs)} folds"
