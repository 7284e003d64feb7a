"""What is expected of a prediction, what is said of it, and the file that is kept with a model."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from builders.confidence import fit, held_out_cases, make_signals

from samnet.confidence.calibration import UNFAMILIAR, Calibration
from samnet.core.errors import UserError

CALIBRATION = fit(held_out_cases(60, noise=0.2))
LIVER = CALIBRATION.classes["liver"]


def test_a_poor_prediction_is_flagged_with_its_reason() -> None:
    poor, good = LIVER.expect(make_signals(0.55)), LIVER.expect(make_signals(0.95))
    assert not good.is_doubtful
    assert good.reason == ""
    assert poor.is_doubtful
    typical = f"{LIVER.typical_dice:.2f}"
    assert poor.reason == (
        f"expected {poor.dice:.2f}, most cases {typical}: low probability within it"
    )


def test_folds_that_differ_lower_what_is_expected() -> None:
    alone = LIVER.expect(make_signals(0.9))
    agreeing = LIVER.expect(make_signals(0.9, networks=0.99))
    differing = LIVER.expect(make_signals(0.9, networks=0.3))
    assert alone == agreeing
    assert differing.dice == 0.3
    assert differing.low is not None
    assert differing.low <= 0.3
    assert differing.is_doubtful
    assert "the folds give different results" in differing.reason


def test_signals_beyond_those_of_held_out_cases_are_believed_in_one_direction() -> None:
    most = LIVER.expect(make_signals(0.99)).dice
    assert most == LIVER.expect(make_signals(0.994)).dice
    lowest = LIVER.expect(make_signals(0.01)).dice
    assert lowest is not None
    assert lowest < LIVER.expect(make_signals(0.2)).dice


@pytest.mark.parametrize(
    ("changes", "is_doubtful", "reason"),
    [
        ({}, True, "not predicted, but in every held-out case"),
        ({"num_predicted": 0}, False, "not predicted"),
        (
            {"num_unpredicted": 4, "num_missed": 1},
            False,
            "not predicted; missed in 1 of 4 held-out cases without it",
        ),
        (
            {"num_unpredicted": 4, "num_missed": 2},
            True,
            "not predicted; missed in 2 of 4 held-out cases without it",
        ),
    ],
)
def test_a_class_that_is_not_predicted_has_no_expected_dice(
    changes: dict[str, Any], is_doubtful: bool, reason: str
) -> None:
    expected = replace(LIVER, **changes).expect(make_signals(None, 0.0))
    assert (expected.dice, expected.low, expected.high) == (None, None, None)
    assert expected.is_doubtful == is_doubtful
    assert expected.reason == reason


def test_an_unfamiliar_image_is_always_flagged_and_may_have_any_lower_dice() -> None:
    signals = {"liver": make_signals(0.95)}
    [known] = CALIBRATION.expect(signals).values()
    [unfamiliar] = CALIBRATION.expect(signals, is_unfamiliar=True).values()
    assert unfamiliar == replace(known, low=0.0, is_doubtful=True, reason=UNFAMILIAR)


def test_a_calibration_is_the_same_after_writing_and_reading(tmp_path: Path) -> None:
    CALIBRATION.save(tmp_path / "confidence.json")
    assert Calibration.load(tmp_path / "confidence.json", ["liver"]) == CALIBRATION


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema_version": 2}, "another version"),
        ({"folds": 3}, "folds"),
        ({"other": 3}, "unknown key 'other'"),
        ({"classes": {}}, "is of .*, the model of liver"),
    ],
)
def test_a_changed_file_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    file = tmp_path / "confidence.json"
    CALIBRATION.save(file)
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))
    with pytest.raises(UserError, match=message):
        Calibration.load(file, ["liver"])


@pytest.mark.parametrize("text", ["", "{", "[]", "null"])
def test_a_damaged_file_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "confidence.json"
    file.write_text(text)
    with pytest.raises(UserError, match=r"confidence\.json"):
        Calibration.load(file, ["liver"])


def test_numbers_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "confidence.json"
    broken = replace(CALIBRATION, classes={"liver": replace(LIVER, mean=float("nan"))})
    broken.save(file)
    with pytest.raises(UserError, match="NaN or infinite"):
        Calibration.load(file, ["liver"])
