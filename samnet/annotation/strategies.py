"""The strategies by which unlabelled cases are ordered. Add one to `STRATEGIES`, and users have it.

Each is a function of cases of which everything is known that it needs. None of them looks at a
reference.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from samnet.annotation.candidate import Candidate
from samnet.annotation.distances import (
    NOTHING,
    Step,
    compute_distances,
    farthest,
    most_covering,
    order_greedily,
)
from samnet.annotation.doubt import Doubt, measure_doubt

# The share of the choices that are made by class, as in the "66 % foreground" of nnActive
# (arXiv 2511.19183), where it is a share of patches.
FOREGROUND_SHARE = 2 / 3


@dataclass(frozen=True)
class LabelledCase:
    """A labelled case, which the next ones should not repeat.

    Attributes:
        identifier: The name of the case.
        features: Numbers `(F,)` by which images are compared.
    """

    identifier: str
    features: np.ndarray


@dataclass(frozen=True)
class Choice:
    """A case in its place.

    Attributes:
        identifier: The name of the case.
        score: What it was chosen by; None where it was drawn.
        why: The reason in words.
    """

    identifier: str
    score: float | None
    why: str


Order = Callable[[Sequence[Candidate], Sequence[LabelledCase], np.random.Generator], list[Choice]]


@dataclass(frozen=True)
class Strategy:
    """A way to order unlabelled cases.

    Attributes:
        summary: What it prefers, in one line.
        order: Returns all cases in their order.
        needs_predictions: Whether cases have to be predicted.
        needs_features: Whether cases need numbers by which images are compared.
    """

    summary: str
    order: Order
    needs_predictions: bool = False
    needs_features: bool = False


def _at_random(
    cases: Sequence[Candidate], labelled: Sequence[LabelledCase], random: np.random.Generator
) -> list[Choice]:
    order = random.permutation(len(cases))
    return [Choice(cases[index].identifier, None, "drawn at random") for index in order]


def _by_foreground(
    cases: Sequence[Candidate], labelled: Sequence[LabelledCase], random: np.random.Generator
) -> list[Choice]:
    """Draw a class, as likely each, and then a case that shows it; at times any case."""
    remaining = list(cases)
    choices = []
    while remaining:
        by_class: dict[str, list[Candidate]] = {}
        for case in remaining:
            for name in case.shown_classes:
                by_class.setdefault(name, []).append(case)
        drawn_from, why = remaining, "drawn at random among all cases"
        if by_class and random.random() < FOREGROUND_SHARE:
            name = sorted(by_class)[random.integers(len(by_class))]
            drawn_from, why = by_class[name], f"drawn at random among cases that show {name}"
        case = drawn_from[random.integers(len(drawn_from))]
        remaining.remove(case)
        choices.append(Choice(case.identifier, None, why))
    return choices


def _by_doubt(
    cases: Sequence[Candidate], labelled: Sequence[LabelledCase], random: np.random.Generator
) -> list[Choice]:
    doubts = measure_doubt(cases)
    order = sorted(range(len(cases)), key=lambda index: -doubts[index].value)
    choices = []
    for index in order:
        doubt = doubts[index]
        choices.append(Choice(cases[index].identifier, doubt.value, doubt.why))
    return choices


def _by_distance(
    cases: Sequence[Candidate], labelled: Sequence[LabelledCase], random: np.random.Generator
) -> list[Choice]:
    names, distances = _compare(cases, labelled)
    steps = order_greedily(distances, len(labelled), farthest)
    return [
        Choice(cases[step.index].identifier, step.distance, _describe_distance(step, names))
        for step in steps
    ]


def _by_coverage(
    cases: Sequence[Candidate], labelled: Sequence[LabelledCase], random: np.random.Generator
) -> list[Choice]:
    _, distances = _compare(cases, labelled)
    choices = []
    for step in order_greedily(distances, len(labelled), most_covering):
        name = cases[step.index].identifier
        noun = "case is" if step.num_nearer == 1 else "cases are"
        why = (
            f"{step.num_nearer} unlabelled {noun} nearer to it than to any labelled or chosen case"
        )
        choices.append(Choice(name, step.score, why))
    return choices


def _by_doubt_and_distance(
    cases: Sequence[Candidate], labelled: Sequence[LabelledCase], random: np.random.Generator
) -> list[Choice]:
    """Multiply the share of cases that are less doubtful by the distance."""
    doubts = measure_doubt(cases)
    shares = _shares_below(doubts)
    names, distances = _compare(cases, labelled)

    def score(between: np.ndarray, gap: np.ndarray) -> np.ndarray:
        return shares * gap

    choices = []
    for step in order_greedily(distances, len(labelled), score):
        why = f"{doubts[step.index].why}; {_describe_distance(step, names)}"
        choices.append(Choice(cases[step.index].identifier, step.score, why))
    return choices


def _shares_below(doubts: Sequence[Doubt]) -> np.ndarray:
    """Return the share of cases that are at most as doubtful as each case."""
    values = np.array([doubt.value for doubt in doubts])
    return np.array([float((values <= value).mean()) for value in values])


def _compare(
    cases: Sequence[Candidate], labelled: Sequence[LabelledCase]
) -> tuple[list[str], np.ndarray]:
    """Return the names of all cases, the labelled ones first, and their distances."""
    features = [case.features for case in labelled]
    features += [case.features for case in cases if case.features is not None]
    names = [case.identifier for case in labelled]
    names += [case.identifier for case in cases]
    return names, compute_distances(features)


def _describe_distance(step: Step, names: Sequence[str]) -> str:
    if step.nearest == NOTHING:
        return "nothing is labelled yet; in the middle of all cases"
    return (
        f"{step.distance:.1f} times as far from {names[step.nearest]}, the nearest labelled or "
        "chosen case, as neighbours usually are"
    )


RANDOM, FOREGROUND, DOUBTFUL = "random", "foreground", "doubtful"
UNLIKE, TYPICAL, MIXED = "unlike", "typical", "mixed"
STRATEGIES = {
    RANDOM: Strategy("any case, all equally likely", _at_random),
    FOREGROUND: Strategy(
        "drawn at random, rare classes as often as frequent ones", _by_foreground, True
    ),
    DOUBTFUL: Strategy("the lowest expected Dice first", _by_doubt, True),
    UNLIKE: Strategy(
        "most unlike the labelled cases, and unlike each other", _by_distance, False, True
    ),
    TYPICAL: Strategy(
        "cases that stand for many others, and not for those of labelled cases",
        _by_coverage,
        False,
        True,
    ),
    MIXED: Strategy(
        "a low expected Dice, and unlike the labelled cases and each other",
        _by_doubt_and_distance,
        True,
        True,
    ),
}
DEFAULT = RANDOM
