"""Where the files of a trained model lie. The owner of their names.

A model is the folder of a configuration. In it lies one folder for each training run, of one fold.
An exported or imported model has the same form.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from samnet.core.errors import UserError
from samnet.core.files import TEMPORARY_PREFIX
from samnet.core.paths import results_folder
from samnet.dataset.dataset_folder import DatasetFolder
from samnet.dataset.description import DESCRIPTION_FILE
from samnet.plan.configuration import Configuration
from samnet.plan.plan import Plan

FINAL, BEST, LAST, PREVIOUS = "final", "best", "last", "previous"
CHECKPOINTS = (FINAL, BEST, LAST)  # those that a user can predict with
ALL_CASES = "all"  # the fold that is trained on every case
PLAN_FILE = "plan.json"
BASE_FILE = "base.json"
TRAINING_DATA_FILE = "training_data.json"
CALIBRATION_FILE = "confidence.json"
FINAL_WEIGHTS = f"checkpoint_{FINAL}.safetensors"
FOLD_FOLDER = re.compile(r"fold_(?:0|[1-9][0-9]{0,3}|all)")
_FOLD_PREFIX = "fold_"
_REPLACED_PREFIX = ".replaced-"


@dataclass(frozen=True)
class RunFolder:
    """The folder of one training run, of one fold of a configuration.

    Attributes:
        path: The folder.
    """

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    @property
    def name(self) -> str:
        """The name of the folder, such as `fold_0`."""
        return self.path.name

    @property
    def plan_file(self) -> Path:
        """The plan of the run's configuration alone."""
        return self.path / PLAN_FILE

    @property
    def base_file(self) -> Path:
        """The name and hash of the weights that the run started from."""
        return self.path / BASE_FILE

    @property
    def training_data_file(self) -> Path:
        """The ranges of the images that it was trained on; models of older versions lack it."""
        return self.path / TRAINING_DATA_FILE

    @property
    def record_file(self) -> Path:
        """What was requested, and in which sessions it was trained."""
        return self.path / "run.json"

    @property
    def metrics_file(self) -> Path:
        """A line of numbers for each epoch."""
        return self.path / "metrics.jsonl"

    @property
    def progress_file(self) -> Path:
        """The curves of loss, learning rate and Dice."""
        return self.path / "progress.png"

    @property
    def validation(self) -> Path:
        """Folder of the predictions of the held-out cases, and their scores."""
        return self.path / "validation"

    @property
    def registered_labels(self) -> Path:
        """Labels that cases without labels have taken over from the training cases."""
        return self.path / "registered_labels"

    @property
    def tracking(self) -> Path:
        """Folder of what tracking tools keep, one folder for each."""
        return self.path / "tracking"

    def checkpoint(self, kind: str) -> Path:
        """Return the file of a checkpoint.

        Args:
            kind: `final`, `best`, `last` or `previous`.

        Returns:
            The safetensors file, whether it exists or not.
        """
        return self.path / f"checkpoint_{kind}.safetensors"

    @property
    def is_finished(self) -> bool:
        """Whether the final weights are there."""
        return self.checkpoint(FINAL).is_file()

    @cached_property
    def plan(self) -> Plan:
        """The plan of the run's configuration, read once.

        Raises:
            UserError: It is missing or not usable.
        """
        return Plan.load(self.plan_file)

    @property
    def configuration(self) -> Configuration:
        """The checked values of the run's configuration."""
        return self.plan.single_configuration


