"""The state of all training runs, read from their folders, on whatever machine they run."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samnet.core.errors import UserError
from samnet.core.locks import find_owner
from samnet.core.tables import align_columns
from samnet.evaluation.evaluator import SUMMARY_FILE
from samnet.evaluation.summary_files import read_summary
from samnet.models.model_folder import ALL_CASES, ModelFolder, RunFolder, list_models, list_runs
from samnet.training.run_record import RunRecord, RunRequest

_COLUMNS = ("run", "state", "epoch", "Dice", "Dice of", "time left", "message")
HELD_OUT = "held-out cases"  # the final scores, over all of them
LAST_EPOCH = "last epoch"  # of the validation during the training, over a few whole volumes


@dataclass(frozen=True)
class RunStatus:
    """The state of one run.

    Attributes:
        name: Data set, configuration and fold.
        state: `finished`, `running`, `trained` (but not scored), `stopped`, `installed` (a model
            without a record of its training run) or `damaged`.
        epoch: Epochs done, or None.
        dice: Mean Dice of the final scores, else of the last validation during the training, or
            None.
        seconds_left: Time left by the pace so far, or None.
        message: What else there is to say.
        dice_of: Which Dice it is: `held-out cases` or `last epoch`; empty for None.
    """

    name: str
    state: str
    epoch: int | None
    dice: float | None
    seconds_left: float | None
    message: str
    dice_of: str = ""

    def cells(self) -> tuple[str, ...]:
        """Return the row of a table.

        Returns:
            A text for each column: run, state, epoch, Dice, which Dice it is, time left and
            message.
        """
        left = "-" if self.seconds_left is None else _duration(self.seconds_left)
        dice = "-" if self.dice is None else f"{self.dice:.4f}"
        epoch = str(self.epoch or "-")
        return self.name, self.state, epoch, dice, self.dice_of or "-", left, self.message


def find_runs(dataset_name: str | None = None) -> list[RunStatus]:
    """Read the state of every run below the results folder, and of every installed model.

    Args:
        dataset_name: Full name of a data set, for its runs only.

    Returns:
        The states, in the order of the runs' names.
    """
    runs = [_read_run(folder) for folder in list_runs(dataset_name)]
    for model in list_models():
        is_listed = dataset_name in (None, model.path.parent.name)
        without_record = [run for run in model.runs() if not run.record_file.is_file()]
        if is_listed and without_record:
            runs.append(_read_installed(model, without_record))
    return sorted(runs, key=lambda run: run.name)


def format_runs(runs: list[RunStatus]) -> str:
    """Return a table for the terminal.

    Args:
        runs: The states of runs.

    Returns:
        Text with a line of titles, and a line for each run.
    """
    return align_columns([_COLUMNS, *(run.cells() for run in runs)])


def _read_run(folder: RunFolder) -> RunStatus:
    name = "/".join(folder.path.parts[-3:])
    try:
        record = RunRecord.load(folder)
    except UserError as error:
        return RunStatus(name, "damaged", None, None, None, str(error))
    if record is None or not record.sessions:
        return RunStatus(name, "damaged", None, None, None, f"{folder.record_file}: incomplete")
    try:
        last = _last_row(folder.metrics_file)
    except (OSError, UnicodeDecodeError) as error:  # the other runs are shown all the same
        message = f"{folder.metrics_file}: cannot be read ({error})"
        return RunStatus(name, "damaged", None, None, None, message)
    state, message = _state(folder, record)
    left = _seconds_left(record.request, last) if state in ("running", "stopped") else None
    dice, dice_of = last.get("mean_dice"), LAST_EPOCH
    if state == "finished" and (folder.validation / SUMMARY_FILE).is_file():
        try:
            dice, dice_of = _final_dice(folder.validation / SUMMARY_FILE), HELD_OUT
        except UserError as error:
            message = f"{message}; {error}"
    dice_of = "" if dice is None else dice_of
    return RunStatus(name, state, last.get("epoch"), dice, left, message, dice_of)


def _final_dice(file: Path) -> float | None:
    """Return the mean foreground Dice of the final scores; None where no case has one."""
    dice = read_summary(file)["foreground_mean"].get("Dice", math.nan)
    return None if math.isnan(dice) else dice


def _read_installed(model: ModelFolder, runs: list[RunFolder]) -> RunStatus:
    """Return what is known of a model that was not trained here: it carries its plan."""
    name = "/".join(model.path.parts[-2:])
    folds = ", ".join(run.name.removeprefix("fold_") for run in runs)
    missing = [run for run in runs if not run.is_finished]
    if missing:
        return RunStatus(name, "damaged", None, None, None, f"{missing[0]}: no final weights")
    try:
        plan = runs[0].plan
        configuration = plan.single_configuration
    except UserError as error:
        return RunStatus(name, "damaged", None, None, None, str(error))
    message = (
        f"folds {folds}; {configuration.backbone} with {configuration.head} head; "
        f"{', '.join(plan.channel_names)}; {', '.join(plan.label_scheme.class_names)}"
    )
    return RunStatus(name, "installed", None, None, None, message)


def _state(folder: RunFolder, record: RunRecord) -> tuple[str, str]:
    owner = find_owner(folder.path.parent, f"training {folder.name}")
    started = record.sessions[-1].started
    if owner is not None:
        return "running", f"{owner}, since {started}"
    if not folder.is_finished:
        return "stopped", f"begun {started}; the same command resumes it"
    has_scores = (folder.validation / SUMMARY_FILE).is_file()
    if record.request.fold != ALL_CASES and not has_scores:
        return "trained", "its held-out cases are being predicted, or the same command does it"
    return "finished", f"begun {started}"


def _last_row(file: Path) -> dict[str, Any]:
    """Return the last complete line; another process may be writing one at this moment."""
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    for line in reversed(lines):
        try:
            return json.loads(line)
        except json.JSONDecodeError:
            continue
    return {}


def _seconds_left(request: RunRequest, last: dict[str, Any]) -> float | None:
    if not last:
        return None
    by_steps = last["seconds"] * (request.configuration["steps"] / last["step"] - 1)
    limit = request.max_seconds
    return max(0.0, by_steps if limit is None else min(by_steps, limit - last["seconds"]))


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min"
