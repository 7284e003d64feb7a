"""The cases of a folder of predictions that are drawn."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from samnet.core.errors import UserError
from samnet.core.worker_pool import Outcome, run_jobs
from samnet.dataset.cases import Case, label_file_of
from samnet.dataset.description import DatasetDescription
from samnet.dataset.images import read_labels
from samnet.dataset.label_scheme import LabelScheme
from samnet.evaluation.metrics import dice_per_class
from samnet.evaluation.overlays.choice import (
    ChosenCase,
    choose_cases,
    name_ranks,
    spread_cases,
)
from samnet.evaluation.overlays.draw import CaseToDraw, draw_cases
from samnet.evaluation.overlays.shown_case import CaseFiles
from samnet.evaluation.summary import mean_dice

DEFAULT_NUMBER = 8

log = logging.getLogger(__name__)


def draw_folder(
    images: Sequence[Case],
    predictions: Path,
    references: Path | None,
    description: DatasetDescription,
    output: Path,
    processes: int,
    *,
    number: int = DEFAULT_NUMBER,
    identifiers: Sequence[str] | None = None,
) -> Outcome:
    """Draw predictions of a folder: with references the worst cases and a choice across the range.

    Args:
        images: The cases, with their images.
        predictions: Folder of label maps named after the cases.
        references: Folder of the true label maps, or None.
        description: The data set, which declares channels and labels.
        output: The folder for the figures.
        processes: Number of worker processes that score the cases; 0 for none.
        number: How many cases to draw.
        identifiers: The cases to draw, in place of a choice; None for a choice.

    Returns:
        The file of each case that is drawn, and why others are not. Files that cannot be scored are
        among the failures.

    Raises:
        UserError: There is nothing to draw, or a given case is missing.
    """
    files = find_case_files(images, predictions, references)
    if identifiers is not None:
        _check_names(identifiers, files, predictions)
    failures: dict[str, str] = {}
    if references is None:
        names = list(files) if identifiers is None else identifiers
        chosen = spread_cases(names, number if identifiers is None else len(names))
    else:
        chosen, failures = _choose_by_score(
            files, description.label_scheme, processes, number, identifiers
        )
    to_draw = [CaseToDraw(choice, files[choice.identifier]) for choice in chosen]
    outcome = draw_cases(to_draw, description, output)
    outcome.failures.update(failures)
    return outcome


def find_case_files(
    images: Sequence[Case], predictions: Path, references: Path | None
) -> dict[str, CaseFiles]:
    """Find the label maps of cases. Cases without them are counted in the log.

    Args:
        images: The cases, with their images.
        predictions: Folder of predicted label maps.
        references: Folder of true label maps, or None.

    Returns:
        Name of a case -> its files.

    Raises:
        UserError: No case has its label maps.
    """
    found: dict[str, CaseFiles] = {}
    for case in images:
        prediction = label_file_of(case, predictions)
        reference = None if references is None else label_file_of(case, references)
        if prediction is not None and (references is None or reference is not None):
            found[case.identifier] = CaseFiles(case, prediction, reference)
    wanted = str(predictions) if references is None else f"{predictions} and {references}"
    if not found:
        raise UserError(
            f"{images[0].image_files[0]}: has no label map in {wanted}, nor has any other image; a "
            "label map has the name of its image, without the number of the channel"
        )
    if len(found) < len(images):
        log.warning(
            "%d of %d images have no label map in %s", len(images) - len(found), len(images), wanted
        )
    return found


def _check_names(
    identifiers: Sequence[str], files: dict[str, CaseFiles], predictions: Path
) -> None:
    missing = [name for name in identifiers if name not in files]
    if missing:
        raise UserError(
            f"{predictions}: has no case {missing[0]!r} with an image and label maps; there are "
            f"{len(files)} cases, such as {min(files)}"
        )


def _choose_by_score(
    files: dict[str, CaseFiles],
    label_scheme: LabelScheme,
    processes: int,
    number: int,
    identifiers: Sequence[str] | None,
) -> tuple[list[ChosenCase], dict[str, str]]:
    """Return the cases to draw, and why others could not be scored."""
    arguments = {name: (case, label_scheme) for name, case in files.items()}
    outcome = run_jobs(score_case, arguments, processes, "comparing")
    if identifiers is None:
        return choose_cases(outcome.results, number), outcome.failures
    return name_ranks(outcome.results, identifiers), outcome.failures


def score_case(files: CaseFiles, label_scheme: LabelScheme) -> float:
    """Compute the mean Dice of a case.

    Args:
        files: Its files, with a reference.
        label_scheme: The classes or regions.

    Returns:
        The mean over the classes that it has, NaN for none.

    Raises:
        UserError: A label map cannot be read, or they differ in shape.
    """
    if files.reference is None:
        raise ValueError(f"{files.prediction}: has no reference")
    prediction, reference = read_labels(files.prediction), read_labels(files.reference)
    difference = prediction.grid.difference(reference.grid)
    if difference is not None:
        raise UserError(
            f"{files.prediction}: {difference.describe(str(files.reference))}; resample the "
            "prediction to the reference's grid"
        )
    dice = dice_per_class(prediction.array[0], reference.array[0], label_scheme)
    return mean_dice(dice.tolist())
