"""Writing of a raw data set of DICOM studies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from samnet.core.errors import UserError
from samnet.core.files import remove_partial_file, write_json
from samnet.core.progress import ProgressBar
from samnet.dataset.dicom_studies.case_labels import read_case_labels
from samnet.dataset.dicom_studies.channels import read_channels
from samnet.dataset.dicom_studies.convert_studies import MeasuredCase, StudyConversion
from samnet.dataset.dicom_studies.patients import PATIENT_KEY
from samnet.dataset.dicom_studies.series_reading import read_geometry, read_volume
from samnet.dataset.formats import nifti
from samnet.dataset.images import write_labels
from samnet.dataset.new_dataset import new_dataset

_ENDING = ".nii.gz"


def write_studies(conversion: StudyConversion, folder: Path) -> None:
    """Write a raw data set. The folder is either complete or absent.

    Nothing of the headers is copied except the grid.

    Args:
        conversion: The plan from `plan_studies`. Cases that turn out to be damaged become faults of
            it where they are to be left out.
        folder: The folder of the data set to create.

    Raises:
        UserError: A file cannot be read, or no case is left.
    """
    rules = conversion.contents.rules
    with new_dataset(folder) as target:
        for name, measured in ProgressBar(
            list(conversion.cases.items()), desc="writing", unit="case"
        ):
            try:
                _write_case(name, measured, conversion, target)
            except UserError as error:
                if not rules.skip_faulty or len(conversion.cases) == 1:
                    raise
                _remove_case(name, target)
                del conversion.cases[name]
                conversion.faults.append(str(error))
        write_json(target / "dataset.json", _description(conversion))


def _write_case(
    name: str, measured: MeasuredCase, conversion: StudyConversion, target: Path
) -> None:
    case, rules = measured.case, conversion.contents.rules
    geometry = read_geometry(case.reference)
    found = read_case_labels(case, geometry, conversion.table, rules.threshold)
    labels = found.structures.to_labels(conversion.labelling.values)
    reference = read_volume(case.reference)
    for channel, values in enumerate(read_channels(case, reference)):
        file = target / "imagesTr" / f"{name}_{channel:04d}{_ENDING}"
        nifti.write_volume(_smallest(values), reference.grid, file)
    write_labels(labels, reference, target / "labelsTr" / f"{name}{_ENDING}")


def _smallest(values: np.ndarray) -> np.ndarray:
    """Return whole numbers as 16 bits where they fit, which halves the file."""
    if values.dtype.kind not in "iu":
        return values.astype(np.float32)
    limits = np.iinfo(np.int16)
    fits = values.min() >= limits.min and values.max() <= limits.max
    return values.astype(np.int16 if fits else np.int32)


def _remove_case(name: str, target: Path) -> None:
    for part in ("imagesTr", "labelsTr"):
        for file in (target / part).glob(f"{name}*"):
            remove_partial_file(file)


def _description(conversion: StudyConversion) -> dict[str, Any]:
    labelling = conversion.labelling
    labels = {
        name: list(label) if isinstance(label, tuple) else label
        for name, label in labelling.labels.items()
    }
    description: dict[str, Any] = {
        "channel_names": {str(n): name for n, name in enumerate(conversion.channel_names)},
        "labels": labels,
        "numTraining": len(conversion.cases),
        "file_ending": _ENDING,
        "patient_key": PATIENT_KEY,
    }
    if labelling.class_order:
        description["regions_class_order"] = list(labelling.class_order)
    return description
