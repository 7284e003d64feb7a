"""The state of all training runs, read from their folders, on whatever machine they run."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samnet.core.errors import UserError
from samnet.core.locks import find_owner
from samnet.core.tables import align_columns
from samnet.evaluation.evaluator import SUMMARY_FILE
from samnet.models.model_folder import ALL_CASES, RunFolder, list_runs
from samnet.training.run_record import RunRecord, RunRequest

_COLUMNS = ("run", "state", "epoch", "Dice", "time left", "message")


@dataclass(frozen=True)
class RunStatus:
    """The state of one run.

    Attributes:
        name: Data set, configuration and fold.
        state: `finished`, `running`, `trained` (but not scored), `stopped` or `damaged`.
        epoch: Epochs done, or None.
        dice: Mean Dice of the last validation on whole volumes, or None.
        seconds_left: Time left by the pace so far, or None.
        message: What else there is to say.
    """

    name: str
    state: str
    epoch: int | None
    dice: float | None
    seconds_left: float | None
    message: str

    def cells(self) -> tuple[str, ...]:
        """Return the row of a table.

        Returns:
            A text for each column: run, state, epoch, Dice, time left and message.
        """
        left = "-" if self.seconds_left is None else _duration(self.seconds_left)
        dice = "-" if self.dice is None else f"{self.dice:.4f}"
        return self.name, self.state, str(self.epoch or "-"), dice, left, self.message


def find_runs(dataset_name: str | None = None) -> list[RunStatus]:
    """Read the state of every run below the results folder.

    Args:
        dataset_name: Full name of a data set, for its runs only.

    Returns:
        The states, in the order of the runs' names.
    """
    return [_read_run(folder) for folder in list_runs(dataset_name)]


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
    return RunStatus(name, state, last.get("epoch"), last.get("mean_dice"), left, message)


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
