"""`samnet.evaluate`: score a folder of label maps against references."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from samnet.api.scores import Scores, scores_of
from samnet.api.session import Folder, api_call, chosen_processes, optional_path
from samnet.core.errors import UserError
from samnet.core.progress_listener import Progress
from samnet.dataset.find_description import find_description
from samnet.evaluation.evaluator import CSV_FILE, SUMMARY_FILE, evaluate_folder
from samnet.evaluation.overlays.evaluated_cases import draw_evaluated_cases, find_images
from samnet.evaluation.policies import DEFAULT_NSD_TOLERANCE_MM, STANDARD


@dataclass(frozen=True)
class Evaluation:
    """The scores of a folder of predictions, and the files that hold them.

    Attributes:
        scores: The scores of each case and class, means and intervals, and the worst cases.
        summary_file: All numbers as JSON, which nnU-Net's tools read.
        table_file: The scores as CSV, one row for each case and class.
        figures: The folder of the figures of the worst cases; None where nothing was drawn.
    """

    scores: Scores
    summary_file: Path
    table_file: Path
    figures: Path | None

    @property
    def dice(self) -> float:
        """The mean Dice over the classes of the foreground."""
        return self.scores.dice

    def __str__(self) -> str:
        """Return the tables that `samnet_evaluate` prints."""
        return str(self.scores)

    def __repr__(self) -> str:
        dice = self.scores.foreground["Dice"]
        return f"Evaluation({len(self.scores.cases)} cases, Dice {dice})"


def evaluate(
    predictions: Folder,
    references: Folder,
    *,
    dataset: int | str | None = None,
    dataset_json: Folder | None = None,
    raw: Folder | None = None,
    output: Folder | None = None,
    policy: str = STANDARD,
    nsd_tolerance_mm: float = DEFAULT_NSD_TOLERANCE_MM,
    tubes: Sequence[str] = (),
    skip_missing: bool = False,
    images: Folder | None = None,
    figures: bool = True,
    processes: int | None = None,
    progress: Progress | bool | None = None,
) -> Evaluation:
    """Score predicted label maps against references, as `samnet_evaluate` does.

    Args:
        predictions: The folder of the label maps to be scored.
        references: The folder of the true label maps, of the same names.
        dataset: Id or name of the data set that declares the labels. Without it and `dataset_json`,
            a `dataset.json` next to the references is taken, else one in the folder of predictions.
        dataset_json: The `dataset.json` that declares the labels.
        raw: The folder that holds the data set; as for `samnet.plan`.
        output: The folder to write to; None for that of the predictions.
        policy: How scores are defined, see docs/evaluation.md.
        nsd_tolerance_mm: Distance in mm up to which two surfaces count as equal for the NSD.
        tubes: Names of classes that are tubes, such as vessels, to get a clDice.
        skip_missing: Whether to leave out cases that are in one folder only. Otherwise they are an
            error.
        images: The folder of the images, for the figures; None for `imagesTs` or `imagesTr` next
            to the references.
        figures: Whether to draw the worst cases.
        processes: Number of worker processes; 0 to do all in this process, None for one a core, at
            most 8.
        progress: As for `samnet.verify`.

    Returns:
        The scores, with the files that hold them.

    Raises:
        UserError: A folder or `dataset.json` is missing, or files do not fit each other.
        SamnetError: Files could not be read. The others are scored; the error has their `summary`.

    Examples:
        >>> found = samnet.evaluate("out", "labelsTs")
        >>> found.scores.classes["liver"]["Dice"]
        MeanScore(mean=0.94, low=0.91, high=0.96)
        >>> found.scores.cases["patient_12"]["liver"]["HD95"]
        7.5
    """
    predicted, reference, image_folder = Path(predictions), Path(references), optional_path(images)
    for folder in (predicted, reference, image_folder):
        if folder is not None and not folder.is_dir():
            raise UserError(f"{folder}: no such folder")
    target = predicted if output is None else Path(output)
    places = [reference.absolute().parent, predicted.absolute()]
    with api_call(progress, raw=raw):
        description = find_description(dataset, optional_path(dataset_json), places)
        shown = find_images(reference, description, image_folder) if figures else {}
        summary = evaluate_folder(
            predicted,
            reference,
            description,
            target,
            chosen_processes(processes),
            policy=policy,
            nsd_tolerance_mm=nsd_tolerance_mm,
            skip_missing=skip_missing,
            tubes=tubes,
        )
        drawn = draw_evaluated_cases(summary, shown, description, target)
    return Evaluation(scores_of(summary), target / SUMMARY_FILE, target / CSV_FILE, drawn)
