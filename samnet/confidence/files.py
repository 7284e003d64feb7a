"""The files next to label maps that say how sure a model is of them. Their only owner.

`signals.csv` holds the signals of the held-out cases of a run. `confidence.csv` holds the Dice that
is expected of predictions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

from samnet.confidence.calibration import Expectation
from samnet.confidence.case_table import CASE, CaseTable
from samnet.confidence.signals import ClassSignals

SIGNALS_FILE = "signals.csv"
CONFIDENCE_FILE = "confidence.csv"
_CLASS = "class"
_SIGNALS = tuple(field.name for field in fields(ClassSignals))
_EXPECTATION = ("expected_dice", "low", "high", "flag", "reason")


def signals_table(folder: Path) -> CaseTable:
    """Return the table of signals in a folder, whether it exists or not.

    Args:
        folder: The folder of the label maps.
    """
    return CaseTable(folder / SIGNALS_FILE, (_CLASS, *_SIGNALS))


def confidence_table(folder: Path) -> CaseTable:
    """Return the table of expected Dice in a folder, whether it exists or not.

    Args:
        folder: The folder of the label maps.
    """
    return CaseTable(folder / CONFIDENCE_FILE, (_CLASS, *_EXPECTATION))


def record_signals(folder: Path, case: str, signals: Mapping[str, ClassSignals]) -> None:
    """Add the signals of a case.

    Args:
        folder: The folder of the label maps.
        case: The name of the case.
        signals: The signals of each class.
    """
    rows = []
    for name, of_class in signals.items():
        rows.append({_CLASS: name} | {key: _exact(getattr(of_class, key)) for key in _SIGNALS})
    signals_table(folder).add(case, rows)


def read_signals(folder: Path) -> dict[str, dict[str, ClassSignals]]:
    """Read the signals of all cases.

    Args:
        folder: The folder of the label maps.

    Returns:
        Name of a case -> name of a class -> signals. What is no number is left out with its row.
    """
    found: dict[str, dict[str, ClassSignals]] = {}
    for row in signals_table(folder).rows():
        try:
            values = {key: float(row[key]) if row[key] else None for key in _SIGNALS}
        except ValueError:
            continue
        if values["size"] is not None:
            found.setdefault(row[CASE], {})[row[_CLASS]] = ClassSignals(**values)  # type: ignore[arg-type]
    return found


def record_confidence(folder: Path, case: str, confidence: Mapping[str, Expectation]) -> None:
    """Add what is expected of a case.

    Args:
        folder: The folder of the label maps.
        case: The name of the case.
        confidence: What is expected of each class.
    """
    rows = []
    for name, expected in confidence.items():
        flag = "yes" if expected.is_doubtful else "no"
        dice = [_rounded(value) for value in (expected.dice, expected.low, expected.high)]
        values = (*dice, flag, expected.reason)
        rows.append({_CLASS: name} | dict(zip(_EXPECTATION, values, strict=True)))
    confidence_table(folder).add(case, rows)


def read_confidence(folder: Path) -> dict[str, dict[str, Expectation]]:
    """Read what is expected of all cases.

    Args:
        folder: The folder of the label maps.

    Returns:
        Name of a case -> name of a class -> what is expected. What is no number is left out with
        its row.
    """
    found: dict[str, dict[str, Expectation]] = {}
    for row in confidence_table(folder).rows():
        try:
            dice, low, high = (_number(row[key]) for key in ("expected_dice", "low", "high"))
        except ValueError:
            continue
        expected = Expectation(dice, low, high, row["flag"] == "yes", row["reason"])
        found.setdefault(row[CASE], {})[row[_CLASS]] = expected
    return found


def _number(text: str) -> float | None:
    return float(text) if text else None


def _exact(value: float | None) -> str:
    # float(): the repr of NumPy's numbers names their type, and is no number to read again.
    return "" if value is None else repr(float(value))


def _rounded(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
