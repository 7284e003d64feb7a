"""The `dataset.json` next to predicted label maps, which says what they mean."""

from __future__ import annotations

import logging
from pathlib import Path

from samnet.core.errors import UserError
from samnet.core.files import write_json
from samnet.dataset.description import DESCRIPTION_FILE, DatasetDescription
from samnet.dataset.label_scheme import LabelScheme

log = logging.getLogger(__name__)


def describe_labels_in(folder: Path, description: DatasetDescription) -> None:
    """Write `dataset.json`, where `samnet_evaluate` and nnU-Net look for the names of labels.

    One that is there stays: it may be that of a whole data set, or of another model that predicted
    into the folder. A warning says so where it names other labels.

    Args:
        folder: The folder of the label maps.
        description: The channels and labels of the model.
    """
    file = folder / DESCRIPTION_FILE
    if not file.exists():
        write_json(file, description.as_json())
        return
    expected = description.label_scheme
    try:
        found = DatasetDescription.load(file).label_scheme
    except UserError:
        found = None
    if found is None or not _have_same_labels(found, expected):
        log.warning(
            "%s: left unchanged, but its labels are not the model's, %s",
            file,
            description.as_json()["labels"],
        )


def _have_same_labels(one: LabelScheme, other: LabelScheme) -> bool:
    return (one.labels, one.ignore_label) == (other.labels, other.ignore_label)
