"""The ranking of unlabelled cases: a function of what is known of them, without files or models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from samnet.annotation.candidate import Candidate
from samnet.annotation.strategies import DEFAULT, STRATEGIES, LabelledCase, Strategy
from samnet.core.errors import UserError


@dataclass(frozen=True)
class RankedCase:
    """An unlabelled case in the order in which cases should be labelled.

    Attributes:
        identifier: The name of the case.
        rank: Its place, from 1.
        score: What the strategy chose it by, the larger the earlier; None where it was drawn, or
            where what the strategy needs is not known.
        why: The reason in words.
    """

    identifier: str
    rank: int
    score: float | None
    why: str


def rank(
    cases: Sequence[Candidate],
    strategy: str = DEFAULT,
    seed: int = 0,
    labelled: Sequence[LabelledCase] = (),
) -> list[RankedCase]:
    """Order unlabelled cases by which to label next.

    The order does not depend on that of `cases`. Its first n cases are a batch: of strategies that
    compare images, each is chosen in view of those before it.

    Args:
        cases: The unlabelled cases.
        strategy: A name in `STRATEGIES`.
        seed: Fixes what is drawn at random.
        labelled: The labelled cases, for strategies that compare images.

    Returns:
        All cases with their ranks. Those of which the strategy needs to know more, such as cases
        that could not be read, are the last.

    Raises:
        UserError: There is no such strategy, or nothing that it needs is known of any case.
    """
    chosen = find_strategy(strategy)
    ordered = sorted(cases, key=lambda case: case.identifier)
    usable, others = [], []
    for case in ordered:
        missing = _what_is_missing(case, chosen)
        if missing:
            others.append((case.identifier, missing))
        else:
            usable.append(case)
    if others and not usable:
        raise UserError(
            f"strategy {strategy}: {others[0][1]} of any of {len(others)} cases; choose another one"
        )
    choices = chosen.order(usable, labelled, np.random.default_rng(seed)) if usable else []
    ranked: list[RankedCase] = []
    for choice in choices:
        ranked.append(RankedCase(choice.identifier, len(ranked) + 1, choice.score, choice.why))
    for identifier, missing in others:
        ranked.append(RankedCase(identifier, len(ranked) + 1, None, missing))
    return ranked


def find_strategy(name: str) -> Strategy:
    """Return a strategy.

    Args:
        name: Its name.

    Returns:
        The strategy.

    Raises:
        UserError: There is no such strategy.
    """
    if name not in STRATEGIES:
        raise UserError(f"strategy {name!r}: choose from {', '.join(STRATEGIES)}")
    return STRATEGIES[name]


def _what_is_missing(case: Candidate, strategy: Strategy) -> str:
    if strategy.needs_predictions and not case.is_predicted:
        return "there is no usable prediction"
    if strategy.needs_features and case.features is None:
        return "the image could not be compared with others"
    return ""
