"""The conversion of a folder of images and a folder of masks, of any names, into a raw data set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from samnet.core.errors import DatasetFaults
from samnet.dataset.folder_contents import FolderContents, ending_faults, read_contents
from samnet.dataset.images import ending_of, label_ending_for
from samnet.dataset.mask_rules import MaskRules
from samnet.dataset.mask_values import doubts
from samnet.dataset.masks import show_code
from samnet.dataset.pairing import CaseFiles, Pairing, pair_files
from samnet.dataset.pairing.bids import PATIENT_KEY, is_bids_name
from samnet.dataset.pairing.part_files import part_name
from samnet.dataset.splits import find_patient_key

MOST_UNNAMED_VALUES = 32  # a mask with more values probably has soft edges
_SHOWN_CASES = 5
_SHOWN_FILES = 4
_SHOWN_VALUES = 8


@dataclass(frozen=True)
class Conversion:
    """The plan for converting two folders into a data set.

    Attributes:
        cases: Case name -> its image files and masks.
        channel_names: Names of the channels of an image, in their order.
        values: What a mask holds (a grey value, the code of a colour, or the number of the class
            that the mask is of) -> label.
        labels: Class name -> label, the background first.
        file_ending: Ending of the images of the data set.
        label_ending: Ending of the label maps of the data set.
        rules: How masks are read.
        left_out: Texts that name all files that do not become part of the data set.
        notes: Texts on what was found in the names, and what is taken as empty.
        doubts: Texts on what is taken as given, though it looks otherwise.
        test_cases: Names of the cases that are held out for a test.
        patient_key: Regular expression that finds the patient in the name of a case, or None.
    """

    cases: dict[str, CaseFiles]
    channel_names: tuple[str, ...]
    values: dict[int, int]
    labels: dict[str, int]
    file_ending: str
    label_ending: str
    rules: MaskRules = field(default_factory=MaskRules)
    left_out: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)
    test_cases: frozenset[str] = frozenset()
    patient_key: str | None = None

    def describe(self) -> str:
        """Return a text for people that says what will be done."""
        lines = [f"{len(self.cases)} cases, channels: {', '.join(self.channel_names)}"]
        lines += self.notes
        if self.test_cases:
            lines.append(f"held out for a test: {', '.join(sorted(self.test_cases))}")
        for name, case in list(self.cases.items())[:_SHOWN_CASES]:
            images, masks = (_listed(files) for files in (case.images, case.mask_files))
            lines.append(f"  {name}: {images} with {masks}")
        if len(self.cases) > _SHOWN_CASES:
            lines.append(f"  ... and {len(self.cases) - _SHOWN_CASES} more")
        lines += self._describe_labels()
        lines += [f"left out{text}" for text in self.left_out]
        lines += [f"warning: {text}" for text in self.doubts]
        return "\n".join(lines)

    def _describe_labels(self) -> list[str]:
        if self.rules.class_suffixes:
            classes = ", ".join(f"{label} {name}" for name, label in self.labels.items())
            return [f"labels: {classes}"]
        names = {label: name for name, label in self.labels.items()}
        return [
            "values in the masks:",
            *(
                f"  {show_code(value)} becomes {label} ({names[label]})"
                for value, label in self.values.items()
            ),
        ]


def _listed(files: Sequence[Path]) -> str:
    more = f" and {len(files) - _SHOWN_FILES} more" if len(files) > _SHOWN_FILES else ""
    return " + ".join(file.name for file in files[:_SHOWN_FILES]) + more


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
    order; 0 (black) is the background. Masks in JPEG are taken as black and white. Where each class
    has a mask of its own, the classes become the labels 1, 2, ... in the order of the rules.

    Args:
        images: Folder of the images.
        masks: Folder of the masks.
        label_names: Names of the foreground classes, in the order of the values.
        channel_names: Names of the channels of an image.
        skip_unmatched: Leave out files without a partner, and cases that lack a channel or class,
            instead of reporting them.
        rules: How masks are found and read, and how many cases are held out. None for the defaults.

    Returns:
        The plan for `convert`.

    Raises:
        DatasetFaults: Files have no partner (unless they are skipped), cannot be read or do not
            fit together, or the values are no labels. All of these are reported.
        UserError: A folder is missing or holds no image, or no case is left to train on.
    """
    rules = rules or MaskRules()
    pairing = pair_files(images, masks, rules)
    cases = pairing.cases
    unpaired = [
        f"{file}: has no partner; rename, add or remove a file, or add --skip-unmatched"
        for file in pairing.unmatched
    ]
    unpaired += pairing.incomplete
    hint = "".join(f"; try {option}" for option in pairing.suggestions)
    if not cases:
        faults = [*pairing.faults, *unpaired]
        raise DatasetFaults(f"{images} and {masks} have no case in common{hint}", faults)
    contents = read_contents(images, cases, rules)
    classes = _find_classes(masks, contents, label_names, rules)
    names = tuple(channel_names or _default_channels(contents.num_channels, rules, pairing))
    faults = [
        *pairing.faults,
        *ending_faults(images, [file for case in cases.values() for file in case.images]),
        *ending_faults(masks, [file for case in cases.values() for file in case.mask_files]),
        *([] if skip_unmatched else unpaired),
        *contents.faults,
        *classes.faults,
        *_channel_faults(names, contents.num_channels),
    ]
    if faults:
        raise DatasetFaults(f"{images} and {masks} cannot be converted{hint}", faults)
    first = next(iter(cases.values()))
    patient_key = PATIENT_KEY if all(map(is_bids_name, cases)) else None
    return Conversion(
        cases=cases,
        channel_names=names,
        values=classes.values,
        labels={"background": 0} | {name: label for label, name in enumerate(classes.names, 1)},
        file_ending=copied_ending(first.images[0]),
        label_ending=label_ending_for(first.mask_files[0]),
        rules=rules,
        left_out=_left_out(pairing),
        notes=pairing.notes,
        doubts=[
            *classes.doubts,
            *_geometry_doubts(contents.shifted),
            *_patient_doubts(images, cases, patient_key),
        ],
        test_cases=rules.held_out(list(cases), patient_key),
        patient_key=patient_key,
    )


