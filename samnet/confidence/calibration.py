"""What Dice the signals of a prediction let expect, as kept with a model in `confidence.json`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from samnet.confidence.certainties import MEANINGS, certainties, to_dice
from samnet.confidence.signals import ClassSignals
from samnet.core.errors import UserError
from samnet.core.files import read_json, write_json
from samnet.core.records import from_json, to_json

SCHEMA_VERSION = 1
# Certainty beyond what held-out cases had says no more; uncertainty beyond it does, up to a limit.
MOST_CERTAIN, LEAST_CERTAIN = 2.0, -6.0
# A signal is named as a reason where it makes so much of what lowers the expected Dice.
_NAMED_SHARE = 0.25
_MOST_REASONS = 2
NOT_PREDICTED = "not predicted"
UNFAMILIAR = "the image is unlike the training images, so the expected Dice may not hold"


@dataclass(frozen=True)
class SignalWeight:
    """How a signal of a class counts.

    Attributes:
        mean: Its mean over the held-out cases; see `certainties` for its scale.
        deviation: Its standard deviation.
        weight: What a deviation more adds to the expected Dice, on the scale of `from_dice`.
    """

    mean: float
    deviation: float
    weight: float


@dataclass(frozen=True)
class Expectation:
    """What is expected of one class of a prediction.

    Attributes:
        dice: Expected Dice; None where the class is not predicted, or no expectation exists.
        low: Lower end of the interval; None likewise.
        high: Upper end; None likewise.
        is_doubtful: Whether somebody should look at it.
        reason: Why it is doubtful, or why there is no expectation; else empty.
    """

    dice: float | None
    low: float | None
    high: float | None
    is_doubtful: bool
    reason: str


@dataclass(frozen=True)
class ClassCalibration:
    """What held-out cases say about one class or region.

    Attributes:
        num_cases: Number of held-out structures that the numbers rest on: those of all classes
            where the class itself has too few.
        num_predicted: Number of held-out cases in which the class was predicted.
        typical_dice: Median of their Dice.
        mean: Mean of their Dice, on the scale of `from_dice`.
        typical_log_size: Median logarithm of the size of the structure.
        weights: How each signal counts, by the names in `MEANINGS`.
        low_residual: From what is expected to the lower end of the interval, on that scale.
        high_residual: From there to the upper end.
        doubtful_below: Expected Dice below which a prediction is doubtful.
        num_unpredicted: Held-out cases in which the class was not predicted.
        num_missed: How many of them have it in the reference.
    """

    num_cases: int
    num_predicted: int
    typical_dice: float
    mean: float
    typical_log_size: float
    weights: dict[str, SignalWeight]
    low_residual: float
    high_residual: float
    doubtful_below: float
    num_unpredicted: int
    num_missed: int

    def contributions(self, signals: ClassSignals) -> dict[str, float]:
        """Return what each signal adds to the mean, on the scale of `from_dice`.

        Args:
            signals: The signals of the class.

        Returns:
            Numbers by the name of the signal; those that do not exist are left out.
        """
        found = {}
        for name, value in certainties(signals, self.typical_log_size).items():
            scale = self.weights.get(name)
            if scale is not None and scale.deviation > 0:
                deviations = (value - scale.mean) / scale.deviation
                bounded = min(max(deviations, LEAST_CERTAIN), MOST_CERTAIN)
                found[name] = scale.weight * bounded
        return found

    def expect(self, signals: ClassSignals) -> Expectation:
        """Say what Dice is expected.

        Args:
            signals: The signals of the class.

        Returns:
            The expectation.
        """
        if signals.size == 0:
            return self._of_unpredicted()
        parts = self.contributions(signals)
        expected = self.mean + sum(parts.values())
        dice = to_dice(expected)
        low = to_dice(expected + self.low_residual)
        high = to_dice(expected + self.high_residual)
        agreement = signals.networks
        if agreement is not None and agreement < dice:
            # Held-out cases are seen by one network, so agreement is not calibrated. But networks
            # that differ from each other cannot all be near to the reference.
            dice, low = agreement, min(low, agreement)
        reasons = []
        if dice < self.doubtful_below:
            comparison = f"expected {dice:.2f}, most cases {self.typical_dice:.2f}"
            reasons.append(": ".join([comparison, *_name_reasons(parts, agreement == dice)]))
        return Expectation(dice, low, max(high, dice), bool(reasons), "; ".join(reasons))

    def _of_unpredicted(self) -> Expectation:
        if self.num_unpredicted == 0:
            # A class that no held-out case shows tells nothing.
            is_always_there = self.num_predicted > 0
            reason = NOT_PREDICTED + (", but in every held-out case" if is_always_there else "")
            return Expectation(None, None, None, is_always_there, reason)
        share = f"{self.num_missed} of {self.num_unpredicted} held-out cases without it"
        reason = f"{NOT_PREDICTED}; missed in {share}"
        is_doubtful = 2 * self.num_missed >= self.num_unpredicted
        return Expectation(None, None, None, is_doubtful, reason)


@dataclass(frozen=True)
class Calibration:
    """What the cross-validation of a model says about its certainty.

    Attributes:
        schema_version: Version of the file's form.
        num_cases: Number of held-out cases.
        folds: The names of their runs.
        level: Share of cases whose Dice lies in the interval.
        mirror: Whether predictions were averaged over mirrored inputs.
        classes: Name of a class or region -> what is known about it.
    """

    schema_version: int
    num_cases: int
    folds: tuple[str, ...]
    level: float
    mirror: bool
    classes: dict[str, ClassCalibration]

    def save(self, path: Path) -> None:
        """Write it as JSON.

        Args:
            path: The file.
        """
        write_json(path, to_json(self))

    @classmethod
    def load(cls, path: Path, class_names: Sequence[str]) -> Calibration:
        """Read a calibration.

        Args:
            path: The file.
            class_names: The classes or regions of the model.

        Returns:
            Its content.

        Raises:
            UserError: The file is missing, of another version, damaged, or of another model.
        """
        content = read_json(path)
        if not isinstance(content, dict) or content.get("schema_version") != SCHEMA_VERSION:
            raise UserError(
                f"{path}: written by another version of samnet; delete it to do without"
            )
        calibration = from_json(cls, content, str(path))
        if sorted(calibration.classes) != sorted(class_names):
            raise UserError(
                f"{path}: is of {', '.join(sorted(calibration.classes))}, the model of "
                f"{', '.join(sorted(class_names))}; delete it to do without"
            )
        _refuse_infinite(calibration, path)
        return calibration

    def expect(
        self, signals: dict[str, ClassSignals], is_unfamiliar: bool = False
    ) -> dict[str, Expectation]:
        """Say what Dice is expected of each class of a case.

        Args:
            signals: The signals of each class.
            is_unfamiliar: Whether the image is unlike the training images.

        Returns:
            Name of a class -> what is expected. Of an image unlike the training images, the
            interval begins at 0 and all classes are doubtful: held-out cases were like them.
        """
        found = {}
        for name, of_class in signals.items():
            expected = self.classes[name].expect(of_class)
            if is_unfamiliar:
                expected = _as_unfamiliar(expected)
            found[name] = expected
        return found


def _as_unfamiliar(expected: Expectation) -> Expectation:
    low = None if expected.low is None else 0.0
    reason = "; ".join(filter(None, [expected.reason, UNFAMILIAR]))
    return Expectation(expected.dice, low, expected.high, True, reason)


def _name_reasons(parts: dict[str, float], networks_differ: bool) -> list[str]:
    """Return the meaning of the signals that lower the expected Dice most, as one text or none."""
    lowering = sorted((value, name) for name, value in parts.items() if value < 0)
    least = _NAMED_SHARE * sum(value for value, _ in lowering)
    named = [MEANINGS[name] for value, name in lowering[:_MOST_REASONS] if value <= least]
    if networks_differ:
        named.insert(0, "the folds give different results")
    return [", ".join(named)] if named else []


def _refuse_infinite(calibration: Calibration, path: Path) -> None:
    """Refuse NaN and infinity, which `json` reads."""
    for name, of_class in calibration.classes.items():
        numbers = [of_class.mean, of_class.typical_log_size, of_class.typical_dice]
        numbers += [of_class.low_residual, of_class.high_residual, of_class.doubtful_below]
        for scale in of_class.weights.values():
            numbers += [scale.mean, scale.deviation, scale.weight]
        if not all(math.isfinite(number) for number in numbers):
            raise UserError(
                f"{path}: {name} has a number that is NaN or infinite; delete it to do without"
            )
