"""`dataset.json`: what the channels, labels and files of a raw data set are called."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from samnet.core.errors import DatasetFaults, UserError
from samnet.core.files import read_json
from samnet.dataset.images import label_ending_for, label_endings, supported_endings, variants_of
from samnet.dataset.label_scheme import Label, LabelScheme, all_values, has_regions, values_of

DESCRIPTION_FILE = "dataset.json"
IGNORE = "ignore"


@dataclass(frozen=True)
class DatasetDescription:
    """The content of nnU-Net's `dataset.json` that samnet uses.

    Attributes:
        channel_names: Names of the image channels, in channel order.
        labels: Name -> value of a class, or values of a region; see `LabelScheme`.
        ignore_label: The value of voxels that are not labelled, or None.
        file_ending: Ending of images with the leading dot; also that of label maps, unless
            `label_ending` says otherwise.
        num_training: Declared number of training cases, or None. The integrity check compares it
            with what is there.
        patient_key: Regular expression whose first group (or whole match) in the name of a case is
            its patient. samnet's own optional key; without it the planner looks for one.
        regions_class_order: The label that is written for each region; empty without regions.
        label_ending: Ending of label maps where it differs from that of images; samnet's own
            optional key `label_file_ending`.
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
    def label_scheme(self) -> LabelScheme:
        """The classes or regions and the ignore label, as one value to pass on."""
        return LabelScheme(self.labels, self.ignore_label, self.regions_class_order)

    @property
    def label_file_ending(self) -> str:
        """The ending of label maps with the leading dot. PNG for JPEG images unless declared."""
        return self.label_ending or label_ending_for(Path(f"image{self.file_ending}"))

    @property
    def label_map_endings(self) -> tuple[str, ...]:
        """The endings that references and predictions may have."""
        predicted = label_ending_for(Path(f"image{self.file_ending}"))
        return tuple(dict.fromkeys((*variants_of(self.label_file_ending), *variants_of(predicted))))

    def as_json(self) -> dict[str, Any]:
        """Return a `dataset.json` that says what a model expects and what its labels mean.

        Returns:
            The content with nnU-Net's keys.
        """
        scheme = self.label_scheme
        labels: dict[str, Any] = dict(scheme.labels)
        if scheme.ignore_label is not None:
            labels[IGNORE] = scheme.ignore_label
        regions = {"regions_class_order": scheme.regions_class_order} if scheme.regions else {}
        return {
            "channel_names": {str(index): name for index, name in enumerate(self.channel_names)},
            "labels": labels,
            **regions,
            "file_ending": self.file_ending,
        }

    @classmethod
    def load(cls, path: Path) -> DatasetDescription:
        """Read and check a `dataset.json`.

        Args:
            path: The file.

        Returns:
            Its content.

        Raises:
            UserError: The file is missing or not JSON, or one key is missing or not usable.
            DatasetFaults: Several keys are missing or not usable; the report names all.
        """
        content = read_json(path)
        if not isinstance(content, dict):
            raise UserError(
                f"{path}: expected a JSON object with channel_names, labels and file_ending"
            )
        faults: list[str] = []

        def parse(parser: Callable[[Any, Path], Any], *keys: str) -> Any:
            value = next((content[key] for key in keys if key in content), None)
            try:
                return parser(value, path)
            except UserError as error:
                faults.append(str(error))

        # "modality" is nnU-Net's older name of the channels.
        channel_names = parse(_parse_channels, "channel_names", "modality")
        scheme = parse(_parse_labels, "labels")
        if scheme is not None:
            parse_order = functools.partial(_parse_class_order, scheme)
            scheme = parse(parse_order, "regions_class_order")
        file_ending = parse(_parse_ending, "file_ending")
        num_training = parse(_parse_num_training, "numTraining")
        patient_key = parse(_parse_patient_key, "patient_key")
        label_ending = parse(_parse_label_ending, "label_file_ending")
        if len(faults) == 1:
            raise UserError(faults[0])
        if faults:
            raise DatasetFaults(path.parent.name, faults)
        return cls(
            channel_names=channel_names,
            labels=scheme.labels,
            ignore_label=scheme.ignore_label,
            file_ending=file_ending,
            num_training=num_training,
            patient_key=patient_key,
            regions_class_order=scheme.regions_class_order,
            label_ending=label_ending,
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


def _parse_labels(value: Any, path: Path) -> LabelScheme:
    """Read the labels; the order in which regions are written is another key."""
    if not isinstance(value, dict) or not value:
        raise UserError(
            f'{path}: "labels" is {_show(value)}; write for example {{"background": 0, "liver": 1}}'
        )
    parsed = {name: _parse_label(entry) for name, entry in value.items()}
    labels = {name: label for name, label in parsed.items() if label is not None}
    if len(labels) != len(value):
        broken = sorted(set(value) - set(labels))
        raise UserError(
            f"{path}: the labels {broken} have no whole number; write name: value, as in nnU-Net "
            "v2, or a list of values for a region"
        )
    ignore_label = labels.pop(IGNORE, None)
    if isinstance(ignore_label, tuple):
        raise UserError(
            f"{path}: the ignore label is {list(ignore_label)}; it has to be a single value"
        )
    _check_values(labels, ignore_label, path)
    background: dict[str, Label] = {name: label for name, label in labels.items() if label == 0}
    return LabelScheme(background | LabelScheme(labels).foreground, ignore_label)


def _check_values(labels: dict[str, Label], ignore_label: int | None, path: Path) -> None:
    """Check that the values are 0, 1, 2, ... and the ignore label is the next one."""
    if has_regions(labels):
        _check_regions(labels, path)
        values = all_values(labels)
    else:
        values = sorted(values_of(label)[0] for label in labels.values())  # not each once
    if values != list(range(len(values))):
        raise UserError(
            f'{path}: "labels" has the values {values}; expected 0 (background), 1, 2, ... without '
            "gaps"
        )
    if len(values) < 2:
        raise UserError(f'{path}: "labels" has no foreground class')
    if ignore_label is not None and ignore_label != len(values):
        raise UserError(
            f"{path}: the ignore label is {ignore_label}; it has to be the highest value, "
            f"{len(values)}"
        )


def _parse_label(entry: Any) -> Label | None:
    """Read a value or a list of values, of which a single one is that value; else None."""
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
            f"{path}: the regions {with_background} contain 0, the background; remove it from "
            "their lists"
        )
    names: dict[frozenset[int], str] = {}
    for name, label in labels.items():
        other = names.setdefault(frozenset(values_of(label)), name)
        if other != name:
            shown = list(values_of(label))
            raise UserError(
                f"{path}: {other!r} and {name!r} have the same labels {shown}; remove one of them"
            )


