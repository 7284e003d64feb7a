"""The demo: all steps once on synthetic data, by the same functions that the commands call."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from samnet.core.locks import lock_folder
from samnet.core.machine import detect_machine
from samnet.core.paths import raw_folder
from samnet.core.worker_pool import default_processes
from samnet.dataset.cases import RawDataset, find_prediction_cases
from samnet.dataset.integrity import verify_dataset
from samnet.demo.anatomy import DATASET_NAME, make_demo_dataset
from samnet.evaluation.evaluator import evaluate_folder
from samnet.evaluation.overlays.draw import INDEX_FILE
from samnet.evaluation.overlays.evaluated_cases import draw_evaluated_cases
from samnet.evaluation.tables import format_table
from samnet.fingerprint.extract import extract_fingerprint
from samnet.fingerprint.records import Fingerprint
from samnet.inference.files import predict_cases
from samnet.inference.predictor import Predictor
from samnet.models.model_folder import ALL_CASES, RunFolder
from samnet.planning.planned_dataset import PLANNING, PlannedDataset, write_splits
from samnet.planning.planner import make_plan
from samnet.preprocessing.prepare import prepare_all_configurations
from samnet.reporting.prediction_source import PredictionFolders, read_predictions
from samnet.reporting.report import REPORT_FILE, ReportOptions, write_report
from samnet.training.kept_measurements import KeptMeasurements
from samnet.training.options import TrainingOptions
from samnet.training.run import train

CONFIGURATION = "lora"
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DemoOptions:
    """The options of `samnet_demo`.

    Attributes:
        folder: Folder for data and results.
        num_training: Number of synthetic training cases.
        num_test: Number of synthetic test cases.
        max_seconds: Limit of the training time in seconds.
        seed: Seed of the data and the training.
        device: What to train and predict on.
    """

    folder: Path
    num_training: int
    num_test: int
    max_seconds: float
    seed: int
    device: str


@dataclass(frozen=True)
class DemoResult:
    """What the demo ends with.

    Attributes:
        dice: The mean Dice over foreground classes and test cases.
        report: The report, one HTML file.
    """

    dice: float
    report: Path


def run_demo(options: DemoOptions) -> DemoResult:
    """Generate data, plan, train on all training cases, predict and score the test cases, report.

    Scores and file names are printed, the report last.

    Args:
        options: The options.

    Returns:
        The mean Dice, and the report.

    Raises:
        SamnetError: A step failed. When the demo is run again, it resumes there.
    """
    started = time.monotonic()
    with _folders_below(options.folder):
        make_demo_dataset(raw_folder(), options.num_training, options.num_test, options.seed)
        dataset = RawDataset.load(DATASET_NAME)
        _prepare(dataset, options)
        run = _train(dataset, options)
        summary, figures = _predict_and_score(dataset, run, options.device, options.folder)
        report = _write_report(dataset, run, options.folder)
    num_cases = len(summary["metric_per_case"])
    print(f"\nScores on the {num_cases} test cases, which nothing was trained or planned on:\n")
    print(format_table(summary))
    drawn = "not drawn" if figures is None else figures / INDEX_FILE
    print(
        f"\nDone in {(time.monotonic() - started) / 60:.1f} minutes.\n"
        f"  figures, worst case first:   {drawn}\n"
        f"  the curves of the training:  {run.progress_file}\n"
        f"  the plan, with reasons:      {dataset.folder.plan_file}\n"
        "\nAll of it on one page; open it in a browser:\n"
        f"  {report.absolute().as_uri()}"
    )
    return DemoResult(float(summary["foreground_mean"]["Dice"]), report)


def _prepare(dataset: RawDataset, options: DemoOptions) -> None:
    processes = default_processes()
    verify_dataset(dataset, processes)
    fingerprint = extract_fingerprint(dataset, processes)
    with lock_folder(dataset.folder.preprocessed, PLANNING):
        measure = KeptMeasurements(dataset.folder.step_memory_file)
        plan = make_plan(fingerprint, detect_machine(options.device), measure=measure)
        plan.save(dataset.folder.plan_file)
        write_splits(plan, fingerprint, dataset.folder)
    prepare_all_configurations(dataset, plan, processes)
    log.info("plan: %s, prepared cases in %s", dataset.folder.plan_file, dataset.folder.slices)


def _train(dataset: RawDataset, options: DemoOptions) -> RunFolder:
    planned = PlannedDataset(dataset.folder)
    training = TrainingOptions(
        max_seconds=options.max_seconds, seed=options.seed, device=options.device
    )
    return train(planned, CONFIGURATION, ALL_CASES, training)


def _predict_and_score(
    dataset: RawDataset, run: RunFolder, device: str, output: Path
) -> tuple[dict[str, Any], Path | None]:
    """Predict the test cases, return the summary of the scores, and the folder of the figures."""
    folder, description = dataset.folder, dataset.description
    predictions, references = _predictions(dataset), folder.test_labels
    predictor = Predictor.from_folder(run.path, device=device)
    cases = find_prediction_cases(folder.test_images, description)
    predict_cases(predictor, cases, predictions)
    summary = evaluate_folder(
        predictions, references, description, predictions, default_processes()
    )
    images = {case.identifier: case for case in cases}
    return summary, draw_evaluated_cases(summary, images, description, output)


def _predictions(dataset: RawDataset) -> Path:
    return dataset.folder.results / "predictions"


def _write_report(dataset: RawDataset, run: RunFolder, output: Path) -> Path:
    """Write the page about the scored predictions, with the data, plan and curves of the model."""
    folder = dataset.folder
    places = PredictionFolders(_predictions(dataset), folder.test_images)
    # The scores are read from the folder: the predictions have just been evaluated.
    predictions = read_predictions(places, dataset.description, default_processes())
    source = replace(
        predictions,
        title="The demo: synthetic CT",
        subject="the test cases of the demo, which nothing was trained or planned on",
        plan=run.plan,
        runs=(run,),
        fingerprint=Fingerprint.load(folder.fingerprint_file),
    )
    file = output / REPORT_FILE
    write_report(source, file, ReportOptions(command=("samnet_demo",)))
    return file


@contextlib.contextmanager
def _folders_below(folder: Path) -> Iterator[None]:
    """Keep the demo to one folder, whatever the user's environment variables say."""
    names = {
        f"samnet_{name}": str(folder.resolve() / name)
        for name in ("raw", "preprocessed", "results")
    }
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(names)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
