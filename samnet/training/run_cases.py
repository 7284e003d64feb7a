"""The cases of a run: drawn from the splits, loaded as they were prepared, and compared with the raw files."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np

from samnet.core.errors import UserError
from samnet.dataset.cases import RawDataset
from samnet.dataset.splits import patient_of, read_splits
from samnet.fingerprint.extract import fingerprint_path
from samnet.fingerprint.records import Fingerprint
from samnet.planning.splits import splits_path
from samnet.preprocessing.prepare import find_outdated, prepared_folder
from samnet.preprocessing.storage import StoredCase, load_case

log = logging.getLogger(__name__)
MAX_TRAINING_VALIDATION = 4


def load_splits(dataset_name: str) -> list[dict[str, list[str]]]:
    """The folds of a planned data set."""
    fingerprint = Fingerprint.load(fingerprint_path(dataset_name))
    return read_splits(splits_path(dataset_name), list(fingerprint.cases))


def choose_cases(
    splits: Sequence[dict[str, list[str]]],
    fold: str,
    num_cases: int | None = None,
    seed: int = 0,
    *,
    num_patients: int | None = None,
    patient_key: str | None = None,
) -> tuple[list[str], list[str], bool]:
    """Training cases, validation cases, and whether the latter are kept from the training.

    `all` trains on every case and watches a few of them. With `num_cases` a random order, fixed by `seed`, is cut
    off: fewer cases are always a subset of more. `num_patients` does the same with patients, and takes all of their
    cases; `patient_key` tells whose a case is.

    Raises:
        UserError: there is no such fold, or fewer cases or patients than asked for.
    """
    if fold == "all":
        training = sorted({case for split in splits for case in split["train"] + split["val"]})
        validation, held_out = [], False
    elif fold in [str(number) for number in range(len(splits))]:
        split = splits[int(fold)]
        training, validation = sorted(split["train"]), sorted(split["val"])
        held_out = not set(training) & set(validation)
    else:
        raise UserError(f"fold {fold!r}: choose from 0 to {len(splits) - 1}, all, or cv")
    if num_cases is not None:
        if num_cases > len(training):
            raise UserError(
                f"--num-cases {num_cases}: fold {fold} has {len(training)} training cases"
            )
        training = _draw(training, num_cases, seed)
    if num_patients is not None:
        patients = sorted({patient_of(case, patient_key) for case in training})
        if num_patients > len(patients):
            raise UserError(
                f"--num-patients {num_patients}: fold {fold} has {len(patients)} training patients"
            )
        drawn = _draw(patients, num_patients, seed)
        training = [case for case in training if patient_of(case, patient_key) in drawn]
    if not held_out:
        validation = training[:MAX_TRAINING_VALIDATION]
    return training, validation, held_out


def _draw(names: Sequence[str], number: int, seed: int) -> list[str]:
    order = np.random.default_rng(seed).permutation(len(names))
    return sorted(names[index] for index in order[:number])


def load_cases(
    dataset_name: str, identifiers: Sequence[str], views: Sequence[int]
) -> list[StoredCase]:
    """Prepared cases.

    Raises:
        UserError: one is not prepared, or not for these views.
    """
    folder = prepared_folder(dataset_name)
    cases = [load_case(folder, identifier) for identifier in identifiers]
    for case in cases:
        if not all(str(axis) in case.record.class_slices for axis in views):
            raise UserError(
                f"case {case.identifier!r} is not prepared for the views {list(views)}; set them in the plan and run "
                "samnet_preprocess"
            )
    return cases


def warn_of_changed_data(dataset_name: str, cases: Sequence[StoredCase], processes: int) -> None:
    """Point out cases whose raw files hold something else than was prepared; without raw data nothing can be said."""
    try:
        dataset = RawDataset.load(dataset_name)
    except UserError:
        return
    outdated = find_outdated(dataset, cases, processes)
    if outdated:
        log.warning(
            "the raw files of %d of %d training cases have changed since they were prepared, such as those of %s: "
            "run samnet_plan_and_preprocess again, or the training goes by the old ones",
            len(outdated),
            len(cases),
            outdated[0],
        )