def _parse_class_order(scheme: LabelScheme, value: Any, path: Path) -> LabelScheme:
    """Add the label that is written for each region.

    Without regions the key has no meaning, and is ignored as in nnU-Net. The labels that are
    written have to identify the regions of a voxel, or a perfect prediction would not be right.
    """
    if not has_regions(scheme.labels):
        return scheme
    names = list(scheme.foreground)
    is_list = isinstance(value, list) and all(map(_is_whole, value))
    if not is_list or len(value) != len(names):
        raise UserError(
            f'{path}: "regions_class_order" is {_show(value)}; write a list of {len(names)} '
            f"labels, the one to be written for each of {', '.join(map(repr, names))}, in this "
            "order"
        )
    known = all_values(scheme.foreground)
    unknown = [entry for entry in value if entry not in known]
    if unknown:
        raise UserError(
            f'{path}: "regions_class_order" has {unknown}, which no region has; choose from {known}'
        )
    ordered = replace(scheme, regions_class_order=tuple(value))
    for label in known:
        _check_written_label(ordered, label, path)
    return ordered


def _check_written_label(scheme: LabelScheme, label: int, path: Path) -> None:
    """Refuse an order that writes a label as one of other regions."""
    regions = scheme.regions
    assert regions is not None
    written = regions.label_written_for(label)
    if regions.around(written) == regions.around(label):
        return
    names = list(scheme.foreground)
    inside = " and ".join(names[number] for number in regions.around(label))
    written_inside = " and ".join(names[number] for number in regions.around(written))
    raise UserError(
        f'{path}: "regions_class_order" {list(regions.class_order)}: label {label} is in {inside}, '
        f"but would be written as {written}, which is in {written_inside}. Name outer regions "
        "before those within them, each with a label that no inner one has; where regions overlap, "
        "name what they share as a region after them"
    )


def _parse_ending(value: Any, path: Path) -> str:
    if value not in supported_endings():
        raise UserError(
            f'{path}: "file_ending" is {_show(value)}; supported are '
            f"{', '.join(supported_endings())}"
        )
    return str(value)


def _parse_label_ending(value: Any, path: Path) -> str | None:
    if value is not None and value not in label_endings():
        raise UserError(
            f'{path}: "label_file_ending" is {value!r}; label maps may be '
            f"{', '.join(label_endings())}"
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
