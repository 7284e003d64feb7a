"""Files of cases in a folder, found by their names: `CASE_0000`, `CASE_0001`, ... and `CASE`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from samnet.core.errors import UserError
from samnet.dataset.images import ending_of, name_without_ending, variants_of

_CHANNEL_SUFFIX = re.compile(r"^(?P<case>.+)_(?P<channel>\d{4})$")


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
    # A folder with the name of an image is kept, so that reading the case reports it.
    groups = group_files(folder, file_ending, keep_folders=True)
    for name in groups.repeated:
        raise UserError(groups.fault_of(name))
    return {case: without_gaps(files, max(files) + 1) for case, files in groups.numbered.items()}


@dataclass
class FileGroups:
    """The images in a folder, grouped by their names.

    Attributes:
        numbered: Identifier of a case -> channel number -> file.
        unnumbered: Name without ending -> file without a channel number.
        repeated: Identifier or name -> the files of which one repeats another under another ending.
    """

    numbered: dict[str, dict[int, Path]] = field(default_factory=dict)
    unnumbered: dict[str, Path] = field(default_factory=dict)
    repeated: dict[str, list[Path]] = field(default_factory=dict)

    def fault_of(self, name: str) -> str | None:
        """Say why the files of a name cannot be used.

        Args:
            name: An identifier, or a name without ending.

        Returns:
            The fault, or None where no file exists under two endings.
        """
        if name not in self.repeated:
            return None
        other, file = self.repeated[name][:2]
        return f"{file}: exists under another ending as well, {other.name}; remove one"


def group_files(folder: Path, file_ending: str, keep_folders: bool = False) -> FileGroups:
    """Group the images in a folder by the channel numbers in their names.

    Args:
        folder: The folder to search, without those below it.
        file_ending: Ending of the images with the leading dot. Its variants count as well, such as
            `.nii` for `.nii.gz`.
        keep_folders: Whether folders that are named as images count too.

    Returns:
        The groups, each file in one of them.

    Raises:
        UserError: The folder does not exist.
    """
    groups = FileGroups()
    for file in _files_with(folder, variants_of(file_ending)):
        if file.is_dir() and not keep_folders:
            continue
        name = name_without_ending(file)
        match = _CHANNEL_SUFFIX.match(name)
        if match:
            name = match["case"]
            channels = groups.numbered.setdefault(name, {})
            other = channels.setdefault(int(match["channel"]), file)
        else:
            other = groups.unnumbered.setdefault(name, file)
        if other != file:
            groups.repeated.setdefault(name, []).extend([other, file])
    return groups


def without_gaps(files: Mapping[int, Path], count: int) -> tuple[Path, ...]:
    """Return the files of the channels 0 to `count` - 1.

    Args:
        files: Channel number -> file, at least one.
        count: Number of channels.

    Returns:
        The files in channel order, with the expected name of each missing one.
    """
    some_number, some_file = next(iter(files.items()))
    before, after = some_file.name.rsplit(f"_{some_number:04d}", 1)
    complete = []
    for number in range(count):
        expected = some_file.with_name(f"{before}_{number:04d}{after}")
        complete.append(files.get(number, expected))
    return tuple(complete)
