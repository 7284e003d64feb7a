"""Signals as numbers that grow with certainty, on scales on which straight lines are sensible."""

from __future__ import annotations

import math

from samnet.confidence.signals import ClassSignals

# What a low value of each says, in the reasons of a flag.
MEANINGS = {
    "overlap": "unclear probabilities around it",
    "probability": "low probability within it",
    "mirrors": "mirrored images give another result",
    "largest": "in several parts",
    "slices": "it changes from slice to slice",
    "contrast": "little contrast at its border",
    "spread": "mixed intensities within it",
    "small": "smaller than most",
    "large": "larger than most",
}
# Shares this near to 0 or 1 count as equal: a logarithm of odds has no bounds.
_TINY = 0.005
# Distances of a Dice from 1 that are this small are hardly told apart.
_DICE_MARGIN = 0.02


def certainties(signals: ClassSignals, typical_log_size: float) -> dict[str, float]:
    """Turn the signals of a class into numbers that grow with certainty.

    Args:
        signals: The signals.
        typical_log_size: Logarithm of the size that the class has in most cases.

    Returns:
        Numbers by the names in `MEANINGS`; those that do not exist are left out.
    """
    found: dict[str, float] = {}
    for name in ("overlap", "probability", "mirrors", "slices"):
        share = getattr(signals, name)
        if share is not None:
            found[name] = logit(share)
    if signals.largest is not None:
        # Most structures are in one part: the odds would rest on the few voxels of others.
        found["largest"] = -math.log(1 - signals.largest + _TINY)
    if signals.contrast is not None:
        found["contrast"] = signals.contrast
    if signals.spread is not None:
        found["spread"] = -signals.spread
    if signals.size > 0:
        # Too small and too large are different faults, of which a model may make one.
        difference = math.log(signals.size) - typical_log_size
        found["small"], found["large"] = min(difference, 0.0), min(-difference, 0.0)
    return found


def logit(share: float) -> float:
    """Return the logit of a share.

    Args:
        share: From 0 to 1.

    Returns:
        The logarithm of its odds, with bounds where it would become infinite.
    """
    bounded = min(max(share, _TINY), 1 - _TINY)
    return math.log(bounded / (1 - bounded))


def from_dice(dice: float) -> float:
    """Return a Dice on the scale on which it is expected: how small its distance from 1 is.

    A step of that scale changes the distance by a factor, so that errors of a hundredth count near
    1 and not near 0.

    Args:
        dice: The Dice.

    Returns:
        The negative logarithm of its distance from 1.
    """
    return -math.log(1 + _DICE_MARGIN - dice)


def to_dice(value: float) -> float:
    """Return the Dice of a value of that scale.

    Args:
        value: Of `from_dice`; all below that of 0 is 0, and all above that of 1 is 1.

    Returns:
        The Dice.
    """
    return min(max(1 + _DICE_MARGIN - math.exp(-value), 0.0), 1.0)
