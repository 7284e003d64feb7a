"""What the benchmarks share: runs of samnet's own commands, what they leave, and the machine they ran on."""

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
from samnet.evaluation.summary import read_summary

SAMNET = (sys.executable, "-m", "samnet")


def start(main: Callable[[], None]) -> None:
    """Run a script. A failure that samnet foresaw ends it with its message and exit code, not with a stack trace."""
    try:
        main()
    except SamnetError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


def call(command: Sequence[str | Path], log: Path, environment: Mapping[str, str]) -> None:
    """Run a command, with its output in a file.

    Raises:
        SamnetError: it failed; the message shows the end of its output.
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
    """Of a folder of predictions: the mean over foreground classes and cases, that of each class, and of each case.

    by_class: by its value, or the values of a region. by_case: by its name. NaN for a case or a class where there is
    nothing, in references and predictions alike.
    """

    mean: float
    by_class: dict[Label, float]
    by_case: dict[str, float]


def read_dice(summary: Path) -> Dice:
    """What a `summary.json` of `samnet_evaluate` or of a fold's validation holds.

    Raises:
        UserError: the file is missing, or is no summary.
    """
    scores = read_summary(summary)
    by_case = {}
    for case in scores["metric_per_case"]:
        known = [
            entry["Dice"] for entry in case["metrics"].values() if not math.isnan(entry["Dice"])
        ]
        by_case[case["case"]] = sum(known) / len(known) if known else math.nan
    by_class = {label: entry["Dice"] for label, entry in scores["mean"].items()}
    return Dice(scores["foreground_mean"]["Dice"], by_class, by_case)


def last_epoch(run: Path) -> dict[str, Any]:
    """What the folder of a training records of its last epoch."""
    return json.loads((run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()[-1])


def write_rows(table: Path, rows: Sequence[Any], kind: type) -> None:
    """Write dataclasses of one kind as CSV, one column for each field; several numbers in one have blanks between."""
    with (
        atomic_path(table) as temporary,
        temporary.open("w", encoding="utf-8", newline="") as handle,
    ):
        writer = csv.DictWriter(handle, [field.name for field in fields(kind)])
        writer.writeheader()
        for row in rows:
            values = asdict(row).items()
            writer.writerow(
                {
                    key: " ".join(map(str, value)) if isinstance(value, tuple) else value
                    for key, value in values
                }
            )
