"""The cases of a raw data set: which files belong together."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from samnet.core.errors import UserError
from samnet.core.paths import find_dataset_name, raw_folder
from samnet.dataset.description import DatasetDescription
from samnet.dataset.images import ending_of

_CHANNEL_SUFFIX = re.compile(r"^(?P<case>.+)_(?P<channel>\d{4})$")


@dataclass(frozen=True)
class Case:
    """One case.

    identifier: the file name without channel number and ending.
    image_files: in channel order (one file may hold several channels, as colour pictures do).
    label_file: the reference, or None at prediction.
    """

    identifier: str
    image_files: tuple[Path, ...]
    label_file: Path | None = None


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

    Raises:
        UserError: the folder does not exist.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    channels: dict[str, dict[int, Path]] = {}
    for file in sorted(folder.iterdir()):
        if file.name.startswith(".") or not file.name.endswith(file_ending):
            continue
        match = _CHANNEL_SUFFIX.match(file.name[: -len(file_ending)])
        if match:
            channels.setdefault(match["case"], {})[int(match["channel"])] = file
    return {case: tuple(files[number] for number in sorted(files)) for case, files in channels.items()}


def find_prediction_cases(source: Path, description: DatasetDescription) -> list[Case]:
    """The cases to predict in a folder, or the one case of a single file.

    A file without a channel number is a case of its own where the model has one file a case.

    Raises:
        UserError: nothing to predict is there; the message says what was looked for.
    """
    source = Path(source)
    if source.is_file():
        return [_single_file_case(source)]
    images = find_image_files(source, description.file_ending)
    if not images:
        plain = [
            file
            for file in sorted(source.iterdir())
            if file.name.endswith(description.file_ending) and not file.name.startswith(".")
        ]
        if len(description.channel_names) > 1 and len(plain) > 0 and ending_of(plain[0]) not in (".png", ".bmp"):
            plain = []
        images = {file.name[: -len(description.file_ending)]: (file,) for file in plain}
    if not images:
        raise UserError(
            f"{source}: no image ending in _0000{description.file_ending} (nor any {description.file_ending} file)"
        )
    return [Case(identifier, files) for identifier, files in sorted(images.items())]


def _single_file_case(file: Path) -> Case:
    ending = ending_of(file)
    if ending is None:
        raise UserError(f"{file}: unknown file ending")
    stem = file.name[: -len(ending)]
    match = _CHANNEL_SUFFIX.match(stem)
    if match is None:
        return Case(stem, (file,))
    siblings = find_image_files(file.parent, ending)
    return Case(match["case"], siblings[match["case"]])
