"""The conversion of a folder of images and a folder of masks, of any names, into a raw data set."""

from __future__ import annotations

import logging
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from samnet.core.errors import DatasetFaults, UserError
from samnet.core.files import write_json
from samnet.core.progress import ProgressBar
from samnet.dataset.formats.itk import HEADER_ENDINGS, copy_into_one_file
from samnet.dataset.grey import is_grey
from samnet.dataset.images import (
    companions_of,
    ending_of,
    label_ending_for,
    read_image,
    variants_of,
    write_labels,
)
from samnet.dataset.mask_pairs import pair_files
from samnet.dataset.mask_rules import MaskRules
from samnet.dataset.mask_values import MaskValues, doubts
from samnet.dataset.masks import mask_codes, show_code
from samnet.dataset.new_dataset import new_dataset

log = logging.getLogger(__name__)

MOST_UNNAMED_VALUES = 32  # a mask with more values probably has soft edges
_SHOWN_CASES = 5
_SHOWN_VALUES = 8


@dataclass(frozen=True)
class Conversion:
    """The plan for converting two folders into a data set.

    Attributes:
        cases: Case name -> its image and its mask.
        channel_names: Names of the channels of an image, in their order.
        values: What a mask holds (a grey value, or the code of a colour) -> label.
        labels: Class name -> label, the background first.
        file_ending: Ending of the images of the data set.
        label_ending: Ending of the label maps of the data set.
        unmatched: Files without a partner.
        left_out: Texts that name what is neither image nor mask.
        doubts: Texts on values that are taken as `--labels` names them, though they look otherwise.
        test_cases: Names of the cases that are held out for a test.
    """

    cases: dict[str, tuple[Path, Path]]
    channel_names: tuple[str, ...]
    values: dict[int, int]
    labels: dict[str, int]
    file_ending: str
    label_ending: str
    unmatched: list[Path] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)
    test_cases: frozenset[str] = frozenset()

    def describe(self) -> str:
        """Return a text for people that says what will be done."""
        lines = [f"{len(self.cases)} cases, channels: {', '.join(self.channel_names)}"]
        if self.test_cases:
            lines.append(f"held out for a test: {', '.join(sorted(self.test_cases))}")
        for name, (image, mask) in list(self.cases.items())[:_SHOWN_CASES]:
            lines.append(f"  {name}: {image.name} with {mask.name}")
        if len(self.cases) > _SHOWN_CASES:
            lines.append(f"  ... and {len(self.cases) - _SHOWN_CASES} more")
        lines.append("values in the masks:")
        names = {label: name for name, label in self.labels.items()}
        for value, label in self.values.items():
            lines.append(f"  {show_code(value)} becomes {label} ({names[label]})")
        lines += [f"left out, without a partner: {file}" for file in self.unmatched]
        lines += [f"left out: {text}" for text in self.left_out]
        lines += [f"warning: {text}" for text in self.doubts]
        return "\n".join(lines)


