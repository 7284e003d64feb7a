"""The scores of the held-out cases of a finished run."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from samnet.core.figures import drawing_may_fail, save_figure
from samnet.core.files import remove_partial_files
from samnet.dataset.cases import RawDataset
from samnet.evaluation.evaluator import SUMMARY_FILE, evaluate_folder
from samnet.evaluation.overlays.draw import INDEX_FILE
from samnet.evaluation.overlays.evaluated_cases import FIGURES_FOLDER, draw_evaluated_cases
from samnet.evaluation.summary_files import read_summary
from samnet.inference.files import predict_cases
from samnet.inference.predictor import Predictor
from samnet.models.model_folder import ALL_CASES, ModelFolder, RunFolder
from samnet.training.calibrate import calibrate_model
from samnet.training.curves import DPI, draw_folds, read_epochs
from samnet.training.distributed import Distributed
from samnet.training.resolve import ResolvedRun
from samnet.training.time_limit import GRACE_SECONDS

log = logging.getLogger(__name__)


def validate_run(run: ResolvedRun, distributed: Distributed, ends_at: float | None = None) -> None:
    """Predict the held-out cases of a finished run as files, and evaluate them.

    The choice of a configuration rests on these scores, and what Dice is expected of predictions.
    What is there already stays.

    Args:
        run: The run.
        distributed: The processes that share the cases.
        ends_at: When the command is to end, by `time.monotonic`; None for no end. Each process
            predicts a case at least, so that the same command gets to the end when it is repeated.
    """
    output, names = run.folder.validation, set(run.cases.scored)
    if not names:
        return
    model = ModelFolder(run.folder.path.parent)
    if (output / SUMMARY_FILE).is_file():
        if distributed.is_master:
            _draw(run)
            if not model.calibration_file.is_file():
                calibrate_model(model)
        return
    dataset = RawDataset.read(run.dataset.folder)
    cases = [case for case in dataset.cases if case.identifier in names]
    # The folder is read again: its plan has been written since the run was resolved.
    trained = RunFolder(run.folder.path)
    predictor = Predictor.from_runs([trained], device=str(distributed.device))
    if ends_at is not None:
        ends_at += GRACE_SECONDS
    share = distributed.share(cases)
    left = predict_cases(
        predictor, share, output, keep_existing=True, keep_signals=True, ends_at=ends_at
    )
    num_left = sum(distributed.gather(left))
    if num_left:
        log.warning(
            "the time of --max-time is over: %d of %d held-out cases are not predicted yet, and "
            "there are no scores; the same command predicts the rest and computes them",
            num_left,
            len(cases),
        )
        return
    if not distributed.is_master:
        return
    references = {case.identifier: case.label_file for case in cases if case.label_file is not None}
    processes = run.options.file_processes
    evaluate_folder(
        output,
        references,
        dataset.description,
        output,
        processes,
        skip_missing=True,
        patient_key=run.plan.patient_key,
    )
    calibrate_model(model)
    _draw(run)


def _draw(run: ResolvedRun) -> None:
    """Draw the held-out cases and the curves of all folds, as far as that is not done yet.

    A command that was stopped while it drew resumes here when it is repeated.
    """
    output = run.folder.validation
    figures, model = output / FIGURES_FOLDER, ModelFolder(run.folder.path.parent)
    if not (figures / INDEX_FILE).is_file():
        with drawing_may_fail(figures):
            dataset = RawDataset.read(run.dataset.folder)
            images = {case.identifier: case for case in dataset.cases}
            summary = read_summary(output / SUMMARY_FILE)
            draw_evaluated_cases(summary, images, dataset.description, output)
    if _has_newer(model, run):
        _draw_curves_of_folds(model, output)


def _has_newer(model: ModelFolder, run: ResolvedRun) -> bool:
    """Tell whether the scores of a run are newer than the curves of all folds."""
    if not model.progress_file.is_file():
        return True
    scored = (run.folder.validation / SUMMARY_FILE).stat().st_mtime_ns
    return scored > model.progress_file.stat().st_mtime_ns


def _draw_curves_of_folds(model: ModelFolder, own_folder: Path) -> None:
    """Draw the folds of a configuration that have begun, without the run of all cases.

    The figure is written in the run's own folder first. What a killed command leaves in the folder
    of all folds, nobody could remove: another fold may be writing there.
    """
    with drawing_may_fail(model.progress_file):
        remove_partial_files(own_folder)
        runs = [run for run in model.runs() if run.path != model.run(ALL_CASES).path]
        folds = {run.name.replace("_", " "): read_epochs(run.metrics_file) for run in runs}
        written = own_folder / model.progress_file.name
        save_figure(draw_folds(folds), written, DPI)
        os.replace(written, model.progress_file)
