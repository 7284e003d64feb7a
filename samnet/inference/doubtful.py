"""What the log says of doubtful predictions when all cases are predicted."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from samnet.confidence.calibration import Expectation
from samnet.confidence.files import CONFIDENCE_FILE
from samnet.inference.plausibility import EMPTY
from samnet.inference.warning_file import WARNING_FILE
from samnet.models.model_folder import CALIBRATION_FILE

log = logging.getLogger(__name__)
_MOST_NAMED = 5  # cases


def report_warnings(
    doubtful: Mapping[str, Sequence[str]], targets: Mapping[str, Path], num_predicted: int
) -> None:
    """Say how many predictions have warnings, how many are empty, and where the reasons are.

    Args:
        doubtful: Name of a case that has warnings -> these.
        targets: Name of a case -> its label map.
        num_predicted: Number of predicted cases.
    """
    if not doubtful:
        return
    file = targets[min(doubtful)].with_name(WARNING_FILE)
    log.warning(
        "look at %d of %d predictions, such as %s; the reasons are in %s",
        len(doubtful),
        num_predicted,
        min(doubtful),
        file,
    )
    num_empty = sum(EMPTY in sentences for sentences in doubtful.values())
    if num_empty:
        log.warning("%d of %d predictions are empty", num_empty, num_predicted)


def report_confidence(
    confidence: Mapping[str, Mapping[str, Expectation]], targets: Mapping[str, Path]
) -> None:
    """Name the cases that are expected to be poor, the poorest first.

    Args:
        confidence: Name of a predicted case -> name of a class -> what is expected of it.
        targets: Name of a case -> its label map.
    """
    flagged: dict[str, tuple[float, str]] = {}
    for case, classes in confidence.items():
        for name, expected in classes.items():
            dice = 0.0 if expected.dice is None else expected.dice
            if expected.is_doubtful and dice < flagged.get(case, (math.inf, ""))[0]:
                flagged[case] = (dice, f"{name}: {expected.reason}")
    if flagged:
        file = targets[min(flagged)].with_name(CONFIDENCE_FILE)
        log.warning(
            "a poor Dice is expected of %d of %d predictions; all are in %s",
            len(flagged),
            len(confidence),
            file,
        )
        poorest = sorted(flagged.items(), key=lambda entry: (entry[1][0], entry[0]))
        for case, (_, reason) in poorest[:_MOST_NAMED]:
            log.warning("%s: %s", case, reason)
        if len(poorest) > _MOST_NAMED:
            log.warning("and %d more", len(poorest) - _MOST_NAMED)
    elif confidence and not any(confidence.values()):
        log.info(
            "predictions have no expected Dice: the model has no %s that fits", CALIBRATION_FILE
        )
