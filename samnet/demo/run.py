"""Everything once: from made raw data to scores and a picture, by the same calls the commands make."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from samnet.core.machine import detect_machine
from samnet.core.paths import raw_folder
from samnet.core.worker_pool import default_processes
from samnet.dataset.cases import RawDataset, find_prediction_cases
from samnet.dataset.integrity import verify_dataset
from samnet.demo.anatomy import DATASET_NAME, make_demo_dataset
from samnet.evaluation.evaluator import evaluate_folder
from samnet.evaluation.overlays import draw_overlays
from samnet.evaluation.summary import format_table
from samnet.fingerprint.extract import extract_fingerprint
from samnet.inference.files import predict_cases
from samnet.inference.predictor import Predictor
from samnet.models.model_folder import ALL_CASES
from samnet.planning.planned_dataset import PlannedDataset, write_splits
from samnet.planning.planner import make_plan
from samnet.preprocessing.prepare import prepare_all_configurations
from samnet.training.dry_run import measure_step
from samnet.training.options import TrainingOptions
from samnet.training.run import train

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DemoOptions:
    """folder: for data and results. num_training, num_test: made cases. max_seconds: of training."""

    folder: Path
    num_training: int
    num_test: int
    max_seconds: float
    seed: int
    device: str


def run_demo(options: DemoOptions) -> float:
    """Make data, plan, train on all training cases, predict and score the test cases; returns the mean Dice.

    Raises:
        SamnetError: a step failed; run again, the demo goes on from there.
    """
    started = time.monotonic()
    with _folders_below(options.folder):
        make_demo_dataset(raw_folder(), options.num_training, options.num_test, options.seed)
        dataset = RawDataset.load(DATASET_NAME)
        _prepare(dataset, options)
        training = TrainingOptions(
            max_seconds=options.max_seconds, seed=options.seed, device=options.device
        )
        run = train(PlannedDataset(dataset.folder), "lora", ALL_CASES, training)
        predictions = dataset.folder.results / "predictions"
        predictor = Predictor.from_folder(run.path, device=options.device)
        cases = find_prediction_cases(dataset.folder.test_images, dataset.description)
        predict_cases(predictor, cases, predictions)
        references = dataset.folder.test_labels
        summary = evaluate_folder(
            predictions, references, dataset.description, predictions, default_processes()
        )
        figure = options.folder / "overlays.png"
        scheme = dataset.description.label_scheme
        draw_overlays(cases, predictions, references, scheme, figure, max_cases=4)
    print(f"\nScores on the {len(cases)} test cases, which nothing was trained or planned on:\n")
    print(format_table(summary))
    print(
        f"\nDone in {(time.monotonic() - started) / 60:.1f} minutes.\n"
        f"  overlays of the predictions: {figure}\n"
        f"  the curves of the training:  {run.progress_file}\n"
        f"  the plan, with reasons:      {dataset.folder.plan_file}"
    )
    return float(summary["foreground_mean"]["Dice"])


def _prepare(dataset: RawDataset, options: DemoOptions) -> None:
    processes = default_processes()
    verify_dataset(dataset, processes)
    fingerprint = extract_fingerprint(dataset, processes)
    plan = make_plan(fingerprint, detect_machine(options.device), measure=measure_step)
    plan.save(dataset.folder.plan_file)
    write_splits(plan, fingerprint, dataset.folder)
    prepare_all_configurations(dataset, plan, processes)
    log.info(
        "plan: %s, prepared cases in %s",
        dataset.folder.plan_file,
        dataset.folder.slices,
    )


@contextlib.contextmanager
def _folders_below(folder: Path) -> Iterator[None]:
    """The demo keeps to one folder, whatever the user's environment says."""
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
