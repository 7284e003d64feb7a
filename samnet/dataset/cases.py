"""The cases of raw data: which image files and label maps belong together."""

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

    Attributes:
        identifier: File name without channel number and ending.
        image_files: Image files in channel order. One file may hold several channels, as colour
            images do. A folder is a DICOM series.
        label_file: The reference label map, or None at prediction.
        fault: Why the names of the files do not fit the model, or None where they do.
    """

    identifier: str
    image_files: tuple[Path, ...]
    label_file: Path | None = None
    fault: str | None = None

    def raw_files(self) -> list[Path]:
        """List the existing files that the case is read from.

        Returns:
            Image files and label map, each followed by the files that its content also comes from.

        Raises:
            UserError: A header does not say where its voxels are.
        """
        files = []
        for file in (*self.image_files, self.label_file):
            if file is None or not file.is_file():
                continue
            files.append(file)
            files += [companion for companion in companions_of(file) if companion.is_file()]
        return files


@dataclass(frozen=True)
class RawDataset:
    """A raw data set.

    Attributes:
        folder: The paths of the data set.
        description: The content of its `dataset.json`.
        cases: The training cases.
        listed: Whether `dataset.json` lists the files of the cases. Otherwise they lie in
            `imagesTr` and `labelsTr`.
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
        """Find and read a data set.

        Args:
            identifier: An id such as `8` or `008`, or a full name.

        Returns:
            Its description and training cases.

        Raises:
            UserError: There is no such data set, or its `dataset.json` or `imagesTr` is not usable.
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
            "name images CASE_0000, CASE_0001, ... with one number per channel"
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
    """Find the label maps in a folder.

    Args:
        folder: The folder to search, without those below it.
        endings: The file endings that count, with the leading dot.

    Returns:
        Identifier of a case -> its label map.

    Raises:
        UserError: The folder does not exist, or it holds two label maps of one case.
    """
    found: dict[str, Path] = {}
    for file in _files_with(folder, endings):
        other = found.setdefault(name_without_ending(file), file)
        if other != file:
            raise UserError(f"{file}: the case has a label map already, {other.name}; remove one")
    return found


def label_file_of(case: Case, folder: Path) -> Path | None:
    """Find the label map of a case in a folder, whatever its ending.

    Args:
        case: The case.
        folder: The folder of label maps.

    Returns:
        The label map, or None where there is none. The ending that samnet itself writes for the
        image is preferred.
    """
    for ending in (label_ending_for(case.image_files[0]), *label_endings()):
        file = folder / f"{case.identifier}{ending}"
        if file.is_file():
            return file
    return None


def _files_with(folder: Path, endings: Sequence[str]) -> list[Path]:
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    return [
        file
        for file in sorted(folder.iterdir())
        if not file.name.startswith(".") and ending_of(file) in endings
    ]


def find_image_files(folder: Path, file_ending: str) -> dict[str, tuple[Path, ...]]:
    """Find the images in a folder that are named `CASE_0000`, `CASE_0001` and so on.

    Args:
        folder: The folder to search, without those below it.
        file_ending: Ending of the images with the leading dot; its variants count as well.

    Returns:
        Identifier of a case -> its files in channel order. A gap in the numbers is filled with the
        name that is missing, so that reading the case reports it.

    Raises:
        UserError: The folder does not exist, or it holds a file twice, under two endings.
    """
    numbered, _ = group_files(folder, file_ending)
    return {case: _without_gaps(files, max(files) + 1) for case, files in numbered.items()}


def group_files(folder: Path, file_ending: str) -> tuple[dict[str, dict[int, Path]], list[Path]]:
    """Group the images in a folder by the channel numbers in their names.

    Args:
        folder: The folder to search, without those below it.
        file_ending: Ending of the images with the leading dot. Its variants count as well, such as
            `.nii` for `.nii.gz`.

    Returns:
        Identifier of a case -> channel number -> file, and the files without a channel number.

    Raises:
        UserError: The folder does not exist, or it holds a file twice, under two endings.
    """
    numbered: dict[str, dict[int, Path]] = {}
    unnumbered: dict[str, Path] = {}
    for file in _files_with(folder, variants_of(file_ending)):
        name = name_without_ending(file)
        match = _CHANNEL_SUFFIX.match(name)
        if match:
            channels = numbered.setdefault(match["case"], {})
            other = channels.setdefault(int(match["channel"]), file)
        else:
            other = unnumbered.setdefault(name, file)
        if other != file:
            raise UserError(
                f"{file}: exists under another ending as well, {other.name}; remove one"
            )
    return numbered, list(unnumbered.values())


def _without_gaps(files: dict[int, Path], count: int) -> tuple[Path, ...]:
    """Return the files of channel 0 to `count` - 1, with the expected name of each missing one."""
    some_number, some_file = next(iter(files.items()))
    before, after = some_file.name.rsplit(f"_{some_number:04d}", 1)
    complete = []
    for number in range(count):
        expected = some_file.with_name(f"{before}_{number:04d}{after}")
        complete.append(files.get(number, expected))
    return tuple(complete)


def find_prediction_cases(source: Path, description: DatasetDescription) -> list[Case]:
    """Find the cases to predict in a folder, or the one case that a single file belongs to.

    Where one file makes a case, each file without a channel number is a separate case. So is each
    file of a group whose numbers do not start from 0000, such as the frames of a video. In a
    folder without such files, every folder of DICOM files is a case, the folder itself included;
    its name consists of the folders on the path to it. Cases whose names do not fit the model
    carry their `fault` and do not stop the others.

    Args:
        source: A folder or an image file.
        description: What the model expects: channels and file ending.

    Returns:
        The cases, sorted by identifier.

    Raises:
        UserError: There is nothing to predict, or the names of no case fit; the message says what
            is expected.
    """
    source = Path(source)
    cases = _cases_in_source(source, description)
    if not cases:
        ending = description.file_ending
        raise UserError(
            f"{source}: no image ending in _0000{ending} (nor any {ending} file, nor a DICOM "
            "series)"
        )
    faults = [case.fault for case in cases if case.fault is not None]
    if len(faults) == len(cases) == 1:
        raise UserError(faults[0])
    if len(faults) == len(cases):
        raise DatasetFaults(str(source), faults)
    return sorted(cases, key=lambda case: case.identifier)


def _cases_in_source(source: Path, description: DatasetDescription) -> list[Case]:
    if source.is_file():
        return [_case_of_file(source, description)]
    numbered, unnumbered = group_files(source, description.file_ending)
    cases: list[Case] = []
    for name, files in numbered.items():
        cases += _cases_of_group(name, files, description)
    plain = [_case_of_unnumbered(file, description) for file in unnumbered]
    return _without_collisions(cases, plain) or _series_cases(source)


def _without_collisions(numbered: list[Case], unnumbered: list[Case]) -> list[Case]:
    """Return all cases; two of the same name become one that cannot be predicted."""
    plain = {case.identifier: case for case in unnumbered}
    cases = []
    for case in numbered:
        other = plain.pop(case.identifier, None)
        if other is not None:
            fault = (
                f"{other.image_files[0]}: {case.identifier!r} exists with and without a channel "
                "number; remove or rename one"
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
            cases = _cases_of_group(name, files, description)
            return next(case for case in cases if file in case.image_files)
    return _case_of_unnumbered(file, description)


def _cases_of_group(
    name: str, files: dict[int, Path], description: DatasetDescription
) -> list[Case]:
    """Return what the files `name_NNNN` are: the channels of one case, or separate cases."""
    channels = description.channel_names
    one_is_enough = _one_file_is_enough(files[min(files)], description)
    if one_is_enough and 0 not in files:
        return [Case(f"{name}_{number:04d}", (file,)) for number, file in sorted(files.items())]
    highest = max(files)
    if highest >= len(channels):
        fault = (
            f"{files[highest]}: has the channel number {highest:04d}, but the model's channels go "
            f"from 0000 to {len(channels) - 1:04d} ({', '.join(channels)}); remove it, or rename "
            "it if it is no channel"
        )
        return [Case(name, tuple(files[number] for number in sorted(files)), fault=fault)]
    if one_is_enough and len(files) == 1:
        return [Case(name, (files[0],))]
    return [Case(name, _without_gaps(files, len(channels)))]


def _case_of_unnumbered(file: Path, description: DatasetDescription) -> Case:
    name = name_without_ending(file)
    if _one_file_is_enough(file, description):
        return Case(name, (file,))
    ending = ending_of(file) or ""
    channels = description.channel_names
    expected = [f"{name}_{number:04d}{ending}" for number in range(len(channels))]
    fault = (
        f"{file}: has no channel number, but a case has the channels {', '.join(channels)}; "
        f"expected {', '.join(expected)}"
    )
    return Case(name, (file,), fault=fault)


def _one_file_is_enough(file: Path, description: DatasetDescription) -> bool:
    if len(description.channel_names) == 1:
        return True
    return may_hold_channels(ending_of(file) or description.file_ending)