def plan_conversion(
    images: Path,
    masks: Path,
    *,
    label_names: Sequence[str] | None = None,
    channel_names: Sequence[str] | None = None,
    skip_unmatched: bool = False,
    rules: MaskRules | None = None,
) -> Conversion:
    """Match images with masks and read them all, without writing anything.

    A mask belongs to the image of the same name; endings and words such as `image` and `mask` are
    ignored. The values of all masks, including colours, become the labels 1, 2, ... in ascending
    order; 0 (black) is the background. Masks in JPEG are taken as black and white.

    Args:
        images: Folder of the images.
        masks: Folder of the masks.
        label_names: Names of the foreground classes, in the order of the values.
        channel_names: Names of the channels of an image.
        skip_unmatched: Leave out files without a partner instead of reporting them.
        rules: How masks are found and read, and how many cases are held out. None for the defaults.

    Returns:
        The plan for `convert`.

    Raises:
        DatasetFaults: Files have no partner (unless they are skipped), cannot be read or do not
            fit together, or the values are no labels. All of these are reported.
        UserError: A folder is missing or holds no image, or no case is left to train on.
    """
    rules = rules or MaskRules()
    pairing = pair_files(images, masks, mask_suffix=rules.suffix, recursive=rules.recursive)
    cases = pairing.cases
    unpaired = [
        f"{file}: has no partner; rename, add or remove a file, or add --skip-unmatched"
        for file in pairing.unmatched
    ]
    if not cases:
        faults = [*pairing.faults, *unpaired]
        raise DatasetFaults(f"{images} and {masks} have no case in common", faults)
    contents = _read_all(images, cases)
    values = rules.values_of(contents.masks)
    foreground = sorted(set(values.values()) - {0})
    names = tuple(channel_names or _default_channels(contents.num_channels))
    label_faults = _label_faults(masks, foreground, label_names)
    doubted = doubts(masks, contents.masks, is_binary=rules.binary, is_nearest=rules.nearest)
    # Names for all values say that each of them is meant.
    is_named = label_names is not None and not label_faults
    faults = [
        *pairing.faults,
        *_ending_faults(images, [image for image, _ in cases.values()]),
        *_ending_faults(masks, [mask for _, mask in cases.values()]),
        *([] if skip_unmatched else unpaired),
        *contents.faults,
        *([] if is_named else doubted),
        *([] if doubted and label_names is None else label_faults),
        *_channel_faults(names, contents.num_channels),
    ]
    if faults:
        raise DatasetFaults(f"{images} and {masks} cannot be converted", faults)
    first_image, first_mask = next(iter(cases.values()))
    classes = label_names or _default_classes(foreground)
    numbers = {0: 0} | {value: label for label, value in enumerate(foreground, 1)}
    return Conversion(
        cases=cases,
        channel_names=names,
        values={0: 0} | {value: numbers[kept] for value, kept in sorted(values.items())},
        labels={"background": 0} | {name: label for label, name in enumerate(classes, 1)},
        file_ending=_copied_ending(first_image),
        label_ending=label_ending_for(first_mask),
        unmatched=pairing.unmatched,
        left_out=pairing.left_out,
        doubts=doubted,
        test_cases=rules.held_out(list(cases)),
    )


@dataclass(frozen=True)
class _Contents:
    """What all files hold together: values of each mask, channels of an image, and faults."""

    masks: list[MaskValues]
    num_channels: int
    faults: list[str]


def _read_all(images: Path, cases: dict[str, tuple[Path, Path]]) -> _Contents:
    values = []
    channels: Counter[int] = Counter()
    num_grey = 0
    faults = []
    for image_file, mask_file in ProgressBar(cases.values(), desc="reading", unit="case"):
        try:
            image, (mask, codes) = read_image([image_file]), mask_codes(mask_file)
        except UserError as error:
            faults.append(str(error))
            continue
        channels[image.array.shape[0]] += 1
        num_grey += is_grey(image.array)
        values.append(MaskValues.of(mask_file, codes))
        difference = mask.grid.difference(image.grid)
        if difference is not None and difference.kind == "shape":
            faults.append(f"{mask_file}: {difference.describe(str(image_file))}")
    if set(channels) <= {1, 3} and num_grey == channels[3] > 0:
        # The files are copied unchanged, and read as one channel each.
        log.info("%s: %d images are grey, stored in colour; taken as grey", images, num_grey)
        channels = Counter({1: channels.total()})
    if len(channels) > 1:
        counts = ", ".join(
            f"{count} images with {number}" for number, count in sorted(channels.items())
        )
        faults.append(
            f"{images}: the images differ in their channels ({counts}); convert them apart"
        )
    return _Contents(values, max(channels, default=1), faults)


