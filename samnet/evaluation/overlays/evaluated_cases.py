"""The figures that follow an evaluation: its worst cases and a choice across the range."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from samnet.core.errors import UserError
from samnet.core.figures import drawing_may_fail
from samnet.dataset.cases import Case, find_prediction_cases
from samnet.dataset.cases.file_names import find_image_files
from samnet.dataset.description import DatasetDescription
from samnet.evaluation.overlays.choice import choose_cases
from samnet.evaluation.overlays.draw import INDEX_FILE, CaseToDraw, draw_cases
from samnet.evaluation.overlays.shown_case import CaseFiles
from samnet.evaluation.summary import mean_dice

FIGURES_FOLDER = "figures"
NUM_CASES = 6
MAX_SECONDS = 60.0
_IMAGES_OF = {"labelsTs": "imagesTs", "labelsTr": "imagesTr"}

log = logging.getLogger(__name__)


def draw_evaluated_cases(
    summary: Mapping[str, Any],
    images: Mapping[str, Case],
    description: DatasetDescription,
    output: Path,
    max_seconds: float = MAX_SECONDS,
) -> Path | None:
    """Draw the worst cases of an evaluation, and a choice across the range, into `figures`.

    What cannot be drawn is a line in the log and ends nothing. The figures of an earlier evaluation
    are replaced.

    Args:
        summary: The summary of the evaluation.
        images: Name of a case -> the case, with its images. Cases that are not in it are left out.
        description: The data set, which declares channels and labels.
        output: The folder of the summary, in which the folder of the figures is made.
        max_seconds: About how long to draw.

    Returns:
        The folder of the figures; None where there are none.
    """
    folder = output / FIGURES_FOLDER
    with drawing_may_fail(folder):
        evaluated = {
            case["case"]: case for case in summary["metric_per_case"] if case["case"] in images
        }
        scores = {}
        for name, case in evaluated.items():
            scores[name] = mean_dice([metrics["Dice"] for metrics in case["metrics"].values()])
        chosen = choose_cases(scores, NUM_CASES)
        to_draw = []
        for choice in chosen:
            case = evaluated[choice.identifier]
            prediction, reference = Path(case["prediction_file"]), Path(case["reference_file"])
            files = CaseFiles(images[choice.identifier], prediction, reference)
            to_draw.append(CaseToDraw(choice, files))
        if not to_draw:
            return None
        outcome = draw_cases(to_draw, description, folder, max_seconds)
        for name, reason in outcome.failures.items():
            log.warning("%s: case %s not drawn, the scores are complete (%s)", folder, name, reason)
        return folder if (folder / INDEX_FILE).is_file() else None
    return None


def find_images(
    references: Path, description: DatasetDescription, images: Path | None = None
) -> dict[str, Case]:
    """Find the images of evaluated cases.

    Args:
        references: The folder of the references.
        description: The data set, which declares channels and file ending.
        images: The folder of the images; None for `imagesTs` next to `labelsTs`, or `imagesTr`
            next to `labelsTr`.

    Returns:
        Name of a case -> the case; empty where `images` is None and there are none.

    Raises:
        UserError: There are no images in the given folder.
    """
    if images is not None:
        return {case.identifier: case for case in find_prediction_cases(images, description)}
    references = references.absolute()
    folder = references.parent / _IMAGES_OF.get(references.name, "")
    if references.name not in _IMAGES_OF or not folder.is_dir():
        return {}
    try:
        found = find_image_files(folder, description.file_ending)
    except UserError as error:
        log.warning("no figures are drawn (%s)", error)
        return {}
    return {name: Case(name, files) for name, files in found.items()}
