"""An unlabelled case, and what is known of it before anybody labels it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from samnet.confidence.calibration import Expectation
from samnet.confidence.files import read_confidence, read_signals
from samnet.confidence.signals import ClassSignals


@dataclass(frozen=True)
class Candidate:
    """An unlabelled case.

    Attributes:
        identifier: The name of the case.
        confidence: What Dice is expected of its prediction, by class; empty where that is not
            known.
        signals: How sure the networks are of its prediction, by class; empty likewise.
        features: Numbers `(F,)` by which images are compared; None where they are not known.
    """

    identifier: str
    confidence: Mapping[str, Expectation] = field(default_factory=dict)
    signals: Mapping[str, ClassSignals] = field(default_factory=dict)
    features: np.ndarray | None = None

    @property
    def is_predicted(self) -> bool:
        """Whether anything is known of a prediction."""
        return bool(self.confidence or self.signals)

    @property
    def shown_classes(self) -> tuple[str, ...]:
        """The classes that the prediction shows."""
        shown = [name for name, expected in self.confidence.items() if expected.dice is not None]
        shown += [name for name, signals in self.signals.items() if signals.size > 0]
        return tuple(dict.fromkeys(shown))


def read_candidates(
    identifiers: Sequence[str],
    folders: Sequence[Path],
    features: Mapping[str, np.ndarray] | None = None,
) -> list[Candidate]:
    """Collect what is known of unlabelled cases.

    Args:
        identifiers: The names of the cases.
        folders: Folders of predictions, with `confidence.csv` or `signals.csv`. Of a case that is
            in several, the first one counts.
        features: Name of a case -> numbers by which images are compared; None for none.

    Returns:
        The cases, in the order given.
    """
    tables = [(read_confidence(folder), read_signals(folder)) for folder in folders]
    candidates = []
    for identifier in identifiers:
        of_images = None if features is None else features.get(identifier)
        candidate = Candidate(identifier, features=of_images)
        for confidence, signals in tables:
            if identifier in confidence or identifier in signals:
                known = (confidence.get(identifier, {}), signals.get(identifier, {}))
                candidate = Candidate(identifier, *known, of_images)
                break
        candidates.append(candidate)
    return candidates
