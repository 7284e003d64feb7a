"""The scores of a model on its held-out cases, as they travel with it: means, without any case.

A model that was trained here has them in the summaries of its folds. One that was installed has
them in `scores.json`.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samnet.core.errors import UserError
from samnet.core.files import read_json
from samnet.core.records import from_json
from samnet.evaluation.evaluator import SUMMARY_FILE
from samnet.evaluation.summary import names_of_classes
from samnet.models.model_folder import FOLD_FOLDER, ModelFolder, RunFolder
from samnet.selection.cross_validation import merge_summaries

log = logging.getLogger(__name__)

SCORES_FILE = "scores.json"
SCHEMA_VERSION = 1
_DIGITS = 6


@dataclass(frozen=True)
class DiceScore:
    """A mean Dice over held-out cases.

    Attributes:
        mean: The mean; None where no case has the class.
        low: Lower end of its 95 % interval; None for a single patient.
        high: Upper end; None likewise.
        num_cases: Number of cases that count.
    """

    mean: float | None
    low: float | None
    high: float | None
    num_cases: int


@dataclass(frozen=True)
class ModelScores:
    """The scores of the held-out cases of some folds.

    Attributes:
        schema_version: Version of the file's form.
        folds: The folders of the folds, such as `fold_0`.
        num_cases: Number of held-out cases.
        num_patients: Of how many patients they are; None where summaries do not say.
        classes: Name of a class or region -> its Dice.
        foreground: The mean of the means of the classes.
    """

    schema_version: int
    folds: tuple[str, ...]
    num_cases: int
    num_patients: int | None
    classes: dict[str, DiceScore]
    foreground: DiceScore


def fold_name(run: RunFolder) -> str:
    """Return the name of a fold's folder in an archive; `fold_all` for a folder of another name.

    Args:
        run: The folder of the run.
    """
    return run.name if FOLD_FOLDER.fullmatch(run.name) else "fold_all"


def read_scores(runs: Sequence[RunFolder]) -> ModelScores | None:
    """Read the scores of a model.

    Args:
        runs: Its runs, of one model. Where none of them is scored, as one that was trained on all
            cases, the other folds of the model stand for it.

    Returns:
        The scores; None where there are none, or they cannot be read, which a warning then says.
    """
    model = ModelFolder(runs[0].path.parent)
    scored = [run for run in runs if _summary(run).is_file()]
    if not scored and FOLD_FOLDER.fullmatch(runs[0].name):
        scored = [run for run in model.runs() if _summary(run).is_file()]
    try:
        if scored:
            return _summarize(scored)
        file = model.path / SCORES_FILE
        return load_scores(file) if file.is_file() else None
    except UserError as error:
        log.warning("%s; no scores are shown", error)
        return None


def load_scores(file: Path, class_names: Sequence[str] | None = None) -> ModelScores:
    """Read a `scores.json`.

    Args:
        file: The file.
        class_names: The classes or regions of the model; None to leave that open.

    Returns:
        Its content.

    Raises:
        UserError: The file is missing, of another version or damaged, or of another model.
    """
    content = read_json(file)
    if not isinstance(content, dict) or content.get("schema_version") != SCHEMA_VERSION:
        raise UserError(f"{file}: written by another version of samnet; delete it to do without")
    scores = from_json(ModelScores, content, str(file))
    if class_names is not None and sorted(scores.classes) != sorted(class_names):
        raise UserError(
            f"{file}: is of {', '.join(sorted(scores.classes))}, the model of "
            f"{', '.join(sorted(class_names))}; delete it to do without"
        )
    for name, score in {**scores.classes, "foreground": scores.foreground}.items():
        known = [value for value in (score.mean, score.low, score.high) if value is not None]
        if not all(0 <= value <= 1 for value in known) or score.num_cases < 0:
            raise UserError(f"{file}: {name} has a Dice that is none; delete it to do without")
    if not all(FOLD_FOLDER.fullmatch(fold) for fold in scores.folds):
        raise UserError(f"{file}: names a fold that is none; delete it to do without")
    return scores


def _summary(run: RunFolder) -> Path:
    return run.validation / SUMMARY_FILE


def _summarize(runs: Sequence[RunFolder]) -> ModelScores:
    summary = merge_summaries([_summary(run) for run in runs])
    names = names_of_classes(summary)
    classes = {}
    for label, means in summary["mean"].items():
        interval = summary["interval"][label]["Dice"]
        num_cases = summary["presence"][label]["cases"]
        classes[names[label]] = _score(means["Dice"], interval, num_cases)
    num_cases = len(summary["metric_per_case"])
    mean, interval = summary["foreground_mean"]["Dice"], summary["foreground_interval"]["Dice"]
    return ModelScores(
        schema_version=SCHEMA_VERSION,
        folds=tuple(sorted(fold_name(run) for run in runs)),
        num_cases=num_cases,
        num_patients=summary["num_patients"],
        classes=classes,
        foreground=_score(mean, interval, num_cases),
    )


def _score(mean: float, interval: Sequence[float], num_cases: int) -> DiceScore:
    low, high = interval
    return DiceScore(_rounded(mean), _rounded(low), _rounded(high), num_cases)


def _rounded(value: Any) -> float | None:
    return None if math.isnan(value) else round(float(value), _DIGITS)
