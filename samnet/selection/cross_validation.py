"""The scores of a cross-validation, over the held-out cases of all its folds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from samnet.core.errors import UserError
from samnet.dataset.label_scheme import LabelScheme
from samnet.evaluation.empty_slices import in_voxels
from samnet.evaluation.evaluator import SUMMARY_FILE
from samnet.evaluation.policies import EMPTY_SLICES
from samnet.evaluation.summary import CaseScores, Protocol, summarize
from samnet.evaluation.summary_files import read_summary, write_csv, write_summary
from samnet.evaluation.volumes import VOXELS, common_unit, volume_scores
from samnet.models.model_folder import ModelFolder
from samnet.planning.planned_dataset import PlannedDataset

_COMPARED = ("labels", "policy", "nsd_tolerance", "distance_unit")


def choose_folds(dataset: PlannedDataset, folds: Sequence[str]) -> list[str]:
    """Check the folds whose held-out cases are to count.

    Args:
        dataset: The data set.
        folds: The requested folds; empty for all.

    Returns:
        Their numbers as text, in order.

    Raises:
        UserError: The data set has no such fold.
    """
    unknown = [fold for fold in folds if fold not in dataset.fold_names]
    if unknown:
        raise UserError(
            f"{dataset.name} has no fold {unknown[0]}; its folds are "
            f"{', '.join(dataset.fold_names)}"
        )
    return [name for name in dataset.fold_names if not folds or name in folds]


def validated_configurations(dataset: PlannedDataset, folds: Sequence[str]) -> list[str]:
    """List the configurations whose held-out cases are scored in certain folds.

    Args:
        dataset: The data set.
        folds: The folds.

    Returns:
        Their names, in order.
    """
    names = sorted({folder.parent.name for folder in dataset.folder.results.glob("*/fold_*")})
    return [name for name in names if not _missing_files(dataset, name, folds)]


def validated_folds(dataset: PlannedDataset, folds: Sequence[str]) -> dict[str, list[str]]:
    """Find out which configurations are validated on any of certain folds.

    Args:
        dataset: The data set.
        folds: The folds.

    Returns:
        Name of a configuration -> those of the folds that it is validated on; sorted by name.
    """
    found: dict[str, list[str]] = {}
    for fold in folds:
        for name in validated_configurations(dataset, [fold]):
            found.setdefault(name, []).append(fold)
    return dict(sorted(found.items()))


def read_cross_validation(
    dataset: PlannedDataset, configuration: str, folds: Sequence[str]
) -> dict[str, Any]:
    """Merge the scores of the held-out cases of several folds. Every case counts once.

    Writes `cross_validation.json` and `.csv` into the folder of the configuration.

    Args:
        dataset: The data set.
        configuration: The configuration.
        folds: The folds.

    Returns:
        The summary over their cases.

    Raises:
        UserError: A fold is not validated, or was scored by other rules than the others.
    """
    missing = _missing_files(dataset, configuration, folds)
    if missing:
        listing = "".join(f"\n  {file}" for file in missing)
        raise UserError(
            "not all folds are trained and validated; samnet_train makes what is missing, and -f "
            f"takes some of the folds:{listing}"
        )
    summary = merge_summaries(_summary_files(dataset, configuration, folds))
    model = ModelFolder.of(dataset.folder, configuration)
    write_csv(summary, model.cross_validation_table)
    write_summary(summary, model.cross_validation_file)
    return summary


def check_same_rules(found: dict[str, Any], expected: dict[str, Any], *names: object) -> None:
    """Refuse to mix scores by different rules or of different labels.

    Args:
        found: A summary.
        expected: The summary that it is to agree with.
        *names: What to call both.

    Raises:
        UserError: They do not agree.
    """
    for key in _COMPARED:
        if found[key] != expected[key]:
            raise UserError(
                f"{names[0]}: has another {key} than {names[1]}; delete its validation folder and "
                "validate again"
            )


def _summary_files(dataset: PlannedDataset, configuration: str, folds: Sequence[str]) -> list[Path]:
    """Return the scores of the held-out cases of each fold, whether they are there or not."""
    model = ModelFolder.of(dataset.folder, configuration)
    return [model.run(fold).validation / SUMMARY_FILE for fold in folds]


def _missing_files(dataset: PlannedDataset, configuration: str, folds: Sequence[str]) -> list[Path]:
    files = _summary_files(dataset, configuration, folds)
    return [file for file in files if not file.is_file()]


def merge_summaries(files: Sequence[Path]) -> dict[str, Any]:
    """Return one summary of the cases of several.

    Args:
        files: The files of at least one summary.

    Returns:
        The summary over their cases.

    Raises:
        UserError: A file cannot be read, or was scored by other rules than the first one.
    """
    summaries = {file: read_summary(file) for file in files}
    first = summaries[files[0]]
    # Older summaries have no volumes, and no unit.
    units = {file: summary.get("volume_unit", VOXELS) for file, summary in summaries.items()}
    unit = common_unit(units.values())
    cases = []
    for file, summary in summaries.items():
        check_same_rules(summary, first, file, files[0])
        for entry in summary["metric_per_case"]:
            cases.append(_case_scores(entry, file.parent, counts_voxels=units[file] != unit))
    protocol = Protocol(
        LabelScheme(first["labels"]),
        policy=first["policy"],
        nsd_tolerance=first["nsd_tolerance"],
        image_unit=first["distance_unit"],
        volume_unit=unit,
        patient_key=first.get("patient_key"),
    )
    return summarize(cases, protocol)


def _case_scores(entry: dict[str, Any], folder: Path, counts_voxels: bool) -> CaseScores:
    """Return the scores of a case, where requested with its volumes as numbers of voxels.

    Its prediction lies next to the summary: the summary itself names the place where it was
    written, and the results may have been moved or copied since.
    """
    prediction = folder / Path(entry["prediction_file"]).name
    reference = Path(entry["reference_file"])
    metrics = entry["metrics"]
    if counts_voxels:
        metrics = {label: _with_voxels(scores) for label, scores in metrics.items()}
    return CaseScores(entry["case"], prediction, reference, metrics)


def _with_voxels(scores: dict[str, Any]) -> dict[str, float]:
    """Return scores whose volumes are numbers of voxels."""
    counts = volume_scores(scores["n_pred"], scores["n_ref"], 1.0)
    return scores | counts | {EMPTY_SLICES: in_voxels(scores)}
