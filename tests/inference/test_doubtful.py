"""What the log says of doubtful predictions when all cases are predicted."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from samnet.confidence.calibration import Expectation
from samnet.inference.doubtful import report_confidence


def test_the_poorest_predictions_are_named_and_the_others_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    cases = {}
    for number in range(7):
        poor = Expectation(number / 10, 0.0, 1.0, True, f"expected 0.{number}")
        cases[f"case_{number}"] = {"liver": Expectation(0.9, 0.8, 1.0, False, ""), "tumour": poor}
    cases["good"] = {"liver": Expectation(0.9, 0.8, 1.0, False, "")}
    report_confidence(cases, {name: Path("out", f"{name}.nii.gz") for name in cases})
    first, *named, last = caplog.messages
    assert first.startswith("a poor Dice is expected of 7 of 8 predictions")
    assert first.endswith(str(Path("out", "confidence.csv")))
    assert named == [f"case_{number}: tumour: expected 0.{number}" for number in range(5)]
    assert last == "and 2 more"