def _left_out(pairing: Pairing) -> list[str]:
    return [
        *(f", without a partner: {file}" for file in pairing.unmatched),
        *(f": {text}" for text in (*pairing.incomplete, *pairing.left_out)),
    ]


def _geometry_doubts(shifted: list[Path]) -> list[str]:
    if not shifted:
        return []
    return [
        f"{len(shifted)} masks have the shape of their image, but another geometry in their header "
        f"({shifted[0]}); samnet_verify_dataset says what differs, and how to correct it"
    ]


def _patient_doubts(
    images: Path, cases: dict[str, CaseFiles], patient_key: str | None
) -> list[str]:
    """Name a folder of several cases where the folds would take each case for a patient."""
    if patient_key is not None or find_patient_key(list(cases)) is not None:
        return []
    folders = Counter(case.images[0].relative_to(images).parts[0] for case in cases.values())
    folder, count = folders.most_common(1)[0]
    if count < 2 or len(folders) < 2:
        return []
    return [
        f"{images / folder}: has {count} cases, each taken as a patient; if they are of one "
        'patient, write "patient_key" in dataset.json, such as "^([^_]+)", to keep them together'
    ]


@dataclass(frozen=True)
class _Classes:
    """The classes of all masks: value -> label, their names, and what is odd about them."""

    values: dict[int, int]
    names: Sequence[str]
    faults: list[str]
    doubts: list[str]


def _find_classes(
    masks: Path, contents: FolderContents, label_names: Sequence[str] | None, rules: MaskRules
) -> _Classes:
    if rules.class_suffixes:
        return _named_classes(contents, label_names, rules)
    values = rules.values_of(contents.masks)
    foreground = sorted(set(values.values()) - {0})
    faults = _label_faults(masks, foreground, label_names)
    doubted = doubts(masks, contents.masks, is_binary=rules.binary, is_nearest=rules.nearest)
    # Names for all values say that each of them is meant.
    is_named = label_names is not None and not faults
    if doubted and not is_named:
        faults = [*doubted, *([] if label_names is None else faults)]
    numbers = {0: 0} | {value: label for label, value in enumerate(foreground, 1)}
    return _Classes(
        values={0: 0} | {value: numbers[kept] for value, kept in sorted(values.items())},
        names=label_names or _default_classes(foreground),
        faults=faults,
        doubts=doubted,
    )


def _named_classes(
    contents: FolderContents, label_names: Sequence[str] | None, rules: MaskRules
) -> _Classes:
    """Return the classes that have a mask each."""
    names = list(label_names or map(part_name, rules.class_suffixes))
    count = len(rules.class_suffixes)
    distinct = {name.strip().casefold() for name in (*names, "background")}
    faults = []
    if len(names) != count or len(distinct) != count + 1:
        faults.append(
            f"--labels {' '.join(names)}: --class-suffixes has {count} classes; give each its own "
            "name with --labels, other than background"
        )
    found = {value for mask in contents.masks for value in mask.counts}
    empty = [name for number, name in enumerate(names, 1) if number not in found]
    doubted = [f"{name}: no voxel of any case belongs to this class" for name in empty]
    values = {number: number for number in range(count + 1)}
    return _Classes(values, names, faults, [] if faults or contents.faults else doubted)


def copied_ending(image: Path) -> str:
    """Return the ending of an image in the data set, where header and voxels are one file.

    Args:
        image: The image to copy.
    """
    ending = ending_of(image) or ""
    return {".mhd": ".mha", ".nhdr": ".nrrd"}.get(ending, ending)


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


def _default_channels(count: int, rules: MaskRules, pairing: Pairing) -> list[str]:
    if len(rules.channel_suffixes) == count:
        return [part_name(suffix) for suffix in rules.channel_suffixes]
    is_one_file = all(len(case.images) == 1 for case in pairing.cases.values())
    if count == 3 and is_one_file:
        return ["R", "G", "B"]
    return ["image"] if count == 1 else [f"channel_{number}" for number in range(count)]
