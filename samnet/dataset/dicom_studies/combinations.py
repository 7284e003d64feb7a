"""Which structures each voxel of a case lies in."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

Combination = frozenset[str]
NOTHING: Combination = frozenset()


class CombinationMap:
    """A volume that holds a combination of structures at each voxel."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        """Begin with no structure.

        Args:
            shape: Number of voxels along `(Z, Y, X)`.
        """
        self._codes = np.zeros(shape, np.uint16)
        self._combinations: list[Combination] = [NOTHING]

    def add(self, name: str, mask: np.ndarray) -> None:
        """Add a structure, or more voxels of one.

        Args:
            name: Its name.
            mask: Booleans `(Z, Y, X)`.
        """
        before = self._codes[mask]
        after = np.arange(len(self._combinations), dtype=np.uint16)
        for code in np.unique(before):
            after[code] = self._code_of(self._combinations[code] | {name})
        self._codes[mask] = after[before]

    def _code_of(self, combination: Combination) -> int:
        if combination not in self._combinations:
            self._combinations.append(combination)
        return self._combinations.index(combination)

    def counts(self) -> dict[Combination, int]:
        """Return the number of voxels of each combination that occurs, except of none."""
        numbers = np.zeros(len(self._combinations), np.int64)
        for plane in self._codes:  # `bincount` makes a copy of 64 bits
            numbers += np.bincount(plane.ravel(), minlength=len(numbers))
        found = dict(zip(self._combinations, numbers.tolist(), strict=True))
        return {combination: count for combination, count in found.items() if combination and count}

    def to_labels(self, values: Mapping[Combination, int]) -> np.ndarray:
        """Return a label map.

        Args:
            values: The label of each combination that occurs, except of none.

        Returns:
            Labels `(Z, Y, X)` of 16 bits.
        """
        by_code = [values.get(combination, 0) for combination in self._combinations]
        return np.array(by_code, np.uint16)[self._codes]
