"""The cases of a run: drawn from the splits, loaded, and compared with the raw files."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from samnet.core.errors import UserError
from samnet.dataset.cases import RawDataset
from samnet.dataset.dataset_folder import DatasetFolder
from samnet.dataset.splits import describe_folds, patient_of
from samnet.models.model_folder import ALL_CASES
from samnet.plan.configuration import Configuration
from samnet.planning.planned_step import unlabelled_rows
from samnet.preprocessing.prepare import find_outdated
from samnet.preprocessing.storage import StoredCase, load_case
from samnet.preprocessing.stored_cases import list_cases

log = logging.getLogger(__name__)
MAX_TRAINING_VALIDATION = 4
_USES = ("unlabelled_weight", "registered_cases")  # of cases without labels


@dataclass(frozen=True)
class FoldCases:
    """The cases of a run, by name.

    Attributes:
        training: The cases to train on.
        validation: The cases to validate on.
        held_out: Whether the validation cases are kept from the training.
    """

    training: list[str]
    validation: list[str]
    held_out: bool

    @property
    def scored(self) -> list[str]:
        """The cases that are predicted and scored when the training is finished."""
        return self.validation if self.held_out else []


def choose_cases(
    splits: Sequence[dict[str, list[str]]],
    fold: str,
    num_cases: int | None = None,
    seed: int = 0,
    *,
    num_patients: int | None = None,
    patient_key: str | None = None,
) -> FoldCases:
    """Choose the cases of a fold, or fewer of them.

    A random order, fixed by the seed, is cut off: fewer cases are always a subset of more.

    Args:
        splits: The folds of the cross-validation.
        fold: The number of a fold, or `all` to train on every case and watch a few of them.
        num_cases: Train on so many cases only.
        seed: Fixes their order.
        num_patients: Train on all cases of so many patients only.
        patient_key: Regular expression that finds the patient in the name of a case.

    Returns:
        The cases.

    Raises:
        UserError: There is no such fold, or it has fewer cases or patients than requested.
    """
    training, validation = _cases_of_fold(splits, fold)
    held_out = bool(validation) and not set(training) & set(validation)
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
    return FoldCases(training, validation, held_out)


def _cases_of_fold(
    splits: Sequence[dict[str, list[str]]], fold: str
) -> tuple[list[str], list[str]]:
    if fold == ALL_CASES:
        return names_in_splits(splits), []
    if fold not in [str(number) for number in range(len(splits))]:
        raise UserError(f"fold {fold!r}: choose from {describe_folds(len(splits))}")
    split = splits[int(fold)]
    return sorted(split["train"]), sorted(split["val"])


def names_in_splits(splits: Sequence[dict[str, list[str]]]) -> list[str]:
    """Return the cases of all folds.

    Args:
        splits: The folds of the cross-validation.

    Returns:
        Their names, sorted, each once.
    """
    names: set[str] = set()
    for split in splits:
        names.update(split["train"], split["val"])
    return sorted(names)


def _draw(names: Sequence[str], number: int, seed: int) -> list[str]:
    order = np.random.default_rng(seed).permutation(len(names))
    return sorted(names[index] for index in order[:number])


def find_unlabelled(
    folder: DatasetFolder, configuration: Configuration, world_size: int = 1
) -> tuple[str, ...]:
    """Find the cases without labels that a run learns from.

    Args:
        folder: The paths of the data set.
        configuration: The values of the run's plan.
        world_size: Number of processes that train together.

    Returns:
        All prepared ones by name; none where the plan does not use them.

    Raises:
        UserError: There are none, or another value of the plan does not go with them.
    """
    if configuration.unlabelled_weight:
        _check_consistency(configuration, world_size)
    uses = [
        f"{key} is {getattr(configuration, key):g}" for key in _USES if getattr(configuration, key)
    ]
    if not uses:
        return ()
    names = list_cases(folder.unlabelled_slices)
    if not names:
        off = " ".join(f"--set {key}=0" for key in _USES if getattr(configuration, key))
        raise UserError(
            f"{' and '.join(uses)}, but no case without labels is prepared in "
            f"{folder.unlabelled_slices}: put images into {folder.unlabelled_images} and run "
            f"samnet_preprocess; {off} trains on labelled slices alone"
        )
    return tuple(names)


def _check_consistency(configuration: Configuration, world_size: int) -> None:
    weight = configuration.unlabelled_weight
    off = "--set unlabelled_weight=0 trains on labelled slices alone"
    if not configuration.weight_average:
        raise UserError(
            f"unlabelled_weight is {weight:g}, and weight_average 0: the averaged weights are the "
            f"teacher of slices without labels. Add --set weight_average=0.99; {off}"
        )
    if configuration.depth > 1:
        raise UserError(
            f"unlabelled_weight is {weight:g}, and depth {configuration.depth}: only single slices "
            f"without labels can be learnt from. Take depth=1; {off}"
        )
    rows = unlabelled_rows(configuration)
    if rows % world_size:
        raise UserError(
            f"{rows} slices without labels in a step cannot be split evenly over {world_size} "
            f"processes; --set unlabelled_share=1 takes as many as labelled ones; {off}"
        )


def load_cases(folder: Path, identifiers: Sequence[str], views: Sequence[int]) -> list[StoredCase]:
    """Open prepared cases.

    Args:
        folder: The folder of the prepared cases.
        identifiers: The names of the cases.
        views: The axes across which slices are needed.

    Returns:
        The cases.

    Raises:
        UserError: A case is not prepared, or not for these views.
    """
    cases = [load_case(folder, identifier) for identifier in identifiers]
    for case in cases:
        if not all(str(axis) in case.record.class_slices for axis in views):
            raise UserError(
                f"case {case.identifier!r} is not prepared for the views {list(views)}; set them "
                "in the plan and run samnet_preprocess"
            )
    return cases


def warn_of_changed_data(
    folder: DatasetFolder,
    training: Sequence[StoredCase],
    unlabelled: Sequence[StoredCase],
    processes: int,
) -> None:
    """Point out cases whose raw files hold something else than was prepared.

    Without raw data nothing can be said.

    Args:
        folder: The paths of the data set.
        training: The prepared training cases.
        unlabelled: The prepared cases without labels that are learnt from.
        processes: Number of worker processes; 0 for none.
    """
    try:
        dataset = RawDataset.read(folder)
    except UserError:
        return
    for kind, cases, prepared in (
        ("training cases", dataset.cases, training),
        ("cases without labels", dataset.unlabelled_cases, unlabelled),
    ):
        outdated = find_outdated(dataset, cases, prepared, processes) if prepared else []
        if outdated:
            log.warning(
                "the raw files of %d of %d %s have changed since they were prepared, or older "
                "versions of samnet read them otherwise, such as those of %s: run "
                "samnet_plan_and_preprocess again, or the training goes by the old ones",
                len(outdated),
                len(prepared),
                kind,
                outdated[0],
            )
