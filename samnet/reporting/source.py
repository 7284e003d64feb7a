"""What a report is about: cases with their files and scores, and what is known of the model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from samnet.confidence.calibration import Expectation
from samnet.dataset.cases import Case
from samnet.dataset.description import DatasetDescription
from samnet.dataset.label_scheme import Label
from samnet.evaluation.empty_slices import in_voxels
from samnet.evaluation.policies import EMPTY_SLICES
from samnet.evaluation.summary import mean_dice
from samnet.evaluation.volumes import SQUARE_MILLIMETRES, size_word, slice_word
from samnet.fingerprint.records import Fingerprint
from samnet.models.model_folder import RunFolder
from samnet.plan.plan import Plan
from samnet.reporting.numbers import show_count


@dataclass(frozen=True)
class ClassResult:
    """One class or region in one case. What is not known is NaN.

    Attributes:
        dice: Its Dice.
        predicted: Its volume in the prediction.
        true: Its volume in the reference.
        on_empty_slices: Its volume in the prediction on slices without it in the reference.
        parts: The number of connected parts in the prediction.
        expected: The Dice that the model expects, or None.
    """

    dice: float = math.nan
    predicted: float = math.nan
    true: float = math.nan
    on_empty_slices: float = math.nan
    parts: float = math.nan
    expected: Expectation | None = None


@dataclass(frozen=True)
class ReportedCase:
    """A case of a report.

    Attributes:
        identifier: Its name.
        image: Its image files; None where they were not found.
        prediction: Its predicted label map.
        reference: Its true label map, or None.
        fold: The fold that held it out; empty for none.
        results: Name of a class or region -> its results.
        warnings: Sentences about it.
    """

    identifier: str
    image: Case | None
    prediction: Path
    reference: Path | None = None
    fold: str = ""
    results: dict[str, ClassResult] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def mean_dice(self) -> float:
        """Mean Dice of its classes; NaN where none is known."""
        return mean_dice([result.dice for result in self.results.values()])

    @property
    def expected_dice(self) -> float:
        """Mean of the Dice that the model expects of its classes; NaN where none is known."""
        expectations = [result.expected for result in self.results.values()]
        values = [entry.dice for entry in expectations if entry is not None]
        return mean_dice([value for value in values if value is not None])


@dataclass(frozen=True)
class Source:
    """What a report is about.

    Attributes:
        title: Its heading.
        subject: What the cases are, such as `the held-out cases of 5 folds`.
        description: Channels and labels.
        cases: The cases, in the order of their names.
        volume_unit: The unit of their volumes.
        summary: The scores over all cases; None without references.
        plan: The plan of the model's configuration; None for predictions without a model.
        runs: The training runs of the model.
        fingerprint: The statistics of the model's data, where they are on this machine.
        postprocessing: What is done to the label maps that the model predicts, by structure.
        notes: What is missing or odd, in one sentence each.
    """

    title: str
    subject: str
    description: DatasetDescription
    cases: tuple[ReportedCase, ...]
    volume_unit: str
    summary: dict[str, Any] | None = None
    plan: Plan | None = None
    runs: tuple[RunFolder, ...] = ()
    fingerprint: Fingerprint | None = None
    postprocessing: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def shown_unit(self) -> str:
        """The unit of the volumes as a reader knows it."""
        return "mm²" if self.volume_unit == SQUARE_MILLIMETRES else self.volume_unit

    @property
    def size_word(self) -> str:
        """What the sizes of structures are: `volume`, or `area` in images of one slice."""
        return size_word(self.volume_unit)

    @property
    def slice_word(self) -> str:
        """What the slices are: `slice`, or `image` where images are of one slice."""
        return slice_word(self.volume_unit)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes or regions."""
        return self.description.label_scheme.class_names


def existing_reference(entry: Mapping[str, Any], otherwise: Path | None = None) -> Path | None:
    """Return the true label map that a case was scored by, where it is still there.

    Args:
        entry: The case in a summary.
        otherwise: Where it may be too; None for nowhere.

    Returns:
        The file; None where it is in neither place.
    """
    candidates = (Path(entry["reference_file"]), otherwise)
    return next((file for file in candidates if file is not None and file.is_file()), None)


def note_missing_references(cases: Sequence[ReportedCase]) -> list[str]:
    """Say how many scored cases are shown without their references.

    Args:
        cases: The cases.

    Returns:
        One sentence, or none.
    """
    scored = [case for case in cases if not math.isnan(case.mean_dice)]
    missing = [case for case in scored if case.reference is None]
    if not missing:
        return []
    count = show_count(len(missing), "scored case")
    return [f"The references of {count} are not where they were: errors are not shown."]


def results_of(
    metrics: dict[Label, dict[str, float]], names: dict[Label, str], volume_of_voxel: float | None
) -> dict[str, ClassResult]:
    """Return the results of a case by the names of its classes.

    Args:
        metrics: Its scores in a summary.
        names: Value of a class, or values of a region -> its name.
        volume_of_voxel: Volume of a voxel, for summaries of older versions; None for the volumes
            of the summary.
    """
    results = {}
    for label, scores in metrics.items():
        if volume_of_voxel is None:
            predicted, true = scores["volume_pred"], scores["volume_ref"]
            on_empty_slices = scores.get(EMPTY_SLICES, math.nan)
        else:
            predicted = scores["n_pred"] * volume_of_voxel
            true = scores["n_ref"] * volume_of_voxel
            on_empty_slices = in_voxels(scores) * volume_of_voxel
        results[names[label]] = ClassResult(scores["Dice"], predicted, true, on_empty_slices)
    return results
