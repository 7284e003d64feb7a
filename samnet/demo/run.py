"""The demo: all steps once on synthetic data, by the same functions that the commands call."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
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
from samnet.inference.files import predict_cases
from samnet.inference.predictor import Predictor
from samnet.models.model_folder import ALL_CASES, RunFolder
from samnet.planning.planned_dataset import PLANNING, PlannedDataset, write_splits
from samnet.planning.planner import make_plan
from samnet.preprocessing.prepare import prepare_all_configurations
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


def run_demo(options: DemoOptions) -> float:
    """Generate data, plan, train on all training cases, and predict and score the test cases.

    Scores and file names are printed.

    Args:
        options: The options.

    Returns:
        The mean Dice over foreground classes and test cases.

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
    num_cases = len(summary["metric_per_case"])
    print(f"\nScores on the {num_cases} test cases, which nothing was trained or planned on:\n")
    print(format_table(summary))
    drawn = "not drawn" if figures is None else figures / INDEX_FILE
    print(
        f"\nDone in {(time.monotonic() - started) / 60:.1f} minutes.\n"
        f"  figures, worst case first:   {drawn}\n"
        f"  the curves of the training:  {run.progress_file}\n"
        f"  the plan, with reasons:      {dataset.folder.plan_file}"
    )
    return float(summary["foreground_mean"]["Dice"])


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
    predictions, references = folder.results / "predictions", folder.test_labels
    predictor = Predictor.from_folder(run.path, device=device)
    cases = find_prediction_cases(folder.test_images, description)
    predict_cases(predictor, cases, predictions)
    summary = evaluate_folder(
        predictions, references, description, predictions, default_processes()
    )
    images = {case.identifier: case for case in cases}
    return summary, draw_evaluated_cases(summary, images, description, output)


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
