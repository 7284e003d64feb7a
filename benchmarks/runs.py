"""Helpers for benchmarks that run samnet's commands: the calls, their scores, tables of runs."""

from __future__ import annotations

import csv
import json
import math
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from samnet.core.errors import SamnetError
from samnet.core.files import atomic_path
from samnet.dataset.label_scheme import Label
from samnet.evaluation.summary_files import read_summary
from samnet.models.model_folder import RunFolder

SAMNET = (sys.executable, "-m", "samnet")


def start(main: Callable[[], None]) -> None:
    """Run a script; an error that samnet foresees ends it without a stack trace.

    Such an error's message is printed, and its exit code becomes the script's.

    Args:
        main: The script's main function.
    """
    try:
        main()
    except SamnetError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


def call(command: Sequence[str | Path], log: Path, environment: Mapping[str, str]) -> None:
    """Run a command and keep its output in a file.

    Args:
        command: The program and its arguments.
        log: The file for the output; its folder is created.
        environment: All environment variables of the command.

    Raises:
        SamnetError: The command failed; the message shows the end of its output.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w", encoding="utf-8") as handle:
        code = subprocess.call(
            [str(word) for word in command],
            stdout=handle,
            stderr=subprocess.STDOUT,
            env=environment,
        )
    if code:
        tail = "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:])
        raise SamnetError(f"exit code {code}: {' '.join(map(str, command))}\n{tail}")


@dataclass(frozen=True)
class Dice:
    """Dice of a folder of predictions.

    A value is NaN for a case or a class that has no voxels, neither in the references nor in the
    predictions.

    Attributes:
        mean: Mean over foreground classes and cases.
        by_class: Label value of the class, or the values of a region -> mean over cases.
        by_case: Name of the case -> mean over classes.
    """

    mean: float
    by_class: dict[Label, float]
    by_case: dict[str, float]


def read_dice(summary: Path) -> Dice:
    """Read the Dice from a `summary.json`.

    Args:
        summary: The file, of `samnet_evaluate` or of the validation of a fold.

    Returns:
        The mean, and the values by class and by case.

    Raises:
        UserError: The file is missing, or is no summary.
    """
    scores = read_summary(summary)
    by_case = {}
    for case in scores["metric_per_case"]:
        values = [entry["Dice"] for entry in case["metrics"].values()]
        known = [value for value in values if not math.isnan(value)]
        by_case[case["case"]] = sum(known) / len(known) if known else math.nan
    by_class = {label: entry["Dice"] for label, entry in scores["mean"].items()}
    return Dice(scores["foreground_mean"]["Dice"], by_class, by_case)


def last_epoch(run: RunFolder) -> dict[str, Any]:
    """Return what a training run records of its last epoch.

    Args:
        run: The folder of the training run.
    """
    return json.loads(run.metrics_file.read_text(encoding="utf-8").splitlines()[-1])


def write_rows(table: Path, rows: Sequence[Any], kind: type) -> None:
    """Write dataclasses as CSV, with one column for each field.

    Args:
        table: The file to write.
        rows: The rows. A field that holds several numbers has them separated by blanks.
        kind: The dataclass of all rows.
    """
    with (
        atomic_path(table) as temporary,
        temporary.open("w", encoding="utf-8", newline="") as handle,
    ):
        writer = csv.DictWriter(handle, [field.name for field in fields(kind)])
        writer.writeheader()
        for row in rows:
            values = asdict(row).items()
            writer.writerow({key: _cell(value) for key, value in values})


def _cell(value: Any) -> Any:
    return " ".join(map(str, value)) if isinstance(value, tuple) else value
