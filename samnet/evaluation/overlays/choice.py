"""Which cases are drawn: the worst ones, and a choice across the range."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

# Of few cases the first of these are drawn in addition to the worst one.
_ACROSS_THE_RANGE = (("median", 0.5), ("best", 1.0), ("lower quartile", 0.25))


@dataclass(frozen=True)
class ChosenCase:
    """A case to draw.

    Attributes:
        identifier: Its name.
        heading: Its place among all cases, such as `worst of 40 cases`.
        mean_dice: Its mean Dice over classes, NaN for none.
    """

    identifier: str
    heading: str
    mean_dice: float


def choose_cases(scores: Mapping[str, float], number: int) -> list[ChosenCase]:
    """Choose cases to draw: the worst ones, the lower quartile, the median and the best.

    Args:
        scores: Name of a case -> its mean Dice. Cases that have none are taken for the best.
        number: How many to choose, at least 1.

    Returns:
        At most so many, the worst first.
    """
    ranked = rank_cases(scores)
    last = len(ranked) - 1
    chosen: dict[int, str] = {0: "worst"} if ranked else {}
    for name, share in _ACROSS_THE_RANGE[: max(0, number - 1)]:
        chosen.setdefault(round(share * last), name)
    for rank in range(len(ranked)):
        if len(chosen) < number:
            chosen.setdefault(rank, "")
    return [_describe(ranked, rank, chosen[rank], scores) for rank in sorted(chosen) if ranked]


def name_ranks(scores: Mapping[str, float], identifiers: Collection[str]) -> list[ChosenCase]:
    """Describe the place of given cases among all.

    Args:
        scores: Name of a case -> its mean Dice.
        identifiers: The cases to describe.

    Returns:
        These cases, the worst first.
    """
    ranked = rank_cases(scores)
    ranks = [rank for rank, name in enumerate(ranked) if name in identifiers]
    return [_describe(ranked, rank, "" if rank else "worst", scores) for rank in ranks]


def rank_cases(scores: Mapping[str, float]) -> list[str]:
    """Return the names of cases, the worst first.

    Args:
        scores: Name of a case -> its mean Dice. Cases that have none come last.
    """

    def key(name: str) -> tuple[bool, float, str]:
        score = scores[name]
        return math.isnan(score), 0.0 if math.isnan(score) else score, name

    return sorted(scores, key=key)


def _describe(
    ranked: Sequence[str], rank: int, role: str, scores: Mapping[str, float]
) -> ChosenCase:
    count = f"{len(ranked)} cases" if len(ranked) > 1 else "1 case"
    place = role or f"{_ordinal(rank + 1)} worst"
    return ChosenCase(ranked[rank], f"{place} of {count}", scores[ranked[rank]])


_ENDINGS = {1: "st", 2: "nd", 3: "rd"}


def _ordinal(number: int) -> str:
    if number % 100 in (11, 12, 13):
        return f"{number}th"
    return f"{number}{_ENDINGS.get(number % 10, 'th')}"


def spread_cases(identifiers: Sequence[str], number: int) -> list[ChosenCase]:
    """Choose cases without scores, at equal distances in the order of their names.

    Args:
        identifiers: The names of the cases.
        number: How many to choose, at least 1.

    Returns:
        At most so many, in the order of their names.
    """
    names = sorted(identifiers)
    step = max(1.0, (len(names) - 1) / max(1, number - 1))
    indices = [round(index * step) for index in range(min(number, len(names)))]
    return [ChosenCase(names[index], "", math.nan) for index in indices]