@dataclass(frozen=True)
class ModelFolder:
    """The folder of a configuration, with one folder for each training run; or of a single run.

    Attributes:
        path: The folder.
    """

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    @classmethod
    def of(cls, dataset: DatasetFolder, configuration: str) -> ModelFolder:
        """Return the model of a data set and configuration, whether it exists or not.

        Args:
            dataset: The paths of the data set.
            configuration: The name of the configuration.

        Returns:
            Its folder.
        """
        return cls(dataset.model(configuration))

    @property
    def description_file(self) -> Path:
        """The `dataset.json` that an exported or imported model carries."""
        return self.path / DESCRIPTION_FILE

    @property
    def cross_validation_file(self) -> Path:
        """The scores over all folds, as JSON."""
        return self.path / "cross_validation.json"

    @property
    def cross_validation_table(self) -> Path:
        """The scores over all folds, as CSV."""
        return self.path / "cross_validation.csv"

    @property
    def progress_file(self) -> Path:
        """The curves of all folds."""
        return self.path / "progress_folds.png"

    @property
    def calibration_file(self) -> Path:
        """What Dice its signals let expect; models without a validated fold lack it."""
        return self.path / CALIBRATION_FILE

    def run(self, fold: str) -> RunFolder:
        """Return the folder of the run of a fold, whether it exists or not.

        Args:
            fold: Its number as text, or `all`.

        Returns:
            The folder.
        """
        return RunFolder(self.path / f"{_FOLD_PREFIX}{fold}")

    def runs(self) -> list[RunFolder]:
        """List the runs that are there, finished or not; the folder itself where it is a run.

        Returns:
            The folders in the order of their names.
        """
        entries = sorted(self.path.glob(f"{_FOLD_PREFIX}*"))
        if not entries:
            entries = [self.path]
        runs = [RunFolder(entry) for entry in entries]
        return [run for run in runs if run.plan_file.is_file()]

    @property
    def is_finished(self) -> bool:
        """Whether any of its runs has final weights."""
        return any(run.is_finished for run in self.runs())

    def select_runs(
        self, folds: Sequence[str] | None = None, checkpoint: str = FINAL
    ) -> list[RunFolder]:
        """Choose the runs to predict with.

        Args:
            folds: Such as `["0", "1"]` or `["all"]`. None for every finished fold of the
                cross-validation, else `all`.
            checkpoint: `final`, `best` or `last`.

        Returns:
            Their folders.

        Raises:
            UserError: A fold is missing or has no such checkpoint; the message says what is there.
        """
        if not self.path.is_dir():
            raise UserError(f"{self.path}: no such model folder")
        runs = self.runs()
        if folds is not None:
            runs = self._named_runs(runs, folds)
        usable, unusable = _by_checkpoint(runs, checkpoint)
        if folds is not None and unusable:
            raise self._no_checkpoint(runs, unusable, checkpoint)
        if folds is None and len(usable) > 1:
            # `all` has seen every case: it is another model, not one more fold.
            usable = [run for run in usable if run.name != f"{_FOLD_PREFIX}{ALL_CASES}"]
        if not usable:
            raise self._no_checkpoint(runs, unusable, checkpoint)
        return usable

    def _named_runs(self, runs: list[RunFolder], folds: Sequence[str]) -> list[RunFolder]:
        there = [run.name for run in runs]
        wanted = [f"{_FOLD_PREFIX}{fold}" for fold in folds]
        missing = [name for name in wanted if name not in there]
        if missing:
            listing = ", ".join(there) or "none"
            raise UserError(f"{self.path}: has no {missing[0]} (there: {listing})")
        return [run for run in runs if run.name in wanted]

    def _no_checkpoint(
        self, runs: list[RunFolder], unusable: list[RunFolder], checkpoint: str
    ) -> UserError:
        names = ", ".join(run.name for run in unusable)
        state = f"{names} not finished" if unusable else "nothing trained"
        advice = (
            "Run the same samnet_train command again to finish it, or predict with --checkpoint "
            "best or last"
        )
        if checkpoint == BEST and any(run.is_finished for run in runs):
            state = "no cases were held out to choose it by"
            advice = "Predict without --checkpoint best"
        name = f"checkpoint_{checkpoint}.safetensors"
        return UserError(f"{self.path}: no {name} ({state}). {advice}")


def _by_checkpoint(
    runs: list[RunFolder], checkpoint: str
) -> tuple[list[RunFolder], list[RunFolder]]:
    """Return the runs that have a checkpoint, and those that do not."""
    usable: list[RunFolder] = []
    unusable: list[RunFolder] = []
    for run in runs:
        if run.checkpoint(checkpoint).is_file():
            usable.append(run)
        else:
            unusable.append(run)
    return usable, unusable


def replaced_model(model: Path) -> Path:
    """Return where a model waits while another one takes its place.

    Args:
        model: The folder of the model.
    """
    return model.with_name(f"{_REPLACED_PREFIX}{model.name}")


def _is_model(folder: Path) -> bool:
    """Tell whether a folder is in the place of a model, not half installed and not replaced."""
    return not folder.name.startswith((TEMPORARY_PREFIX, _REPLACED_PREFIX))


def list_models() -> list[ModelFolder]:
    """List the models below the results folder that hold at least one run.

    Returns:
        Their folders, without those that are half installed or replaced.
    """
    plans = results_folder().glob(f"*/*/{_FOLD_PREFIX}*/{PLAN_FILE}")
    folders = sorted({plan.parent.parent for plan in plans})
    return [ModelFolder(folder) for folder in folders if _is_model(folder)]


def list_runs(dataset_name: str | None = None) -> list[RunFolder]:
    """List the training runs below the results folder that have a record.

    Args:
        dataset_name: Those of one data set; None for all.

    Returns:
        Their folders in the order of their paths.
    """
    pattern = f"{dataset_name or '*'}/*/{_FOLD_PREFIX}*"
    runs = [RunFolder(folder) for folder in sorted(results_folder().glob(pattern))]
    return [run for run in runs if run.record_file.is_file() and _is_model(run.path.parent)]
