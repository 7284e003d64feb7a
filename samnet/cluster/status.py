"""How far all runs are, read from their folders: whatever machine or scheduler they run on."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samnet.core.errors import UserError
from samnet.core.files import read_json
from samnet.core.locks import find_owner
from samnet.core.paths import results_folder
from samnet.evaluation.evaluator import SUMMARY_FILE
from samnet.training.checkpoint import FINAL
from samnet.training.run_folder import RUN_FILE, VALIDATION

_COLUMNS = ("run", "state", "epoch", "Dice", "time left", "message")


@dataclass(frozen=True)
class RunStatus:
    """One run. epoch, dice: of the last validation on whole volumes. seconds_left: by the pace so far."""

    name: str
    state: str
    epoch: int | None
    dice: float | None
    seconds_left: float | None
    message: str

    def cells(self) -> tuple[str, ...]:
        left = "-" if self.seconds_left is None else _duration(self.seconds_left)
        dice = "-" if self.dice is None else f"{self.dice:.4f}"
        return self.name, self.state, str(self.epoch or "-"), dice, left, self.message


def find_runs(dataset: str | None = None) -> list[RunStatus]:
    """The state of every run below the results folder, or of one data set's (by its full name).

    `finished`; `running`, with its process; or `stopped`: the same command goes on with it.
    """
    files = sorted(results_folder().glob(f"{dataset or '*'}/*/fold_*/{RUN_FILE}"))
    return [_read_run(file.parent) for file in files]


def format_runs(runs: list[RunStatus]) -> str:
    """A table for the screen."""
    rows = [_COLUMNS, *(run.cells() for run in runs)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS) - 1)]
    return "\n".join(
        "  ".join(
            [*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]]
        ).rstrip()
        for row in rows
    )


def _read_run(folder: Path) -> RunStatus:
    name = "/".join(folder.parts[-3:])
    try:
        record = read_json(folder / RUN_FILE)
    except UserError as error:
        return RunStatus(name, "damaged", None, None, None, str(error))
    last = _last_row(folder / "metrics.jsonl")
    owner = find_owner(folder.parent, f"training {folder.name}")
    needs_scores = (
        record["asked"]["fold"] != "all" and not (folder / VALIDATION / SUMMARY_FILE).is_file()
    )
    sitting = record["sittings"][-1]
    if owner is not None:
        state, message = "running", f"{owner}, since {sitting['started']}"
    elif not (folder / FINAL).is_file():
        state, message = "stopped", f"begun {sitting['started']}; the same command goes on"
    elif needs_scores:
        state, message = (
            "trained",
            "its held-out cases are being predicted, or the same command does it",
        )
    else:
        state, message = "finished", f"begun {sitting['started']}"
    left = _seconds_left(record["asked"], last) if state in ("running", "stopped") else None
    return RunStatus(name, state, last.get("epoch"), last.get("mean_dice"), left, message)


def _last_row(file: Path) -> dict[str, Any]:
    """The last whole line; another process may be writing one."""
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    for line in reversed(lines):
        try:
            return json.loads(line)
        except json.JSONDecodeError:
            continue
    return {}


def _seconds_left(asked: dict[str, Any], last: dict[str, Any]) -> float | None:
    if not last:
        return None
    by_steps = last["seconds"] * (asked["configuration"]["steps"] / last["step"] - 1)
    limit = asked["max_seconds"]
    return max(0.0, by_steps if limit is None else min(by_steps, limit - last["seconds"]))


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min"
