"""The folds of a data set, written when it is planned."""

from __future__ import annotations

import logging
from pathlib import Path

from samnet.core.errors import UserError
from samnet.core.files import write_json
from samnet.core.paths import preprocessed_folder
from samnet.dataset.splits import make_splits, read_splits
from samnet.plan.plan import Plan

log = logging.getLogger(__name__)


def splits_path(dataset_name: str) -> Path:
    return preprocessed_folder() / dataset_name / "splits_final.json"


def write_splits(plan: Plan, identifiers: list[str]) -> None:
    """Write `splits_final.json`; one that is there and fits the cases stays, as a person may have made it.

    Raises:
        UserError: one is there that names cases the data set does not have.
    """
    path = splits_path(plan.dataset_name)
    if not path.is_file():
        write_json(path, make_splits(identifiers, plan.patient_key))
        return
    try:
        folds = read_splits(path, identifiers)
    except UserError as error:
        raise UserError(
            f"{error}. Correct it, or delete it: planning then makes new folds"
        ) from None
    left_out = sorted(
        set(identifiers) - {case for fold in folds for case in fold["train"] + fold["val"]}
    )
    if left_out:
        log.warning(
            "%s: %d cases are in no fold, such as %s: nothing is trained on them. Add them, or delete the file: "
            "planning then makes new folds",
            path,
            len(left_out),
            left_out[0],
        )
