"""The folds of a data set, written when it is planned."""

from __future__ import annotations

from pathlib import Path

from samnet.core.files import write_json
from samnet.core.paths import preprocessed_folder
from samnet.dataset.splits import make_splits, read_splits
from samnet.planning.plan import Plan


def splits_path(dataset_name: str) -> Path:
    return preprocessed_folder() / dataset_name / "splits_final.json"


def write_splits(plan: Plan, identifiers: list[str]) -> None:
    """Write `splits_final.json`; one that is there and fits the cases stays, as a person may have made it.

    Raises:
        UserError: one is there that names cases the data set does not have.
    """
    path = splits_path(plan.dataset_name)
    if path.is_file():
        read_splits(path, identifiers)
    else:
        write_json(path, make_splits(identifiers, plan.patient_key))
