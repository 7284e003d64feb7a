"""The calibration of a model: what its signals let expect, by the held-out cases of its folds."""

from __future__ import annotations

import logging

import numpy as np

from samnet.confidence.files import read_signals
from samnet.confidence.fit import MIN_CASES, HeldOutClass, fit_calibration
from samnet.core.locks import lock_folder
from samnet.evaluation.evaluator import SUMMARY_FILE
from samnet.evaluation.summary_files import read_summary
from samnet.models.model_folder import ModelFolder, RunFolder

log = logging.getLogger(__name__)


def calibrate_model(model: ModelFolder) -> None:
    """Fit the calibration of a model to all its folds that have scores, and keep it with the model.

    Where too few structures were predicted in held-out cases, there is none, and the log says so.

    Args:
        model: The folder of the model.

    Raises:
        UserError: The scores of a fold, or its plan, cannot be read.
    """
    with lock_folder(model.path, "calibrating"):
        runs = [run for run in model.runs() if (run.validation / SUMMARY_FILE).is_file()]
        held_out: list[HeldOutClass] = []
        used = []
        for run in runs:
            of_run = read_held_out(run)
            held_out += of_run
            if of_run:
                used.append(run)
        calibration = None
        if used:
            plan, configuration = used[0].plan, used[0].configuration
            calibration = fit_calibration(
                held_out,
                plan.label_scheme.class_names,
                [run.name for run in used],
                mirror=configuration.mirror_at_prediction and bool(configuration.mirror_axes),
            )
        if calibration is not None:
            calibration.save(model.calibration_file)
            return
        model.calibration_file.unlink(missing_ok=True)
    log.info(
        "%s: predictions will have no expected Dice: there are signals of fewer than %d structures "
        "in held-out cases",
        model,
        MIN_CASES,
    )


def read_held_out(run: RunFolder) -> list[HeldOutClass]:
    """Read signals and Dice of the held-out cases of a run.

    Args:
        run: The run, which has scores.

    Returns:
        Each class of each case; cases without signals, as of older versions, are left out.

    Raises:
        UserError: The scores or the plan cannot be read.
    """
    summary = read_summary(run.validation / SUMMARY_FILE)
    signals = read_signals(run.validation)
    foreground = run.plan.label_scheme.foreground
    held_out = []
    for case in summary["metric_per_case"]:
        of_case = signals.get(case["case"], {})
        for name, label in foreground.items():
            scores = case["metrics"].get(label)
            if name in of_case and scores is not None:
                dice = float(scores.get("Dice", np.nan))
                held_out.append(HeldOutClass(case["case"], name, of_case[name], dice))
    return held_out
