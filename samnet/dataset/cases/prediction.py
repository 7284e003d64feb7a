"""The cases in a folder to predict, and what else lies there."""

from __future__ import annotations

import contextlib
import logging
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from samnet.core.errors import DatasetFaults, UserError
from samnet.dataset.cases.case import Case
from samnet.dataset.cases.file_names import FileGroups, group_files, without_gaps
from samnet.dataset.cases.folder_walk import LeftOut
from samnet.dataset.cases.left_out import describe_left_out, find_left_out, warn_of_left_out
from samnet.dataset.cases.series_folders import find_series
from samnet.dataset.description import DatasetDescription
from samnet.dataset.formats.dicom_files import is_dicom
from samnet.dataset.images import (
    ending_of,
    may_hold_channels,
    name_without_ending,
    supported_endings,
)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PredictionInput:
    """What a folder to predict contains.

    Attributes:
        source: The folder, or an image file.
        cases: The cases, sorted by identifier.
        left_out: What lies in the folder and belongs to no case.
    """

    source: Path
    cases: list[Case]
    left_out: list[LeftOut]

    @contextlib.contextmanager
    def reminder_of_left_out(self) -> Iterator[None]:
        """Warn at the end of the prediction, also of one that fails, of how much was left out."""
        try:
            yield
        finally:
            if self.left_out:
                log.warning(
                    "%s: %d files or folders in it were not predicted; they are named in the "
                    "warnings at the beginning",
                    self.source,
                    len(self.left_out),
                )


def find_prediction_cases(source: Path, description: DatasetDescription) -> list[Case]:
    """Find the cases to predict in a folder, or the one case that a single file belongs to.

    Args:
        source: A folder or an image file.
        description: What the model expects: channels and file ending.

    Returns:
        The cases of `find_prediction_input`.

    Raises:
        UserError: There is nothing to predict, or the names of no case fit; the message says what
            is expected.
    """
    return find_prediction_input(source, description).cases


def find_prediction_input(
    source: Path, description: DatasetDescription, output: Path | None = None
) -> PredictionInput:
    """Find the cases to predict in a folder, and warn of everything else in it.

    Where one file makes a case, each file without a channel number is a separate case. So is each
    file of a group whose numbers do not start from 0000, such as the frames of a video. In a
    folder without such files, every folder of DICOM images is a case, the folder itself included;
    its name consists of the folders on the path to it. Cases whose names do not fit the model, or
    whose label maps would meet in one file, carry their `fault` and do not stop the others.

    Args:
        source: A folder or an image file.
        description: What the model expects: channels and file ending.
        output: Folder of the label maps. Where it is in the source, it is not named as left out.

    Returns:
        The cases, and what belongs to none.

    Raises:
        UserError: There is nothing to predict, or the names of no case fit; the message says what
            is expected.
    """
    source = Path(source)
    if source.is_file():
        cases = [_case_of_file(source, description)]
        left_out: list[LeftOut] = []
    else:
        cases, left_out = _find_in_folder(source, description)
    if output is not None and output.resolve() != source.resolve():
        left_out = [entry for entry in left_out if not _lies_in(entry.path, output)]
    if not cases:
        ending = description.file_ending
        found = describe_left_out(source, left_out)
        raise UserError(
            f"{source}: no image ending in _0000{ending} (nor any {ending} file, nor a DICOM "
            f"series){f'; it holds {found}' if found else ''}"
        )
    cases = _with_meeting_names_as_faults(cases)
    faults = [case.fault for case in cases if case.fault is not None]
    if len(faults) == len(cases) == 1:
        raise UserError(faults[0])
    if len(faults) == len(cases):
        raise DatasetFaults(str(source), faults)
    warn_of_left_out(source, left_out)
    return PredictionInput(source, sorted(cases, key=lambda case: case.identifier), left_out)


def _lies_in(path: Path, folder: Path) -> bool:
    return path.resolve().is_relative_to(folder.resolve())


def _find_in_folder(
    source: Path, description: DatasetDescription
) -> tuple[list[Case], list[LeftOut]]:
    groups = group_files(source, description.file_ending)
    cases: list[Case] = []
    for name in groups.numbered:
        cases += _cases_of_group(name, groups, description)
    plain = [_case_of_unnumbered(file, groups, description) for file in groups.unnumbered.values()]
    cases = _without_collisions(cases, plain)
    if not cases:
        return find_series(source, description.file_ending)
    used = [file for case in cases for file in case.image_files]
    return cases, find_left_out(source, used, description.file_ending)


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


def _with_meeting_names_as_faults(cases: Sequence[Case]) -> list[Case]:
    """Return the cases; those whose label maps would be one file cannot be predicted.

    Names that differ in case, or in how accents are encoded, are one file on some systems. Cases of
    exactly one name become one case.
    """
    groups: dict[str, list[Case]] = {}
    for case in cases:
        key = unicodedata.normalize("NFC", case.identifier).casefold()
        groups.setdefault(key, []).append(case)
    found: list[Case] = []
    for members in groups.values():
        if len(members) == 1:
            found += members
            continue
        paths = ", ".join(str(case.image_files[0]) for case in members)
        fault = f"{paths}: their label maps would have one name; rename one, or predict them apart"
        for identifier in dict.fromkeys(case.identifier for case in members):
            same = [case for case in members if case.identifier == identifier]
            files = tuple(file for case in same for file in case.image_files)
            found.append(Case(identifier, files, fault=fault))
    return found


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
    groups = group_files(file.parent, ending)
    for name, files in groups.numbered.items():
        if file in files.values():
            cases = _cases_of_group(name, groups, description)
            return next(case for case in cases if file in case.image_files)
    for name, repeated in groups.repeated.items():
        if file in repeated:
            return _repeated_case(name, groups)
    return _case_of_unnumbered(file, groups, description)


def _repeated_case(name: str, groups: FileGroups) -> Case:
    files = [*groups.numbered.get(name, {}).values(), *groups.repeated[name]]
    return Case(name, tuple(dict.fromkeys(files)), fault=groups.fault_of(name))


def _cases_of_group(name: str, groups: FileGroups, description: DatasetDescription) -> list[Case]:
    """Return what the files `name_NNNN` are: the channels of one case, or separate cases."""
    files = groups.numbered[name]
    if name in groups.repeated:
        return [_repeated_case(name, groups)]
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
    return [Case(name, without_gaps(files, len(channels)))]


def _case_of_unnumbered(file: Path, groups: FileGroups, description: DatasetDescription) -> Case:
    name = name_without_ending(file)
    if name in groups.repeated:
        return _repeated_case(name, groups)
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
