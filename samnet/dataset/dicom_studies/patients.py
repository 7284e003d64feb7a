"""What patients are called in a data set, and the table that says who they are.

A hash of PatientID alone could be undone by trying all numbers. So the identifiers of the patient's
first study are hashed with it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from samnet.core.errors import UserError
from samnet.core.files import write_text
from samnet.dataset.dicom_studies.csv_files import read_rows, to_csv
from samnet.dataset.dicom_studies.objects import DicomObject

# Finds the patient in the name of a case.
PATIENT_KEY = "^(p[^_]+)_"
_COLUMNS = ("patient", "name")
_DIGITS = 8


def patient_of(entry: DicomObject) -> str:
    """Return what tells patients apart: PatientID, else the study.

    Args:
        entry: A DICOM object.
    """
    return entry.patient or f"study {entry.study_uid}"


def name_patients(images: Iterable[DicomObject], table: Path | None) -> dict[str, str]:
    """Name the patients, by a hash that cannot be undone.

    Args:
        images: Images of all patients.
        table: A table of names, of an earlier conversion; its names are kept. None without one.

    Returns:
        Patient, as returned by `patient_of` -> name.

    Raises:
        UserError: The table has another form.
    """
    studies: dict[str, set[str]] = {}
    for image in images:
        studies.setdefault(patient_of(image), set()).add(image.study_uid)
    known = _read(table) if table is not None and table.exists() else {}
    names = {}
    for patient, uids in studies.items():
        names[patient] = known.get(patient) or f"p{short_hash(patient, min(uids))}"
    return {**known, **names}


def short_hash(*parts: str) -> str:
    """Return eight hexadecimal digits that follow from some texts.

    Args:
        *parts: The texts.
    """
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:_DIGITS]


def write_patients(names: dict[str, str], table: Path) -> None:
    """Write the table that says who the patients are.

    Args:
        names: Patient -> name.
        table: The file; an older one is replaced.
    """
    write_text(table, to_csv(_COLUMNS, sorted(names.items())))


def _read(table: Path) -> dict[str, str]:
    rows = read_rows(table, _COLUMNS)
    names = {row["patient"]: row["name"] for row in rows}
    wrong = [name for name in names.values() if not name.startswith("p") or not name.isalnum()]
    if wrong or len(set(names.values())) != len(names):
        raise UserError(
            f"{table}: each patient needs a name of its own, p and letters or digits "
            f"{f'(not {wrong[0]!r})' if wrong else ''}; remove the file to name them again"
        )
    return names
