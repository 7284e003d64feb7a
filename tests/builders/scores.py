"""Scores of cases that need not exist, and a summary of three of them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from samnet.dataset.label_scheme import LabelScheme
from samnet.evaluation.summary import CaseScores, LeftOut, Protocol, summarize

PROTOCOL = Protocol(LabelScheme({"background": 0, "left, inner": 1, "right": 2}), nsd_tolerance=2.0)


def make_scores(
    dice: float, hd95: float = 4.0, n_pred: int = 5, n_ref: int = 5
) -> dict[str, float]:
    """Return the scores of a class.

    Args:
        dice: Its Dice, which is also its NSD, and twice its IoU.
        hd95: Its HD95, which is twice its ASSD.
        n_pred: Its voxels in the prediction.
        n_ref: Its voxels in the reference.
    """
    counts = {"TP": 1, "FP": 2, "FN": 3, "TN": 4, "n_pred": n_pred, "n_ref": n_ref}
    return {"Dice": dice, "IoU": dice / 2, "HD95": hd95, "ASSD": hd95 / 2, "NSD": dice, **counts}


def absent_scores() -> dict[str, float]:
    """Return the scores of a class that is in neither label map."""
    return make_scores(math.nan, math.nan, 0, 0)


def make_case_scores(
    identifier: str, left: dict[str, float], right: dict[str, float]
) -> CaseScores:
    """Return the scores of a case with both classes of `PROTOCOL`.

    Args:
        identifier: Name of the case.
        left: Scores of class 1.
        right: Scores of class 2.
    """
    file = f"{identifier}.nii.gz"
    return CaseScores(identifier, Path("preds", file), Path("labelsTs", file), {1: left, 2: right})


def summarize_three_cases() -> dict[str, Any]:
    """Return a summary of three cases, with one more that is skipped and one that failed."""
    cases = [
        make_case_scores("b", make_scores(0.9, 2.0), absent_scores()),
        make_case_scores("a", make_scores(0.5, 6.0), make_scores(0.3)),
        make_case_scores("c", make_scores(0.0, 40.0, n_pred=0), make_scores(0.0, 40.0, n_ref=0)),
    ]
    return summarize(cases, PROTOCOL, LeftOut(("e",), {"d": "truncated"}))
