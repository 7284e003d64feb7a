"""The cases of a raw data set: which files belong together."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from samnet.core.errors import DatasetFaults, UserError
from samnet.dataset.case_list import read_case_list
from samnet.dataset.dataset_folder import DatasetFolder
from samnet.dataset.description import DatasetDescription
from samnet.dataset.formats.dicom import find_series_folders, is_dicom
from samnet.dataset.images import (
    companions_of,
    ending_of,
    label_ending_for,
    label_endings,
    may_hold_channels,
    name_without_ending,
    supported_endings,
    variants_of,
)

_CHANNEL_SUFFIX = re.compile(r"^(?P<case>.+)_(?P<channel>\d{4})$")


@dataclass(frozen=True)
class Case:
    """One case.

    identifier: the file name without channel number and ending.
    image_files: in channel order (one file may hold several channels, as colour pictures do); a folder is a DICOM
        series.
    label_file: the reference, or None at prediction.
    fault: why the files cannot be a case of the model, by their names alone; None where they can.
    """

    identifier: str
    image_files: tuple[Path, ...]
    label_file: Path | None = None
    fault: str | None = None

    def raw_files(self) -> list[Path]:
        """The files that are there of all that the case is read from, those beside a header included."""
        named = [
            file
            for file in (*self.image_files, self.label_file)
            if file is not None and file.is_file()
        ]
        return [file for one in named for file in (one, *companions_of(one)) if file.is_file()]


@dataclass(frozen=True)
class RawDataset:
    """A raw data set: its folder, description and training cases.

    listed: whether `dataset.json` lists the files of the cases; else they lie in `imagesTr` and `labelsTr`.
    """

    folder: DatasetFolder
    description: DatasetDescription
    cases: tuple[Case, ...]
    listed: bool = False

    @property
    def name(self) -> str:
        """`DatasetXXX_Name`."""
        return self.folder.name

    @classmethod
    def load(cls, identifier: str | int) -> RawDataset:
        """Look the data set up by id or name.

        Raises:
            UserError: there is no such data set, or its `dataset.json` or `imagesTr` is not usable.
        """
        return cls.read(DatasetFolder.find(identifier))

    @classmethod
    def read(cls, folder: DatasetFolder) -> RawDataset:
        """Read a data set from its folders.

        Args:
            folder: The paths of the data set.

        Returns:
            Its description and training cases.

        Raises:
            UserError: Its `dataset.json` or `imagesTr` is not usable.
        """
        description = DatasetDescription.load(folder.description_file)
        listed = read_case_list(folder.description_file)
        if listed is not None:
            cases = [Case(name, case.image_files, case.label_file) for name, case in listed.items()]
        else:
            cases = _cases_in_folders(folder, description)
        return cls(folder, description, tuple(cases), listed is not None)


def _cases_in_folders(folder: DatasetFolder, description: DatasetDescription) -> list[Case]:
    images = find_image_files(folder.training_images, description.file_ending)
    if not images:
        raise UserError(
            f"{folder.training_images}: no image ending in _0000{description.file_ending}; "
            "name images CASE_0000, CASE_0001, ... with one number a channel"
        )
    ending = description.label_file_ending
    known: dict[str, Path] = {}
    if folder.training_labels.is_dir():
        known = find_label_files(folder.training_labels, variants_of(ending))
    cases = []
    for identifier, files in sorted(images.items()):
        expected = folder.training_labels / f"{identifier}{ending}"
        cases.append(Case(identifier, files, known.get(identifier, expected)))
    return cases


def find_label_files(folder: Path, endings: Sequence[str]) -> dict[str, Path]:
    """The label maps of a folder that have one of these endings, by case.

    Raises:
        UserError: the folder does not exist, or holds two label maps of one case.
    """
    found: dict[str, Path] = {}
    for file in _files_with(folder, endings):
        other = found.setdefault(name_without_ending(file), file)
        if other != file:
            raise UserError(f"{file}: the case has a label map already, {other.name}; remove one")
    return found


def label_file_of(case: Case, folder: Path) -> Path | None:
    """The label map of a case in a folder, whatever its ending; None where there is none."""
    own = label_ending_for(case.image_files[0])
    candidates = (folder / f"{case.identifier}{ending}" for ending in (own, *label_endings()))
    return next((file for file in candidates if file.is_file()), None)


def _files_with(folder: Path, endings: Sequence[str]) -> list[Path]:
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    return [
        file
        for file in sorted(folder.iterdir())
        if not file.name.startswith(".") and ending_of(file) in endings
    ]


def find_image_files(folder: Path, file_ending: str) -> dict[str, tuple[Path, ...]]:
    """The images of a folder, `CASE_0000` and on, as case -> files in channel order.

    A gap in the numbers is filled with the name that is missing, so that reading the case reports it.

    Raises:
        UserError: the folder does not exist.
    """
    numbered, _ = group_files(folder, file_ending)
    return {case: _without_gaps(files, max(files) + 1) for case, files in numbered.items()}


def group_files(folder: Path, file_ending: str) -> tuple[dict[str, dict[int, Path]], list[Path]]:
    """The files of a folder with this ending: case -> channel number -> file, and those without a channel number.

    Variants of the ending count as well: `.nii` where `.nii.gz` is asked for, and the other way round.

    Raises:
        UserError: the folder does not exist, or holds a file twice, under both endings.
    """
    numbered: dict[str, dict[int, Path]] = {}
    unnumbered: dict[str, Path] = {}
    for file in _files_with(folder, variants_of(file_ending)):
        match = _CHANNEL_SUFFIX.match(name_without_ending(file))
        if match:
            other = numbered.setdefault(match["case"], {}).setdefault(int(match["channel"]), file)
        else:
            other = unnumbered.setdefault(name_without_ending(file), file)
        if other != file:
            raise UserError(f"{file}: there under another ending as well, {other.name}; remove one")
    return numbered, list(unnumbered.values())


def _without_gaps(files: dict[int, Path], count: int) -> tuple[Path, ...]:
    some_number, some_file = next(iter(files.items()))
    before, after = some_file.name.rsplit(f"_{some_number:04d}", 1)
    return tuple(
        files.get(number, some_file.with_name(f"{before}_{number:04d}{after}"))
        for number in range(count)
    )


def find_prediction_cases(source: Path, description: DatasetDescription) -> list[Case]:
    """The cases to predict in a folder, or the one case that a single file belongs to.

    Where one file makes a case, files without a channel number are cases of their own, and so are files whose numbers
    do not start from 0000, such as the frames of a film. In a folder without such files, every folder of DICOM files in
    it (or itself) is a case, named by the way to it. Cases whose names do not fit the model carry their `fault`, and do
    not stop the others.

    Raises:
        UserError: nothing to predict is there, or not one case has names that fit; the message says what is expected.
    """
    source = Path(source)
    if source.is_file():
        cases = [_case_of_file(source, description)]
    else:
        numbered, unnumbered = group_files(source, description.file_ending)
        cases = [
            case
            for name, files in numbered.items()
            for case in _cases_of_group(name, files, description)
        ]
        cases = _without_collisions(
            cases, [_case_of_unnumbered(file, description) for file in unnumbered]
        )
    if not cases:
        cases = _series_cases(source)
    if not cases:
        raise UserError(
            f"{source}: no image ending in _0000{description.file_ending} (nor any {description.file_ending} file, "
            "nor a DICOM series)"
        )
    faults = [case.fault for case in cases if case.fault is not None]
    if len(faults) == len(cases):
        raise UserError(faults[0]) if len(faults) == 1 else DatasetFaults(str(source), faults)
    return sorted(cases, key=lambda case: case.identifier)


def _without_collisions(numbered: list[Case], unnumbered: list[Case]) -> list[Case]:
    """All cases; two that would be called the same are one that cannot be predicted."""
    plain = {case.identifier: case for case in unnumbered}
    cases = []
    for case in numbered:
        other = plain.pop(case.identifier, None)
        if other is not None:
            fault = (
                f"{other.image_files[0]}: {case.identifier!r} is there with and without a channel number; "
                "remove or rename one"
            )
            case = Case(case.identifier, (*case.image_files, *other.image_files), fault=fault)
        cases.append(case)
    return [*cases, *plain.values()]


def _series_cases(source: Path) -> list[Case]:
    cases = []
    for folder in find_series_folders(source):
        steps = folder.relative_to(source).parts or (source.resolve().name,)
        cases.append(Case("_".join(steps), (folder,)))
    return cases


def _case_of_file(file: Path, description: DatasetDescription) -> Case:
    ending = ending_of(file)
    if ending is None and is_dicom(file):
        raise UserError(
            f"{file}: one file of a DICOM series; give the folder of the series, {file.parent}"
        )
    if ending is None:
        raise UserError(
            f"{file}: unknown file ending; supported are {', '.join(supported_endings())}"
        )
    numbered, _ = group_files(file.parent, ending)
    for name, files in numbered.items():
        if file in files.values():
            return next(
                case
                for case in _cases_of_group(name, files, description)
                if file in case.image_files
            )
    return _case_of_unnumbered(file, description)


def _cases_of_group(
    name: str, files: dict[int, Path], description: DatasetDescription
) -> list[Case]:
    """What the files `name_NNNN` are: the channels of one case, or cases of their own."""
    expected = len(description.channel_names)
    one_is_enough = _one_file_is_enough(files[min(files)], description)
    if one_is_enough and 0 not in files:
        return [Case(f"{name}_{number:04d}", (file,)) for number, file in sorted(files.items())]
    if max(files) >= expected:
        fault = (
            f"{files[max(files)]}: has the channel number {max(files):04d}, but the model's channels go from 0000 to "
            f"{expected - 1:04d} ({', '.join(description.channel_names)}); remove it, or rename it if it is no channel"
        )
        return [Case(name, tuple(files[number] for number in sorted(files)), fault=fault)]
    if one_is_enough and len(files) == 1:
        return [Case(name, (files[0],))]
    return [Case(name, _without_gaps(files, expected))]


def _case_of_unnumbered(file: Path, description: DatasetDescription) -> Case:
    ending, stem = ending_of(file) or "", name_without_ending(file)
    if not _one_file_is_enough(file, description):
        names = ", ".join(
            f"{stem}_{number:04d}{ending}" for number in range(len(description.channel_names))
        )
        fault = (
            f"{file}: has no channel number, but a case has the channels {', '.join(description.channel_names)}; "
            f"expected {names}"
        )
        return Case(stem, (file,), fault=fault)
    return Case(stem, (file,))


def _one_file_is_enough(file: Path, description: DatasetDescription) -> bool:
    return len(description.channel_names) == 1 or may_hold_channels(
        ending_of(file) or description.file_ending
    )
