"""Signals and held-out cases that need not exist, and calibrations that are fitted to them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from samnet.confidence.calibration import Calibration
from samnet.confidence.fit import HeldOutClass, fit_calibration
from samnet.confidence.signals import ClassSignals


def make_signals(
    probability: float | None = 0.9, size: float = 1000.0, **others: Any
) -> ClassSignals:
    """Return the signals of a class.

    Args:
        probability: Mean probability inside it.
        size: Its size; 0 where it is not predicted.
        others: Other signals, which otherwise do not exist.
    """
    names = ("overlap", "mirrors", "networks", "largest", "slices", "contrast", "spread")
    values = dict.fromkeys(names) | others
    return ClassSignals(probability=probability, size=size, **values)


def held_out_cases(
    number: int, name: str = "liver", noise: float = 0.0, seed: int = 0
) -> list[HeldOutClass]:
    """Return cases whose distance from a Dice of 1 falls with the odds of the probability.

    Args:
        number: Their number.
        name: The name of the class.
        noise: Standard deviation of the logarithm of that distance.
        seed: Of the random numbers.
    """
    random = np.random.default_rng(seed)
    cases = []
    for index in range(number):
        logit = random.normal(2, 1)
        distance = min(1.0, float(np.exp(-1 - 0.5 * logit + noise * random.normal())))
        signals = make_signals(1 / (1 + float(np.exp(-logit))), 1000 + index)
        cases.append(HeldOutClass(f"case_{index:03d}", name, signals, 1 - distance))
    return cases


def fit(cases: Sequence[HeldOutClass], *names: str, mirror: bool = False) -> Calibration:
    """Fit a calibration, which has to exist.

    Args:
        cases: The held-out cases.
        names: The classes of the model.
        mirror: Whether predictions were averaged over mirrored inputs.
    """
    calibration = fit_calibration(cases, names or ("liver",), ("fold_0",), mirror=mirror)
    assert calibration is not None
    return calibration
