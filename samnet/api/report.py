"""`samnet.report`: one HTML page about a model or a folder of predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from samnet.api.session import Folder, api_call, chosen_processes, fold_names, optional_path
from samnet.core.errors import UserError
from samnet.core.progress_listener import Progress
from samnet.dataset.find_description import find_description
from samnet.inference.find_model import find_model
from samnet.reporting.model_source import read_model
from samnet.reporting.prediction_source import PredictionFolders, read_predictions
from samnet.reporting.report import DEFAULT_VIEWERS, REPORT_FILE, ReportOptions, write_report
from samnet.reporting.source import Source


@dataclass(frozen=True)
class ReportResult:
    """A report that was written.

    Attributes:
        file: The page, which opens from the disk and needs no network.
        notes: What is missing on it, or could not be read.
    """

    file: Path
    notes: tuple[str, ...]

    @property
    def url(self) -> str:
        """The address to open in a browser, such as `file:///data/report.html`."""
        return self.file.absolute().as_uri()

    def __repr__(self) -> str:
        return f"ReportResult({str(self.file)!r}, {len(self.notes)} notes)"


def report(
    model: Folder | None = None,
    *,
    dataset: int | str | None = None,
    configuration: str | None = None,
    folds: Sequence[int | str] | None = None,
    predictions: Folder | None = None,
    images: Folder | None = None,
    references: Folder | None = None,
    dataset_json: Folder | None = None,
    raw: Folder | None = None,
    preprocessed: Folder | None = None,
    results: Folder | None = None,
    output: Folder | None = None,
    viewers: int = DEFAULT_VIEWERS,
    processes: int | None = None,
    progress: Progress | bool | None = None,
) -> ReportResult:
    """Write one HTML page about a model or a folder of predictions, as `samnet_report` does.

    Args:
        model: The folder of a trained model, for a report about a model.
        dataset: Id or name of its data set, in place of `model`; of predictions the one that
            declares their labels.
        configuration: Its configuration, in place of `model`.
        folds: The folds to report on; None for all that there are.
        predictions: The folder of predicted label maps, for a report about predictions.
        images: The folder of their images.
        references: The folder of their true label maps; without them the page has no scores.
        dataset_json: The `dataset.json` that declares the labels of the predictions.
        raw: As for `samnet.plan`.
        preprocessed: As for `samnet.plan`.
        results: As for `samnet.train`.
        output: The file to write; None for `report.html` in the folder of the model or of the
            predictions.
        viewers: Number of cases whose slices are shown.
        processes: Number of worker processes; 0 to do all in this process, None for one a core, at
            most 8.
        progress: As for `samnet.verify`.

    Returns:
        The page.

    Raises:
        UserError: There is no such model or folder, or the arguments do not fit each other.

    Examples:
        >>> page = samnet.report("data/results/Dataset008_Liver/lora")
        >>> webbrowser.open(page.url)
    """
    with api_call(progress, raw, preprocessed, results):
        if predictions is None:
            _refuse(images=images, references=references, dataset_json=dataset_json)
            named = None if dataset is None else str(dataset)
            found = find_model(optional_path(model), named, configuration)
            source, folder = read_model(found, fold_names(folds)), found.path
        else:
            _refuse_of_predictions(model=model, configuration=configuration, folds=folds)
            if images is None:
                raise UserError("predictions= needs the images of the predictions: images=FOLDER")
            folders = PredictionFolders(Path(predictions), Path(images), optional_path(references))
            source = _prediction_source(folders, dataset, dataset_json, processes)
            folder = folders.predictions
        file = folder / REPORT_FILE if output is None else Path(output)
        if file.is_dir():
            raise UserError(f"{file}: is a folder; give the name of a file, such as report.html")
        notes = write_report(source, file, ReportOptions(viewers, ("samnet.report",)))
    return ReportResult(file, tuple(notes))


def _refuse(**given: object) -> None:
    for name, value in given.items():
        if value is not None:
            raise UserError(f"{name}= goes with predictions=, which is missing")


def _refuse_of_predictions(**given: object) -> None:
    for name, value in given.items():
        if value is not None:
            raise UserError(f"{name}= is about a model, predictions= is not; give one of both")


def _prediction_source(
    folders: PredictionFolders,
    dataset: int | str | None,
    dataset_json: Folder | None,
    processes: int | None,
) -> Source:
    places = [folders.predictions.absolute(), folders.images.absolute().parent]
    description = find_description(dataset, optional_path(dataset_json), places)
    return read_predictions(folders, description, chosen_processes(processes))
