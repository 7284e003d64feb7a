"""`dataset.json`: what the channels, labels and files of a raw data set are called."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samnet.core.errors import DatasetFaults, UserError
from samnet.core.files import read_json
from samnet.dataset.images import label_ending_for, label_endings, supported_endings, variants_of
from samnet.dataset.label_scheme import (
    Label,
    Labelled,
    Regions,
    all_values,
    foreground,
    has_regions,
    values_of,
)

DESCRIPTION_FILE = "dataset.json"
IGNORE = "ignore"


@dataclass(frozen=True)
class DatasetDescription(Labelled):
    """The content of nnU-Net's `dataset.json` that samnet uses.

    channel_names: in channel order.
    labels, ignore_label, regions_class_order: see `Labelled`.
    file_ending: of images, and of label maps unless `label_ending` says otherwise, with the leading dot.
    num_training: as declared, or None; the integrity check compares it with what is there.
    patient_key: a regular expression whose first group (or whole match) in a case's name is its patient. samnet's own
        optional key; without it the planner looks for one.
    label_ending: of label maps where it is not that of images; samnet's own optional key `label_file_ending`.
    """

    channel_names: tuple[str, ...]
    labels: dict[str, Label]
    ignore_label: int | None
    file_ending: str
    num_training: int | None = None
    patient_key: str | None = None
    regions_class_order: tuple[int, ...] = ()
    label_ending: str | None = None

    @property
    def label_file_ending(self) -> str:
        """The ending of label maps, with the leading dot; labels of JPEG pictures are PNG unless said otherwise."""
        return self.label_ending or label_ending_for(Path(f"image{self.file_ending}"))

    @property
    def label_map_endings(self) -> tuple[str, ...]:
        """The endings that references and predictions may have."""
        predicted = label_ending_for(Path(f"image{self.file_ending}"))
        return tuple(dict.fromkeys((*variants_of(self.label_file_ending), *variants_of(predicted))))

    def as_json(self) -> dict[str, Any]:
        """A `dataset.json` that says what a model expects and what its labels mean."""
        labels: dict[str, Any] = dict(self.labels)
        if self.ignore_label is not None:
            labels[IGNORE] = self.ignore_label
        regions = {"regions_class_order": self.regions_class_order} if self.regions else {}
        return {
            "channel_names": {str(index): name for index, name in enumerate(self.channel_names)},
            "labels": labels,
            **regions,
            "file_ending": self.file_ending,
        }

    @classmethod
    def load(cls, path: Path) -> DatasetDescription:
        """Read and check `dataset.json`.

        Raises:
            UserError: the file is missing or not JSON, or keys are missing or have unusable values: all are reported.
        """
        content = read_json(path)
        if not isinstance(content, dict):
            raise UserError(
                f"{path}: expected a JSON object with channel_names, labels and file_ending"
            )
        faults: list[str] = []

        def parse(parser: Callable[[Any, Path], Any], *keys: str) -> Any:
            try:
                return parser(next((content[key] for key in keys if key in content), None), path)
            except UserError as error:
                faults.append(str(error))

        channel_names = parse(
            _parse_channels, "channel_names", "modality"
        )  # "modality": nnU-Net's older name
        labels = parse(_parse_labels, "labels")
        class_order = (
            parse(functools.partial(_parse_class_order, labels[0]), "regions_class_order")
            if labels
            else ()
        )
        file_ending = parse(_parse_ending, "file_ending")
        num_training = parse(_parse_num_training, "numTraining")
        patient_key = parse(_parse_patient_key, "patient_key")
        label_ending = parse(_parse_label_ending, "label_file_ending")
        if faults:
            raise (
                UserError(faults[0])
                if len(faults) == 1
                else DatasetFaults(path.parent.name, faults)
            )
        values, ignore_label = labels
        return cls(
            channel_names,
            values,
            ignore_label,
            file_ending,
            num_training,
            patient_key,
            class_order,
            label_ending,
        )


def _parse_channels(value: Any, path: Path) -> tuple[str, ...]:
    if not isinstance(value, dict) or not value:
        raise UserError(
            f'{path}: "channel_names" is {_show(value)}; write for example {{"0": "CT"}}'
        )
    expected = [str(index) for index in range(len(value))]
    if sorted(value) != sorted(expected):
        raise UserError(
            f'{path}: "channel_names" has the keys {sorted(value)}; expected {expected}'
        )
    return tuple(str(value[key]) for key in expected)


def _parse_labels(value: Any, path: Path) -> tuple[dict[str, Label], int | None]:
    if not isinstance(value, dict) or not value:
        raise UserError(
            f'{path}: "labels" is {_show(value)}; write for example {{"background": 0, "liver": 1}}'
        )
    labels = {
        name: label for name, entry in value.items() if (label := _parse_label(entry)) is not None
    }
    if len(labels) != len(value):
        broken = sorted(set(value) - set(labels))
        raise UserError(
            f"{path}: the labels {broken} have no whole number; write name: value, as in nnU-Net v2, or a list of "
            "values for a region"
        )
    ignore_label = labels.pop(IGNORE, None)
    if isinstance(ignore_label, tuple):
        raise UserError(
            f"{path}: the ignore label is {list(ignore_label)}; it has to be a single value"
        )
    if has_regions(labels):
        _check_regions(labels, path)
        values = all_values(labels)
    else:
        values = sorted(value for label in labels.values() for value in values_of(label))
    if values != list(range(len(values))):
        raise UserError(
            f'{path}: "labels" has the values {values}; expected 0 (background), 1, 2, ... without gaps'
        )
    if len(values) < 2:
        raise UserError(f'{path}: "labels" has no foreground class')
    if ignore_label is not None and ignore_label != len(values):
        raise UserError(
            f"{path}: the ignore label is {ignore_label}; it has to be the highest value, {len(values)}"
        )
    background = {name: label for name, label in labels.items() if label == 0}
    return background | foreground(labels), ignore_label


def _parse_label(entry: Any) -> Label | None:
    """A value, or the values of a region; a list of a single value is that value. None for anything else."""
    if _is_whole(entry):
        return entry
    if not isinstance(entry, list) or not entry or not all(map(_is_whole, entry)):
        return None
    values = tuple(dict.fromkeys(entry))
    return values if len(values) > 1 else values[0]


def _is_whole(entry: Any) -> bool:
    return isinstance(entry, int) and not isinstance(entry, bool)


def _check_regions(labels: dict[str, Label], path: Path) -> None:
    with_background = [
        name for name, label in labels.items() if isinstance(label, tuple) and 0 in label
    ]
    if with_background:
        raise UserError(
            f"{path}: the regions {with_background} contain 0, the background; remove it from their lists"
        )
    names: dict[frozenset[int], str] = {}
    for name, label in labels.items():
        other = names.setdefault(frozenset(values_of(label)), name)
        if other != name:
            shown = list(values_of(label))
            raise UserError(
                f"{path}: {other!r} and {name!r} have the same labels {shown}; remove one of them"
            )


def _parse_class_order(labels: dict[str, Label], value: Any, path: Path) -> tuple[int, ...]:
    """The label that is written for each region. Without regions it has no meaning, and is passed over as in nnU-Net.

    The labels that are written have to tell the regions of a voxel, or a perfect prediction would not be right.
    """
    if not has_regions(labels):
        return ()
    named = foreground(labels)
    names = ", ".join(map(repr, named))
    if not isinstance(value, list) or len(value) != len(named) or not all(map(_is_whole, value)):
        raise UserError(
            f'{path}: "regions_class_order" is {_show(value)}; write a list of {len(named)} labels, the one to be '
            f"written for each of {names}, in this order"
        )
    known = all_values(named)
    unknown = [entry for entry in value if entry not in known]
    if unknown:
        raise UserError(
            f'{path}: "regions_class_order" has {unknown}, which no region has; choose from {known}'
        )
    regions = Regions(tuple(map(values_of, named.values())), tuple(value))
    for label in known:
        written = regions.label_written_for(label)
        if regions.around(written) != regions.around(label):
            around = [
                " and ".join(list(named)[number] for number in regions.around(one))
                for one in (label, written)
            ]
            raise UserError(
                f'{path}: "regions_class_order" {value}: label {label} is in {around[0]}, but would be written as '
                f"{written}, which is in {around[1]}. Name outer regions before those within them, each with a label "
                "that no inner one has; where regions overlap, name what they share as a region after them"
            )
    return regions.class_order


def _parse_ending(value: Any, path: Path) -> str:
    if value not in supported_endings():
        raise UserError(
            f'{path}: "file_ending" is {_show(value)}; supported are {", ".join(supported_endings())}'
        )
    return str(value)


def _parse_label_ending(value: Any, path: Path) -> str | None:
    if value is not None and value not in label_endings():
        raise UserError(
            f'{path}: "label_file_ending" is {value!r}; label maps may be {", ".join(label_endings())}'
        )
    return value


def _parse_num_training(value: Any, path: Path) -> int | None:
    if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
        raise UserError(
            f'{path}: "numTraining" is {_show(value)}; write the number of cases, or remove the key'
        )
    return value


def _parse_patient_key(value: Any, path: Path) -> str | None:
    if value is None:
        return None
    try:
        re.compile(value)
    except (re.error, TypeError) as error:
        raise UserError(
            f'{path}: "patient_key" {value!r} is not a regular expression ({error})'
        ) from None
    return str(value)


def _show(value: Any) -> str:
    return "missing" if value is None else repr(value)
