"""A folder of images and a folder of masks, of any names, as a raw data set."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

from samnet.core.errors import DatasetFaults, UserError
from samnet.core.files import write_json
from samnet.dataset.formats.image import Image
from samnet.dataset.formats.itk import copy_into_one_file
from samnet.dataset.images import (
    companions_of,
    ending_of,
    label_ending_for,
    label_endings,
    name_without_ending,
    read_image,
    supported_endings,
    variants_of,
    write_labels,
)
from samnet.dataset.new_dataset import making_dataset

MOST_UNNAMED_VALUES = 32  # more look like a mask with soft edges
_ROLES = re.compile(
    r"(?:^|(?<=[\W_]))(?:images?|imgs?|masks?|segs?|segmentations?|labels?|gt|ground[\W_]?truth|annotations?)(?=[\W_]|$)",
    re.IGNORECASE,
)
_EDGES = re.compile(r"^[\W_]+|[\W_]+$")
_COLOUR = 1 << 24  # codes from here on are colours, below them grey values
_SOFT_SHARE = 0.05


@dataclass(frozen=True)
class Conversion:
    """What is to be made of two folders.

    cases: image and mask by case. values: what a mask holds (a grey value, or a colour's code) -> label.
    labels: name -> label, the background first. unmatched: files without a partner.
    file_ending, label_ending: of the data set.
    """

    cases: dict[str, tuple[Path, Path]]
    channel_names: tuple[str, ...]
    values: dict[int, int]
    labels: dict[str, int]
    file_ending: str
    label_ending: str
    unmatched: list[Path] = field(default_factory=list)

    def describe(self) -> str:
        """What would be done, for people."""
        names = {label: name for name, label in self.labels.items()}
        lines = [f"{len(self.cases)} cases, channels: {', '.join(self.channel_names)}"]
        lines += [
            f"  {name}: {image.name} with {mask.name}"
            for name, (image, mask) in list(self.cases.items())[:5]
        ]
        lines += [f"  ... and {len(self.cases) - 5} more"] if len(self.cases) > 5 else []
        lines += ["values in the masks:"]
        lines += [
            f"  {_show(value)} becomes {label} ({names[label]})"
            for value, label in self.values.items()
        ]
        lines += [f"left out, without a partner: {file}" for file in self.unmatched]
        return "\n".join(lines)


def plan_conversion(
    images: Path,
    masks: Path,
    *,
    label_names: Sequence[str] | None = None,
    channel_names: Sequence[str] | None = None,
    skip_unmatched: bool = False,
) -> Conversion:
    """Match images with masks and read them all, without writing anything.

    A mask belongs to the image of the same name, words such as `image` and `mask` and endings apart. The values of all
    masks, colours included, become the labels 1, 2, ... in ascending order; 0 (black) is the background. Masks in JPEG
    are taken as two-valued.

    label_names: of the foreground, in the order of the values. channel_names: of an image.

    Raises:
        DatasetFaults: files have no partner (unless they are to be skipped), cannot be read or do not fit together, or
            the values are no labels; all are reported.
    """
    image_files, mask_files = _files(images), _files(masks)
    cases, unmatched = _match(image_files, mask_files)
    faults = _ending_faults(images, [image for image, _ in cases.values()])
    faults += _ending_faults(masks, [mask for _, mask in cases.values()])
    unpaired = [
        f"{file}: has no partner; rename, add or remove a file, or add --skip-unmatched"
        for file in unmatched
    ]
    if not cases:
        raise DatasetFaults(f"{images} and {masks} have no case in common", unpaired)
    if not skip_unmatched:
        faults += unpaired
    contents = _read_all(images, cases)
    foreground = sorted(contents.values - {0})
    faults += contents.faults + _label_faults(masks, foreground, label_names)
    names = tuple(channel_names or _default_channels(contents.num_channels))
    if len(names) != contents.num_channels:
        faults.append(
            f"--channels names {len(names)} channels, the images have {contents.num_channels}"
        )
    if faults:
        raise DatasetFaults(f"{images} and {masks} cannot be converted", faults)
    first_image, first_mask = next(iter(cases.values()))
    classes = label_names or _default_classes(foreground)
    return Conversion(
        cases=cases,
        channel_names=names,
        values={0: 0} | {value: label for label, value in enumerate(foreground, 1)},
        labels={"background": 0} | {name: label for label, name in enumerate(classes, 1)},
        file_ending=_copied_ending(first_image),
        label_ending=label_ending_for(first_mask),
        unmatched=unmatched,
    )


@dataclass(frozen=True)
class _Contents:
    """What all files hold together: the values in the masks, the channels of an image, and what does not fit."""

    values: set[int]
    num_channels: int
    faults: list[str]


def _read_all(images: Path, cases: dict[str, tuple[Path, Path]]) -> _Contents:
    values: set[int] = set()
    channels: Counter[int] = Counter()
    faults = []
    for image_file, mask_file in tqdm(cases.values(), desc="reading", unit="case"):
        try:
            image, codes = read_image([image_file]), mask_codes(mask_file)[1]
        except UserError as error:
            faults.append(str(error))
            continue
        channels[image.array.shape[0]] += 1
        values |= {int(value) for value in np.unique(codes)}
        if codes.shape != image.grid.shape:
            faults.append(
                f"{mask_file}: shape {codes.shape} (z, y, x) differs from {image.grid.shape} of {image_file}"
            )
    if len(channels) > 1:
        counts = ", ".join(
            f"{count} images with {number}" for number, count in sorted(channels.items())
        )
        faults.append(
            f"{images}: the images differ in their channels ({counts}); convert them apart"
        )
    return _Contents(values, max(channels, default=1), faults)


def _files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    files = [
        file
        for file in sorted(folder.iterdir())
        if file.is_file() and not file.name.startswith(".")
    ]
    found = [file for file in files if ending_of(file) is not None]
    if not found:
        raise UserError(f"{folder}: no image in it; supported are {', '.join(supported_endings())}")
    return found


def _match(
    images: list[Path], masks: list[Path]
) -> tuple[dict[str, tuple[Path, Path]], list[Path]]:
    """Cases, and files that have no partner or more than one."""
    cases: dict[str, tuple[Path, Path]] = {}
    left_images, left_masks = list(images), list(masks)
    for key in (name_without_ending, _core):
        by_key = [Counter(key(file) for file in files) for files in (left_images, left_masks)]
        partners = {key(mask): mask for mask in left_masks}
        for image in list(left_images):
            name = key(image)
            if by_key[0][name] == by_key[1][name] == 1 and name_without_ending(image) not in cases:
                cases[name_without_ending(image)] = image, partners[name]
                left_images.remove(image)
                left_masks.remove(partners[name])
    return dict(sorted(cases.items())), [*left_images, *left_masks]


def _core(file: Path) -> str:
    """A file's name without the words that say whether it is an image or a mask."""
    without = _ROLES.sub("", name_without_ending(file))
    return re.sub(r"[\W_]+", "_", _EDGES.sub("", without))


def _ending_faults(folder: Path, files: list[Path]) -> list[str]:
    endings = Counter(ending_of(file) or "" for file in files)
    if not endings or set(endings) <= set(variants_of(next(iter(endings)))):
        return []
    counts = ", ".join(f"{count} {ending}" for ending, count in sorted(endings.items()))
    return [
        f"{folder}: files of several kinds ({counts}); convert each kind apart, or save all as one"
    ]


def mask_codes(file: Path) -> tuple[Image, np.ndarray]:
    """A mask, and what it holds as whole numbers `(Z, Y, X)`: grey values, or codes of colours.

    Raises:
        UserError: the file cannot be read, or holds fractions, negative numbers or, as JPEG, not just black and white.
    """
    image = read_image([file])
    array = image.array
    if array.dtype.kind == "f" and not np.array_equal(np.rint(array), array):
        raise UserError(
            f"{file}: has values that are not whole numbers; save the labels as integers"
        )
    if array.min() < 0 or array.max() > 65535:
        raise UserError(
            f"{file}: values go from {array.min()} to {array.max()}; expected 0 to 65535"
        )
    channels = array.astype(np.int64)
    if len(channels) not in (1, 3):
        raise UserError(f"{file}: has {len(channels)} channels; expected a grey or colour mask")
    codes = channels[0]
    if len(channels) == 3:
        red, green, blue = channels
        colours = _COLOUR | red << 16 | green << 8 | blue
        codes = np.where((red == green) & (green == blue), red, colours)
    if ending_of(file) not in label_endings():
        codes = _black_or_white(codes, file)
    return image, codes


def _black_or_white(codes: np.ndarray, file: Path) -> np.ndarray:
    """What a two-valued mask was before JPEG blurred its edges."""
    grey = np.where(
        codes >= _COLOUR, codes >> 8 & 255, codes
    )  # of a colour, green is nearest to its brightness
    if ((grey > 63) & (grey < 192)).mean() > _SOFT_SHARE:
        raise UserError(
            f"{file}: a JPEG mask that is more than black and white; save the masks as PNG"
        )
    return np.where(grey > 127, 255, 0)


def _label_faults(masks: Path, values: list[int], label_names: Sequence[str] | None) -> list[str]:
    if not values:
        return [f"{masks}: all masks are 0, there is nothing to learn"]
    if label_names is not None and (
        len(label_names) != len(values) or len({*label_names, "background"}) <= len(values)
    ):
        shown = ", ".join(_show(value) for value in values[:8])
        return [
            f"--labels {' '.join(label_names)}: the masks hold {len(values)} values ({shown}); give each its own name"
        ]
    if label_names is None and len(values) > MOST_UNNAMED_VALUES:
        return [
            f"{masks}: the masks hold {len(values)} different values; if their edges are soft, make them two-valued, "
            "else name the classes with --labels"
        ]
    return []


def _default_classes(values: list[int]) -> list[str]:
    return ["foreground"] if len(values) == 1 else [f"class_{_show(value)}" for value in values]


def _default_channels(count: int) -> list[str]:
    if count == 3:
        return ["R", "G", "B"]
    return ["image"] if count == 1 else [f"channel_{number}" for number in range(count)]


def _show(value: int) -> str:
    return f"#{value - _COLOUR:06x}" if value >= _COLOUR else str(value)


def convert(conversion: Conversion, folder: Path) -> None:
    """Make the raw data set `folder`; it is whole or absent.

    Raises:
        UserError: a file cannot be read any more.
    """
    with making_dataset(folder) as target:
        for name, (image, mask) in tqdm(conversion.cases.items(), desc="writing", unit="case"):
            _copy_image(image, target / "imagesTr", name)
            reference, codes = mask_codes(mask)
            labels = np.zeros(codes.shape, np.uint16)
            for value, label in conversion.values.items():
                labels[codes == value] = label
            ending = label_ending_for(mask)
            write_labels(labels, reference, target / "labelsTr" / f"{name}{ending}")
        description = {
            "channel_names": {
                str(index): name for index, name in enumerate(conversion.channel_names)
            },
            "labels": conversion.labels,
            "numTraining": len(conversion.cases),
            "file_ending": conversion.file_ending,
        }
        if conversion.label_ending != conversion.file_ending:
            description["label_file_ending"] = conversion.label_ending
        write_json(target / "dataset.json", description)


def _copied_ending(image: Path) -> str:
    """A header and its voxels become one file."""
    ending = ending_of(image) or ""
    return ".mha" if ending == ".mhd" else ending


def _copy_image(image: Path, folder: Path, name: str) -> None:
    """Copy with what lies beside."""
    copy = folder / f"{name}_0000{_copied_ending(image)}"
    if ending_of(image) == ".mhd":
        copy_into_one_file(image, copy)
        return
    shutil.copyfile(image, copy)
    for beside in companions_of(image):
        shutil.copyfile(beside, folder / f"{name}{beside.suffix}")
