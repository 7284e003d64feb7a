"""The scores of a cross-validation over all its cases, and the choice between configurations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samnet.core.errors import UserError
from samnet.core.files import write_json
from samnet.core.paths import find_dataset_name, results_folder
from samnet.dataset.splits import read_splits
from samnet.evaluation.evaluator import SUMMARY_FILE
from samnet.evaluation.summary import (
    CaseScores,
    Protocol,
    format_table,
    read_summary,
    summarize,
    write_csv,
)
from samnet.fingerprint.extract import fingerprint_path
from samnet.fingerprint.records import Fingerprint
from samnet.planning.splits import splits_path
from samnet.training.run_folder import VALIDATION, run_folder

CROSS_VALIDATION_FILE = "cross_validation.json"
CROSS_VALIDATION_CSV = "cross_validation.csv"
BEST_FILE = "best_configuration.json"


@dataclass(frozen=True)
class Choice:
    """The best configuration of a data set, and the mean foreground Dice of all that were compared.

    summaries: over the cases of all folds, by configuration.
    """

    dataset_name: str
    best: str
    dice: dict[str, float]
    summaries: dict[str, dict[str, Any]]

    def __str__(self) -> str:
        tables = [f"{name}\n{format_table(summary)}" for name, summary in self.summaries.items()]
        ranking = [
            f"  {name:<20}{value:.4f}{'  <- best' if name == self.best else ''}"
            for name, value in self.dice.items()
        ]
        predict = f"samnet_predict -d {self.dataset_name} -c {self.best} -i INPUT -o OUTPUT"
        return "\n\n".join(
            [
                *tables,
                "mean foreground Dice of all folds\n" + "\n".join(ranking),
                f"predict with it: {predict}",
            ]
        )


def find_best_configuration(identifier: str, configurations: Sequence[str] = ()) -> Choice:
    """Summarise the cross-validation of configurations, and choose the one with the highest mean foreground Dice.

    Every held-out case counts once, whatever its fold. Writes `cross_validation.json` and `.csv` into the folder of
    each configuration, and `best_configuration.json` into that of the data set. Of equals the first in `configurations`
    is taken.

    configurations: to compare; none for all whose folds are all validated.

    Raises:
        UserError: a fold is not validated, or there is nothing to compare.
    """
    name = find_dataset_name(identifier)
    cases = list(Fingerprint.load(fingerprint_path(name)).cases)
    num_folds = len(read_splits(splits_path(name), cases))
    compared = list(configurations) or _validated(name, num_folds)
    if not compared:
        raise UserError(
            f"no configuration of {name} is validated on all {num_folds} folds; run samnet_train ... cv"
        )
    files = {
        configuration: _fold_files(name, configuration, num_folds) for configuration in compared
    }
    missing = [str(file) for every in files.values() for file in every if not file.is_file()]
    if missing:
        listing = "".join(f"\n  {file}" for file in missing)
        raise UserError(
            f"not all folds are trained and validated; samnet_train makes what is missing:{listing}"
        )
    summaries = {configuration: _merge(every) for configuration, every in files.items()}
    dice = {
        configuration: summary["foreground_mean"]["Dice"]
        for configuration, summary in summaries.items()
    }
    best = max(
        dice,
        key=lambda configuration: (
            -math.inf if math.isnan(dice[configuration]) else dice[configuration]
        ),
    )
    for configuration, summary in summaries.items():
        folder = results_folder() / name / configuration
        write_csv(summary, folder / CROSS_VALIDATION_CSV)
        write_json(folder / CROSS_VALIDATION_FILE, summary)
    record = {
        "dataset": name,
        "best": best,
        "score": "mean foreground Dice of all folds",
        "Dice": dice,
    }
    write_json(results_folder() / name / BEST_FILE, record)
    return Choice(name, best, dice, summaries)


def _fold_files(dataset_name: str, configuration: str, num_folds: int) -> list[Path]:
    folds = [run_folder(dataset_name, configuration, str(number)) for number in range(num_folds)]
    return [folder / VALIDATION / SUMMARY_FILE for folder in folds]


def _validated(dataset_name: str, num_folds: int) -> list[str]:
    names = sorted(
        {folder.parent.name for folder in (results_folder() / dataset_name).glob("*/fold_*")}
    )
    return [
        name
        for name in names
        if all(file.is_file() for file in _fold_files(dataset_name, name, num_folds))
    ]


def _merge(files: Sequence[Path]) -> dict[str, Any]:
    """One summary of the cases of several."""
    summaries = {file: read_summary(file) for file in files}
    first = summaries[files[0]]
    cases = []
    for file, summary in summaries.items():
        for key in ("labels", "policy", "nsd_tolerance", "distance_unit"):
            if summary[key] != first[key]:
                raise UserError(
                    f"{file}: has another {key} than {files[0]}; delete its folder and validate again"
                )
        cases += [
            CaseScores(
                entry["case"],
                Path(entry["prediction_file"]),
                Path(entry["reference_file"]),
                entry["metrics"],
            )
            for entry in summary["metric_per_case"]
        ]
    protocol = Protocol(
        first["labels"],
        policy=first["policy"],
        nsd_tolerance=first["nsd_tolerance"],
        image_unit=first["distance_unit"],
    )
    return summarize(cases, protocol)
