"""The scores of a cross-validation over all its cases, and the choice between configurations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samnet.core.errors import UserError
from samnet.core.files import write_json
from samnet.dataset.label_scheme import LabelScheme
from samnet.evaluation.evaluator import SUMMARY_FILE
from samnet.evaluation.summary import CaseScores, Protocol, summarize
from samnet.evaluation.summary_files import read_summary, write_csv, write_summary
from samnet.evaluation.tables import format_table
from samnet.evaluation.volumes import VOXELS, common_unit
from samnet.models.model_folder import ModelFolder
from samnet.planning.planned_dataset import PlannedDataset

_COMPARED = ("labels", "policy", "nsd_tolerance", "distance_unit")


@dataclass(frozen=True)
class Choice:
    """The best configuration of a data set.

    Attributes:
        dataset_name: `DatasetXXX_Name`.
        best: The name of the best configuration.
        dice: Mean foreground Dice by configuration, for all that were compared.
        summaries: Scores over the cases of all folds, by configuration.
    """

    dataset_name: str
    best: str
    dice: dict[str, float]
    summaries: dict[str, dict[str, Any]]

    def __str__(self) -> str:
        parts = [f"{name}\n{format_table(summary)}" for name, summary in self.summaries.items()]
        ranking = ["mean foreground Dice of all folds"]
        for name, value in self.dice.items():
            mark = "  <- best" if name == self.best else ""
            ranking.append(f"  {name:<20}{value:.4f}{mark}")
        parts.append("\n".join(ranking))
        command = f"samnet_predict -d {self.dataset_name} -c {self.best} -i INPUT -o OUTPUT"
        parts.append(f"predict with it: {command}")
        return "\n\n".join(parts)


def find_best_configuration(identifier: str, configurations: Sequence[str] = ()) -> Choice:
    """Summarise the cross-validation of configurations, and choose the best one.

    That is the one with the highest mean foreground Dice; of equals the first is taken. Every
    held-out case counts once, whatever its fold. Writes `cross_validation.json` and `.csv` into the
    folder of each configuration, and `best_configuration.json` into that of the data set.

    Args:
        identifier: Id or name of the data set.
        configurations: The configurations to compare; empty for all whose folds are all validated.

    Returns:
        The best configuration, and the scores of all.

    Raises:
        UserError: A fold is not validated, or there is nothing to compare.
    """
    dataset = PlannedDataset.find(identifier)
    compared = list(configurations) or _validated_configurations(dataset)
    if not compared:
        raise UserError(
            f"no configuration of {dataset.name} is validated on all {len(dataset.splits)} folds; "
            "run samnet_train ... cv"
        )
    files = {name: _summary_files(dataset, name) for name in compared}
    _check_complete(files)
    summaries = {name: _merge(every) for name, every in files.items()}
    dice = {name: summary["foreground_mean"]["Dice"] for name, summary in summaries.items()}
    best = max(dice, key=lambda name: -math.inf if math.isnan(dice[name]) else dice[name])
    for name, summary in summaries.items():
        model = ModelFolder.of(dataset.folder, name)
        write_csv(summary, model.cross_validation_table)
        write_summary(summary, model.cross_validation_file)
    record = {
        "dataset": dataset.name,
        "best": best,
        "score": "mean foreground Dice of all folds",
        "Dice": dice,
    }
    write_json(dataset.folder.choice_file, record)
    return Choice(dataset.name, best, dice, summaries)


def _summary_files(dataset: PlannedDataset, configuration: str) -> list[Path]:
    """Return the scores of the held-out cases of each fold, whether they are there or not."""
    model = ModelFolder.of(dataset.folder, configuration)
    return [model.run(fold).validation / SUMMARY_FILE for fold in dataset.fold_names]


def _validated_configurations(dataset: PlannedDataset) -> list[str]:
    names = sorted({folder.parent.name for folder in dataset.folder.results.glob("*/fold_*")})
    validated = []
    for name in names:
        if all(file.is_file() for file in _summary_files(dataset, name)):
            validated.append(name)
    return validated


def _check_complete(files: dict[str, list[Path]]) -> None:
    missing: list[str] = []
    for every in files.values():
        missing += [str(file) for file in every if not file.is_file()]
    if missing:
        listing = "".join(f"\n  {file}" for file in missing)
        raise UserError(
            f"not all folds are trained and validated; samnet_train makes what is missing:{listing}"
        )


def _merge(files: Sequence[Path]) -> dict[str, Any]:
    """Return one summary of the cases of several."""
    summaries = {file: read_summary(file) for file in files}
    first = summaries[files[0]]
    cases = []
    for file, summary in summaries.items():
        for key in _COMPARED:
            if summary[key] != first[key]:
                raise UserError(
                    f"{file}: has another {key} than {files[0]}; delete its folder and validate "
                    "again"
                )
        cases += [_case_scores(entry) for entry in summary["metric_per_case"]]
    protocol = Protocol(
        LabelScheme(first["labels"]),
        policy=first["policy"],
        nsd_tolerance=first["nsd_tolerance"],
        image_unit=first["distance_unit"],
        # Older summaries have no volumes, and no unit.
        volume_unit=common_unit([one.get("volume_unit", VOXELS) for one in summaries.values()]),
        patient_key=first.get("patient_key"),
    )
    return summarize(cases, protocol)


def _case_scores(entry: dict[str, Any]) -> CaseScores:
    prediction, reference = Path(entry["prediction_file"]), Path(entry["reference_file"])
    return CaseScores(entry["case"], prediction, reference, entry["metrics"])
