"""Numbers as the report writes them. What is not known is a dash."""

from __future__ import annotations

import math
from collections.abc import Sequence

UNKNOWN = "–"  # noqa: RUF001


def is_known(value: float | None) -> bool:
    """Tell whether a number is there and finite.

    Args:
        value: The number.
    """
    return value is not None and math.isfinite(value)


def show_score(value: float | None) -> str:
    """Return a score from 0 to 1 with three decimals.

    Args:
        value: The score.
    """
    return UNKNOWN if value is None or not math.isfinite(value) else f"{value:.3f}"


def show_size(value: float | None) -> str:
    """Return a number of any magnitude with three digits; large ones with a comma for thousands.

    Args:
        value: The number.
    """
    if value is None or not math.isfinite(value):
        return UNKNOWN
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    decimals = 2 - math.floor(math.log10(abs(value)))
    return f"{value:.{min(decimals, 6)}f}"


def show_whole(value: float) -> str:
    """Return a whole number.

    Args:
        value: The number.
    """
    return f"{value:,.0f}" if math.isfinite(value) else UNKNOWN


def show_interval(interval: Sequence[float] | None) -> str:
    """Return the 95 % interval of a score.

    Args:
        interval: Its two ends.

    Returns:
        Such as `0.781 to 0.802`; a dash where it is not known.
    """
    if interval is None or not all(math.isfinite(end) for end in interval):
        return UNKNOWN
    low, high = interval
    return f"{low:.3f} to {high:.3f}"


def show_count(count: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun.

    Args:
        count: How many.
        noun: Such as `case`.
        plural: Its plural where that does not end in `s`.

    Returns:
        Such as `1 case` or `1,200 cases`.
    """
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def show_names(names: Sequence[str], most: int) -> str:
    """Join names.

    Args:
        names: The names.
        most: How many to write out; the others are counted.
    """
    rest = len(names) - most
    return ", ".join([*names[:most], f"{rest:,} more"] if rest > 0 else names)
