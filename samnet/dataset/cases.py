"""The cases of a raw data set: which files belong together."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from samnet.core.errors import DatasetFaults, UserError
from samnet.core.paths import find_dataset_name, raw_folder
from samnet.dataset.description import DatasetDescription
from samnet.dataset.images import ending_of, may_hold_channels, supported_endings

_CHANNEL_SUFFIX = re.compile(r"^(?P<case>.+)_(?P<channel>\d{4})$")


@dataclass(frozen=True)
class Case:
    """One case.

    identifier: the file name without channel number and ending.
    image_files: in channel order (one file may hold several channels, as colour pictures do).
    label_file: the reference, or None at prediction.
    fault: why the files cannot be a case of the model, by their names alone; None where they can.
    """

    identifier: str
    image_files: tuple[Path, ...]
    label_file: Path | None = None
    fault: str | None = None


@dataclass(frozen=True)
class RawDataset:
    """A raw data set: its folder, description and training cases."""

    name: str
    folder: Path
    description: DatasetDescription
    cases: tuple[Case, ...]

    @classmethod
    def load(cls, identifier: str | int) -> RawDataset:
        """Look the data set up by id or name.

        Raises:
            UserError: there is no such data set, or its `dataset.json` or `imagesTr` is not usable.
        """
        name = find_dataset_name(identifier)
        folder = raw_folder() / name
        description = DatasetDescription.load(folder / "dataset.json")
        images = find_image_files(folder / "imagesTr", description.file_ending)
        if not images:
            raise UserError(
                f"{folder / 'imagesTr'}: no image ending in _0000{description.file_ending}; "
                "name images CASE_0000, CASE_0001, ... with one number a channel"
            )
        labels = folder / "labelsTr"
        cases = tuple(
            Case(identifier, files, labels / f"{identifier}{description.file_ending}")
            for identifier, files in sorted(images.items())
        )
        return cls(name, folder, description, cases)


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

    Raises:
        UserError: the folder does not exist.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    numbered: dict[str, dict[int, Path]] = {}
    unnumbered = []
    for file in sorted(folder.iterdir()):
        if file.name.startswith(".") or not file.name.endswith(file_ending):
            continue
        match = _CHANNEL_SUFFIX.match(file.name[: -len(file_ending)])
        if match:
            numbered.setdefault(match["case"], {})[int(match["channel"])] = file
        else:
            unnumbered.append(file)
    return numbered, unnumbered


def _without_gaps(files: dict[int, Path], count: int) -> tuple[Path, ...]:
    some_number, some_file = next(iter(files.items()))
    before, after = some_file.name.rsplit(f"_{some_number:04d}", 1)
    return tuple(files.get(number, some_file.with_name(f"{before}_{number:04d}{after}")) for number in range(count))


def find_prediction_cases(source: Path, description: DatasetDescription) -> list[Case]:
    """The cases to predict in a folder, or the one case that a single file belongs to.

    Where one file makes a case, files without a channel number are cases of their own, and so are files whose numbers
    do not start from 0000, such as the frames of a film. Cases whose names do not fit the model carry their `fault`, so
    that they do not stop the others.

    Raises:
        UserError: nothing to predict is there, or not one case has names that fit; the message says what is expected.
    """
    source = Path(source)
    if source.is_file():
        cases = [_case_of_file(source, description)]
    else:
        numbered, unnumbered = group_files(source, description.file_ending)
        cases = [case for name, files in numbered.items() for case in _cases_of_group(name, files, description)]
        cases = _without_collisions(cases, [_case_of_unnumbered(file, description) for file in unnumbered])
    if not cases:
        raise UserError(
            f"{source}: no image ending in _0000{description.file_ending} (nor any {description.file_ending} file)"
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


def _case_of_file(file: Path, description: DatasetDescription) -> Case:
    ending = ending_of(file)
    if ending is None:
        raise UserError(f"{file}: unknown file ending; supported are {', '.join(supported_endings())}")
    numbered, _ = group_files(file.parent, ending)
    for name, files in numbered.items():
        if file in files.values():
            return next(case for case in _cases_of_group(name, files, description) if file in case.image_files)
    return _case_of_unnumbered(file, description)


def _cases_of_group(name: str, files: dict[int, Path], description: DatasetDescription) -> list[Case]:
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
    ending = ending_of(file) or ""
    stem = file.name[: len(file.name) - len(ending)]
    if not _one_file_is_enough(file, description):
        names = ", ".join(f"{stem}_{number:04d}{ending}" for number in range(len(description.channel_names)))
        fault = (
            f"{file}: has no channel number, but a case has the channels {', '.join(description.channel_names)}; "
            f"expected {names}"
        )
        return Case(stem, (file,), fault=fault)
    return Case(stem, (file,))


def _one_file_is_enough(file: Path, description: DatasetDescription) -> bool:
    return len(description.channel_names) == 1 or may_hold_channels(ending_of(file) or description.file_ending)
