"""A raw data set: its description and its training cases."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from samnet.core.errors import UserError
from samnet.dataset.case_list import read_case_list
from samnet.dataset.cases.case import Case
from samnet.dataset.cases.file_names import find_image_files, find_label_files
from samnet.dataset.dataset_folder import DatasetFolder
from samnet.dataset.description import DatasetDescription
from samnet.dataset.images import variants_of


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

    @cached_property
    def unlabelled_cases(self) -> tuple[Case, ...]:
        """The cases of `imagesUn`, which have no label maps; empty without such a folder."""
        folder = self.folder.unlabelled_images
        if not folder.is_dir():
            return ()
        images = find_image_files(folder, self.description.file_ending)
        return tuple(Case(name, files) for name, files in sorted(images.items()))


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
