"""The folds of cross-validation: whole patients, nearly equal in size, equal on every machine."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from samnet.core.errors import UserError
from samnet.core.files import read_json

log = logging.getLogger(__name__)

MAX_FOLDS = 5
_BREAK = r"[\W_]+"
# Words without a number, then one that has a number: `SC-HF-I-01`, `patient001`.
_NUMBERED = rf"(?:[^\W\d_]+{_BREAK})*[^\W\d_]*\d[^\W_]*"


def patient_of(identifier: str, patient_key: str | None) -> str:
    """Return the patient that a case belongs to.

    Args:
        identifier: Name of the case.
        patient_key: Regular expression that finds the patient in the name, or None where every
            case is a patient.

    Returns:
        The first group of the match, or the whole match if that group is missing or empty, or the
        name of the case if nothing matches.
    """
    if patient_key is None:
        return identifier
    match = re.search(patient_key, identifier)
    if match is None:
        return identifier
    return (match.group(1) if match.groups() else None) or match.group(0)


def find_patient_key(identifiers: Sequence[str]) -> str | None:
    """Derive from the case names a regular expression that groups the cases of one patient.

    Names such as `patient001_frame01` or `SC-HF-I-01-IM-0001-0048` have a common beginning that
    ends in a number. The shortest beginning that distinguishes at least `MAX_FOLDS` patients is
    taken as the patient, or else the shortest one that distinguishes two. Groups that are too large
    reduce the number of folds. Groups that are too small put one patient into both training and
    validation.

    Args:
        identifiers: Names of all cases.

    Returns:
        The regular expression, or None where every case is a patient.
    """
    fallback = None
    numbered_parts = [len(re.findall(_NUMBERED, identifier)) for identifier in identifiers]
    for count in range(1, max(numbered_parts, default=0) + 1):
        pattern = rf"^({_BREAK.join([_NUMBERED] * count)})(?={_BREAK}|$)"
        if not all(re.search(pattern, identifier) for identifier in identifiers):
            break
        patients = {patient_of(identifier, pattern) for identifier in identifiers}
        if MAX_FOLDS <= len(patients) < len(identifiers):
            return pattern
        if fallback is None and 2 <= len(patients) < len(identifiers):
            fallback = pattern
    return fallback


def make_splits(
    identifiers: Sequence[str], patient_key: str | None, seed: int = 12345
) -> list[dict[str, list[str]]]:
    """Distribute the cases over folds, each patient as a whole.

    There are min(5, patients) folds. A single patient cannot be held out: there is one fold that
    trains and validates on the same cases, and the plan says so.

    Args:
        identifiers: Names of all cases.
        patient_key: Regular expression that finds the patient in a name, or None.
        seed: Seed of the order of the patients.

    Returns:
        The folds in the form of nnU-Net's `splits_final.json`: a list of
        `{"train": [...], "val": [...]}`.
    """
    patients: dict[str, list[str]] = {}
    for identifier in sorted(identifiers):
        patients.setdefault(patient_of(identifier, patient_key), []).append(identifier)
    if len(patients) == 1:
        only = sorted(identifiers)
        return [{"train": only, "val": only}]
    names = sorted(patients)
    np.random.default_rng(seed).shuffle(names)
    # Large patients come first, each goes to the fold that is smallest so far. This gives folds of
    # nearly equal size.
    names.sort(key=lambda name: -len(patients[name]))
    folds: list[list[str]] = [[] for _ in range(min(MAX_FOLDS, len(names)))]
    for name in names:
        min(folds, key=len).extend(patients[name])
    all_cases = set(identifiers)
    return [{"train": sorted(all_cases - set(fold)), "val": sorted(fold)} for fold in folds]


def describe_folds(num_folds: int) -> str:
    """Return what may be given as the fold of a training run, for messages.

    Args:
        num_folds: Number of folds of the data set.

    Returns:
        Such as `0, 1, all, or cv`.
    """
    numbers = [str(number) for number in range(num_folds)]
    return f"{', '.join(numbers)}, all, or cv"


def read_splits(path: Path, identifiers: Sequence[str]) -> list[dict[str, list[str]]]:
    """Read and check a `splits_final.json`.

    A warning is logged for a fold that trains on some of its validation cases. It is not logged
    where both lists are equal, as for a data set of a single patient.

    Args:
        path: The file.
        identifiers: Names of all cases of the data set.

    Returns:
        The folds, a list of `{"train": [...], "val": [...]}`.

    Raises:
        UserError: The file has another form, or names a case that the data set does not have.
    """
    content: Any = read_json(path)
    if not isinstance(content, list) or not content or not all(_is_fold(fold) for fold in content):
        raise UserError(
            f'{path}: expected a list of folds, each {{"train": [cases], "val": [cases]}}'
        )
    unknown = {case for fold in content for case in fold["train"] + fold["val"]} - set(identifiers)
    if unknown:
        raise UserError(
            f"{path}: names cases that the data set does not have: {', '.join(sorted(unknown)[:5])}"
        )
    for number, fold in enumerate(content):
        train, val = set(fold["train"]), set(fold["val"])
        shared = train & val
        if shared and train != val:
            log.warning(
                "%s: fold %d trains and validates on %s: its scores will be too good",
                path,
                number,
                min(shared),
            )
    return content


def _is_fold(fold: Any) -> bool:
    return isinstance(fold, dict) and all(_is_case_list(fold.get(key)) for key in ("train", "val"))


def _is_case_list(value: Any) -> bool:
    if not isinstance(value, list) or not value:
        return False
    return all(isinstance(case, str) for case in value)


def add_to_splits(
    splits: Sequence[dict[str, list[str]]], identifiers: Sequence[str], patient_key: str | None
) -> list[dict[str, list[str]]]:
    """Add cases to folds that exist, without changing what is held out of the others.

    A new case is trained on in every fold, except where its patient is held out: there it is held
    out, too.

    Args:
        splits: The folds.
        identifiers: Names of all cases of the data set; those in no fold are added.
        patient_key: Regular expression that finds the patient in a name, or None.

    Returns:
        The folds with all cases.
    """
    extended = []
    for fold in splits:
        new = sorted(set(identifiers) - set(fold["train"]) - set(fold["val"]))
        if set(fold["train"]) == set(fold["val"]):  # nothing is held out
            both = sorted([*fold["train"], *new])
            extended.append(fold | {"train": both, "val": both})
            continue
        held_out = {patient_of(name, patient_key) for name in fold["val"]}
        is_held_out = {name: patient_of(name, patient_key) in held_out for name in new}
        train = [*fold["train"], *(name for name in new if not is_held_out[name])]
        val = [*fold["val"], *(name for name in new if is_held_out[name])]
        extended.append(fold | {"train": sorted(train), "val": sorted(val)})
    return extended