def _ending_faults(folder: Path, files: list[Path]) -> list[str]:
    endings = Counter(ending_of(file) or "" for file in files)
    if not endings or set(endings) <= set(variants_of(next(iter(endings)))):
        return []
    counts = ", ".join(f"{count} {ending}" for ending, count in sorted(endings.items()))
    return [
        f"{folder}: files of several kinds ({counts}); convert each kind apart, or save all as one"
    ]


def _label_faults(masks: Path, values: list[int], label_names: Sequence[str] | None) -> list[str]:
    if not values:
        return [f"{masks}: all masks are 0, there is nothing to learn"]
    if label_names is not None:
        distinct = {name.strip().casefold() for name in (*label_names, "background")}
        is_distinct = len(distinct) == len(label_names) + 1
        if len(label_names) == len(values) and is_distinct:
            return []
        shown = ", ".join(show_code(value) for value in values[:_SHOWN_VALUES])
        return [
            f"--labels {' '.join(label_names)}: the masks hold {len(values)} values ({shown}); "
            "give each its own name"
        ]
    if len(values) > MOST_UNNAMED_VALUES:
        return [
            f"{masks}: the masks hold {len(values)} different values; if their edges are soft, "
            "make them two-valued, else name the classes with --labels"
        ]
    return []


def _channel_faults(names: tuple[str, ...], num_channels: int) -> list[str]:
    if len(names) == num_channels:
        return []
    return [f"--channels names {len(names)} channels, the images have {num_channels}"]


def _default_classes(values: list[int]) -> list[str]:
    if len(values) == 1:
        return ["foreground"]
    return [f"class_{show_code(value)}" for value in values]


def _default_channels(count: int) -> list[str]:
    if count == 3:
        return ["R", "G", "B"]
    return ["image"] if count == 1 else [f"channel_{number}" for number in range(count)]


def convert(conversion: Conversion, folder: Path) -> None:
    """Write a raw data set. The folder is either complete or absent.

    Args:
        conversion: The plan from `plan_conversion`.
        folder: The folder of the data set to create.

    Raises:
        UserError: A file can no longer be read.
    """
    with new_dataset(folder) as target:
        if conversion.test_cases:
            (target / "imagesTs").mkdir()
            (target / "labelsTs").mkdir()
        for name, (image, mask) in ProgressBar(
            conversion.cases.items(), desc="writing", unit="case"
        ):
            part = "Ts" if name in conversion.test_cases else "Tr"
            _copy_image(image, target / f"images{part}", name)
            _write_label_map(mask, conversion.values, target / f"labels{part}", name)
        channel_names = {str(index): name for index, name in enumerate(conversion.channel_names)}
        description = {
            "channel_names": channel_names,
            "labels": conversion.labels,
            "numTraining": len(conversion.cases) - len(conversion.test_cases),
            "file_ending": conversion.file_ending,
        }
        if conversion.label_ending != conversion.file_ending:
            description["label_file_ending"] = conversion.label_ending
        write_json(target / "dataset.json", description)


def _write_label_map(mask: Path, values: dict[int, int], folder: Path, name: str) -> None:
    reference, codes = mask_codes(mask)
    labels = np.zeros(codes.shape, np.uint16)
    for value, label in values.items():
        labels[codes == value] = label
    write_labels(labels, reference, folder / f"{name}{label_ending_for(mask)}")


def _copied_ending(image: Path) -> str:
    """Return the ending of an image in the data set, where header and voxels are one file."""
    ending = ending_of(image) or ""
    return {".mhd": ".mha", ".nhdr": ".nrrd"}.get(ending, ending)


def _copy_image(image: Path, folder: Path, name: str) -> None:
    """Copy an image, together with the files that its content comes from."""
    copy = folder / f"{name}_0000{_copied_ending(image)}"
    companions = companions_of(image)
    if companions and ending_of(image) in HEADER_ENDINGS:
        copy_into_one_file(image, copy)
        return
    shutil.copyfile(image, copy)
    for companion in companions:
        shutil.copyfile(companion, folder / f"{name}{companion.suffix}")
