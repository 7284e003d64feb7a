"""`dataset.json`: what the channels, labels and files of a raw data set are called."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samnet.core.errors import DatasetFaults, UserError
from samnet.core.files import read_json
from samnet.dataset.images import label_ending_for, label_endings, supported_endings, variants_of

IGNORE = "ignore"


@dataclass(frozen=True)
class DatasetDescription:
    """The content of nnU-Net's `dataset.json` that samnet uses.

    channel_names: in channel order.
    labels: name -> value, background first, without the ignore label.
    ignore_label: the value whose voxels are not labelled, or None.
    file_ending: of images, and of label maps unless `label_ending` says otherwise, with the leading dot.
    num_training: as declared, or None; the integrity check compares it with what is there.
    patient_key: a regular expression whose first group (or whole match) in a case's name is its patient. samnet's own
        optional key; without it the planner looks for one.
    label_ending: of label maps where it is not that of images; samnet's own optional key `label_file_ending`.
    """

    channel_names: tuple[str, ...]
    labels: dict[str, int]
    ignore_label: int | None
    file_ending: str
    num_training: int | None = None
    patient_key: str | None = None
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

    @property
    def class_names(self) -> tuple[str, ...]:
        """The foreground classes in the order of their values."""
        return tuple(name for name, value in self.labels.items() if value != 0)

    @property
    def num_classes(self) -> int:
        """The foreground classes; the network has one output more, for the background."""
        return len(self.class_names)

    @classmethod
    def load(cls, path: Path) -> DatasetDescription:
        """Read and check `dataset.json`.

        Raises:
            UserError: the file is missing or not JSON, or keys are missing or have unusable values: all are reported.
        """
        content = read_json(path)
        if not isinstance(content, dict):
            raise UserError(f"{path}: expected a JSON object with channel_names, labels and file_ending")
        faults: list[str] = []

        def parse(parser: Callable[[Any, Path], Any], *keys: str) -> Any:
            try:
                return parser(next((content[key] for key in keys if key in content), None), path)
            except UserError as error:
                faults.append(str(error))

        channel_names = parse(_parse_channels, "channel_names", "modality")  # "modality": nnU-Net's older name
        labels = parse(_parse_labels, "labels")
        file_ending = parse(_parse_ending, "file_ending")
        num_training = parse(_parse_num_training, "numTraining")
        patient_key = parse(_parse_patient_key, "patient_key")
        label_ending = parse(_parse_label_ending, "label_file_ending")
        if faults:
            raise UserError(faults[0]) if len(faults) == 1 else DatasetFaults(path.parent.name, faults)
        values, ignore_label = labels
        return cls(channel_names, values, ignore_label, file_ending, num_training, patient_key, label_ending)


def _parse_channels(value: Any, path: Path) -> tuple[str, ...]:
    if not isinstance(value, dict) or not value:
        raise UserError(f'{path}: "channel_names" is {_show(value)}; write for example {{"0": "CT"}}')
    expected = [str(index) for index in range(len(value))]
    if sorted(value) != sorted(expected):
        raise UserError(f'{path}: "channel_names" has the keys {sorted(value)}; expected {expected}')
    return tuple(str(value[key]) for key in expected)


def _parse_labels(value: Any, path: Path) -> tuple[dict[str, int], int | None]:
    if not isinstance(value, dict) or not value:
        raise UserError(f'{path}: "labels" is {_show(value)}; write for example {{"background": 0, "liver": 1}}')
    regions = [name for name, entry in value.items() if isinstance(entry, (list, tuple))]
    if regions:
        raise UserError(
            f"{path}: the labels {regions} are regions (lists of values), which this version of samnet cannot train. "
            "Give every class one value."
        )
    values = {name: entry for name, entry in value.items() if isinstance(entry, int) and not isinstance(entry, bool)}
    if len(values) != len(value):
        broken = sorted(set(value) - set(values))
        raise UserError(f"{path}: the labels {broken} have no whole number; write name: value, as in nnU-Net v2")
    ignore_label = values.pop(IGNORE, None)
    ordered = dict(sorted(values.items(), key=lambda entry: entry[1]))
    if list(ordered.values()) != list(range(len(ordered))):
        raise UserError(
            f'{path}: "labels" has the values {list(ordered.values())}; expected 0 (background), 1, 2, ... without gaps'
        )
    if len(ordered) < 2:
        raise UserError(f'{path}: "labels" has no foreground class')
    if ignore_label is not None and ignore_label != len(ordered):
        raise UserError(f"{path}: the ignore label is {ignore_label}; it has to be the highest value, {len(ordered)}")
    return ordered, ignore_label


def _parse_ending(value: Any, path: Path) -> str:
    if value not in supported_endings():
        raise UserError(f'{path}: "file_ending" is {_show(value)}; supported are {", ".join(supported_endings())}')
    return str(value)


def _parse_label_ending(value: Any, path: Path) -> str | None:
    if value is not None and value not in label_endings():
        raise UserError(f'{path}: "label_file_ending" is {value!r}; label maps may be {", ".join(label_endings())}')
    return value


def _parse_num_training(value: Any, path: Path) -> int | None:
    if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
        raise UserError(f'{path}: "numTraining" is {_show(value)}; write the number of cases, or remove the key')
    return value


def _parse_patient_key(value: Any, path: Path) -> str | None:
    if value is None:
        return None
    try:
        re.compile(value)
    except (re.error, TypeError) as error:
        raise UserError(f'{path}: "patient_key" {value!r} is not a regular expression ({error})') from None
    return str(value)


def _show(value: Any) -> str:
    return "missing" if value is None else repr(value)
