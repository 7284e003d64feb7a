"""What a cross-validation compares: single configurations, and ensembles of two."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Candidate:
    """A configuration, or an ensemble of several.

    Attributes:
        members: The configurations, one for a single one.
        summary: The scores of its held-out cases.
        cost: What it computes for a case, in 10^12 multiplications.
    """

    members: tuple[str, ...]
    summary: dict[str, Any]
    cost: float

    @property
    def name(self) -> str:
        """The names of the members, joined by `+`."""
        return "+".join(self.members)

    @property
    def dice(self) -> float:
        """Mean foreground Dice of the held-out cases; NaN where no case shows any class."""
        return self.summary["foreground_mean"]["Dice"]

    @property
    def finds_anything(self) -> bool:
        """Whether any voxel of the foreground is predicted right in any case."""
        cases = self.summary["metric_per_case"]
        return any(scores["TP"] > 0 for case in cases for scores in case["metrics"].values())

    def case_names(self) -> list[str]:
        """Return the names of the held-out cases, sorted."""
        return [case["case"] for case in self.summary["metric_per_case"]]

    def dice_table(self) -> np.ndarray:
        """Return the Dice of every held-out case and class.

        Returns:
            `(N, K)` of N cases, in the order of their names, and K classes; NaN where undefined.
        """
        rows = []
        for case in self.summary["metric_per_case"]:
            rows.append([scores["Dice"] for scores in case["metrics"].values()])
        return np.array(rows, dtype=float)
