"""Folds for cross-validation: whole patients, nearly equal in size, the same on every machine."""

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
# Words without a number, then one that has one: `SC-HF-I-01`, `patient001`.
_NUMBERED = rf"(?:[^\W\d_]+{_BREAK})*[^\W\d_]*\d[^\W_]*"


def patient_of(identifier: str, patient_key: str | None) -> str:
    """The patient of a case: what `patient_key` (a regular expression) finds in its name, else the name itself."""
    if patient_key is None:
        return identifier
    match = re.search(patient_key, identifier)
    if match is None:
        return identifier
    return (match.group(1) if match.groups() else None) or match.group(0)


def find_patient_key(identifiers: Sequence[str]) -> str | None:
    """A regular expression that groups cases of one patient, read off the case names; None where every case is one.

    Names like `patient001_frame01` or `SC-HF-I-01-IM-0001-0048` share a beginning that ends in a number. The shortest
    such beginning that tells at least `MAX_FOLDS` patients apart is the patient, and where none does, the shortest that
    tells two apart; too coarse a group costs folds, too fine a one lets a patient into both sides.
    """
    fallback = None
    most_numbers = max(
        (len(re.findall(_NUMBERED, identifier)) for identifier in identifiers), default=0
    )
    for count in range(1, most_numbers + 1):
        pattern = rf"^({_BREAK.join([_NUMBERED] * count)})(?={_BREAK}|$)"
        if not all(re.search(pattern, identifier) for identifier in identifiers):
            break
        groups = {patient_of(identifier, pattern) for identifier in identifiers}
        if MAX_FOLDS <= len(groups) < len(identifiers):
            return pattern
        if fallback is None and 2 <= len(groups) < len(identifiers):
            fallback = pattern
    return fallback


def make_splits(
    identifiers: Sequence[str], patient_key: str | None, seed: int = 12345
) -> list[dict[str, list[str]]]:
    """Folds in the form of nnU-Net's `splits_final.json`: a list of `{"train": [...], "val": [...]}`.

    There are min(5, patients) folds. With a single patient there is nothing to hold out: one fold trains and validates
    on the same cases, and says so where it is planned.
    """
    patients: dict[str, list[str]] = {}
    for identifier in sorted(identifiers):
        patients.setdefault(patient_of(identifier, patient_key), []).append(identifier)
    if len(patients) == 1:
        only = sorted(identifiers)
        return [{"train": only, "val": only}]
    names = sorted(patients)
    np.random.default_rng(seed).shuffle(names)
    # Large patients first, each to the smallest fold so far: folds of nearly equal size.
    names.sort(key=lambda name: -len(patients[name]))
    folds: list[list[str]] = [[] for _ in range(min(MAX_FOLDS, len(names)))]
    for name in names:
        min(folds, key=len).extend(patients[name])
    everything = set(identifiers)
    return [{"train": sorted(everything - set(fold)), "val": sorted(fold)} for fold in folds]


def read_splits(path: Path, identifiers: Sequence[str]) -> list[dict[str, list[str]]]:
    """Read and check `splits_final.json`.

    Raises:
        UserError: the file has another form, or names a case that the data set does not have.
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
        shared = set(fold["train"]) & set(fold["val"])
        if shared and set(fold["train"]) != set(
            fold["val"]
        ):  # a single patient's fold holds the same cases twice
            log.warning(
                "%s: fold %d trains and validates on %s: its scores will be too good",
                path,
                number,
                min(shared),
            )
    return content


def _is_fold(fold: Any) -> bool:
    return isinstance(fold, dict) and all(
        isinstance(fold.get(key), list)
        and fold[key]
        and all(isinstance(case, str) for case in fold[key])
        for key in ("train", "val")
    )
