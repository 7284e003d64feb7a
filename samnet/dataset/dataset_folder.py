"""Where the files of one data set lie: raw, prepared and trained. The owner of their names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from samnet.core.paths import (
    dataset_number,
    find_dataset_name,
    preprocessed_folder,
    raw_folder,
    results_folder,
)
from samnet.dataset.description import DESCRIPTION_FILE

PLAN_FILE = "samnetPlans.json"


@dataclass(frozen=True)
class DatasetFolder:
    """Every path of a data set, below the three folders of all data sets.

    Attributes:
        name: `DatasetXXX_Name`.
        raw: Its folder of raw data, in nnU-Net's layout.
        preprocessed: Its folder of fingerprint, plan, splits and prepared cases.
        results: Its folder of trained models, one folder a configuration.
    """

    name: str
    raw: Path
    preprocessed: Path
    results: Path

    @classmethod
    def of(cls, name: str) -> DatasetFolder:
        """Return the folders of a data set, whether they exist or not.

        Args:
            name: `DatasetXXX_Name`.

        Returns:
            Its paths, as the environment variables are now.
        """
        return cls(name, raw_folder() / name, preprocessed_folder() / name, results_folder() / name)

    @classmethod
    def find(cls, identifier: str | int) -> DatasetFolder:
        """Find a data set that has at least one of the three folders.

        Args:
            identifier: An id such as `8` or `008`, or a full name.

        Returns:
            Its paths.

        Raises:
            UserError: There is no such data set, or several with this id.
        """
        return cls.of(find_dataset_name(identifier))

    @property
    def number(self) -> int:
        """The id of the data set."""
        return dataset_number(self.name)

    @property
    def description_file(self) -> Path:
        """`dataset.json` of the raw data."""
        return self.raw / DESCRIPTION_FILE

    @property
    def training_images(self) -> Path:
        """Folder of the training images."""
        return self.raw / "imagesTr"

    @property
    def training_labels(self) -> Path:
        """Folder of the label maps of the training images."""
        return self.raw / "labelsTr"

    @property
    def test_images(self) -> Path:
        """Folder of the test images."""
        return self.raw / "imagesTs"

    @property
    def test_labels(self) -> Path:
        """Folder of the label maps of the test images. They are for scoring only."""
        return self.raw / "labelsTs"

    @property
    def unlabelled_images(self) -> Path:
        """Folder of images without label maps to learn from; many data sets have none."""
        return self.raw / "imagesUn"

    @property
    def hashes_file(self) -> Path:
        """What is known of the contents of the raw files."""
        return self.preprocessed / "raw_files.json"

    @property
    def fingerprint_file(self) -> Path:
        """The statistics of the raw data."""
        return self.preprocessed / "dataset_fingerprint.json"

    @property
    def plan_file(self) -> Path:
        """The plan, for reading and changing."""
        return self.preprocessed / PLAN_FILE

    @property
    def step_memory_file(self) -> Path:
        """The measured memory of training steps, on which plans rest."""
        return self.preprocessed / "step_memory.json"

    @property
    def splits_file(self) -> Path:
        """The folds of the cross-validation."""
        return self.preprocessed / "splits_final.json"

    @property
    def slices(self) -> Path:
        """Folder of the prepared cases, which all configurations share."""
        return self.preprocessed / "slices"

    @property
    def unlabelled_slices(self) -> Path:
        """Folder of the prepared cases without labels."""
        return self.preprocessed / "slices_unlabelled"

    @property
    def embeddings(self) -> Path:
        """Folder of what frozen encoders make of the prepared cases."""
        return self.preprocessed / "embeddings"

    @property
    def choice_file(self) -> Path:
        """Which configuration is the best, by cross-validation."""
        return self.results / "best_configuration.json"

    def model(self, configuration: str) -> Path:
        """Return the folder of a trained configuration.

        Args:
            configuration: Its name.

        Returns:
            The folder that holds a folder for each fold.
        """
        return self.results / configuration

    def ensemble(self, configurations: Sequence[str]) -> Path:
        """Return the folder of what is known of an ensemble of trained configurations.

        Args:
            configurations: Their names, in any order.

        Returns:
            The folder for its scores and its postprocessing.
        """
        return ensemble_folder(self.results, configurations)


def ensemble_folder(results: Path, configurations: Sequence[str]) -> Path:
    """Return the folder of what is known of an ensemble, next to the folders of its models.

    Args:
        results: The folder that holds the trained configurations of a data set.
        configurations: The names of those in the ensemble, in any order.

    Returns:
        The folder, whether it exists or not.
    """
    return results / "ensembles" / "+".join(sorted(configurations))
