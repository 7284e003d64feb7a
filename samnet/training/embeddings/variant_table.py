"""Many variants of slices in a few arrays.

Loader workers are forked, and reading a Python object writes its count of references. So an object
for each variant would be copied into every worker, gigabytes of them. Arrays stay shared.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from samnet.training.embeddings.variants import SliceVariant

_NO_SEED = -1
_ROW = np.dtype(
    [
        ("index", np.int32),
        ("centre", np.float64, (2,)),
        ("matrix", np.float64, (2, 2)),
        ("bend_seed", np.int64),
        ("is_reversed", np.bool_),
        ("intensity_seed", np.int64),
    ]
)


class VariantTable:
    """A sequence of `SliceVariant` that is held in arrays."""

    def __init__(self, rows: np.ndarray, classes: np.ndarray, ends: np.ndarray) -> None:
        """Take the arrays; `of` makes them.

        Args:
            rows: The variants `(N,)`, without their classes.
            classes: The classes of all variants, one variant after the other.
            ends: `(N + 1,)`, where the classes of a variant begin, and the end of the last.
        """
        self._rows, self._classes, self._ends = rows, classes, ends

    @classmethod
    def of(cls, variants: Sequence[SliceVariant]) -> VariantTable:
        """Put variants into a table.

        Args:
            variants: The variants.

        Returns:
            The table.
        """
        rows = np.empty(len(variants), _ROW)
        classes: list[int] = []
        ends = [0]
        for row, variant in zip(rows, variants, strict=True):
            row["index"], row["is_reversed"] = variant.index, variant.is_reversed
            row["centre"], row["matrix"] = variant.centre, variant.matrix
            row["bend_seed"] = _to_number(variant.bend_seed)
            row["intensity_seed"] = _to_number(variant.intensity_seed)
            classes += variant.classes
            ends.append(len(classes))
        return cls(rows, np.array(classes, np.int32), np.array(ends, np.int64))

    @classmethod
    def joined(cls, tables: Sequence[VariantTable]) -> VariantTable:
        """Put tables one below the other.

        Args:
            tables: The tables.

        Returns:
            One table.
        """
        every = [cls.of([]), *tables]
        counts = np.concatenate([np.diff(table._ends) for table in every])
        return cls(
            np.concatenate([table._rows for table in every]),
            np.concatenate([table._classes for table in every]),
            _ends_of(counts),
        )

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, number: int) -> SliceVariant:
        row = self._rows[number]
        first, second = row["matrix"].tolist()
        shown = self._classes[self._ends[number] : self._ends[number + 1]]
        return SliceVariant(
            index=int(row["index"]),
            centre=(float(row["centre"][0]), float(row["centre"][1])),
            matrix=((first[0], first[1]), (second[0], second[1])),
            bend_seed=_from_number(int(row["bend_seed"])),
            is_reversed=bool(row["is_reversed"]),
            intensity_seed=_from_number(int(row["intensity_seed"])),
            classes=tuple(shown.tolist()),
        )

    @property
    def slices(self) -> np.ndarray:
        """The slices that the variants show `(N,)`."""
        return self._rows["index"]

    def in_order(self, order: np.ndarray) -> VariantTable:
        """Return the variants in another order.

        Args:
            order: Their numbers `(N,)`.

        Returns:
            A table.
        """
        counts = np.diff(self._ends)[order]
        ends = _ends_of(counts)
        places = np.arange(ends[-1]) + np.repeat(self._ends[order] - ends[:-1], counts)
        return VariantTable(self._rows[order], self._classes[places], ends)

    def find(self, start: int, stop: int, value: int) -> np.ndarray:
        """Find the variants that show a class.

        Args:
            start: The first variant to look at.
            stop: The first variant that is not looked at.
            value: The class.

        Returns:
            Their numbers, in ascending order.
        """
        begin = self._ends[start]
        places = np.flatnonzero(self._classes[begin : self._ends[stop]] == value) + begin
        return np.searchsorted(self._ends, places, side="right") - 1


def _to_number(seed: int | None) -> int:
    return _NO_SEED if seed is None else seed


def _from_number(number: int) -> int | None:
    return None if number == _NO_SEED else number


def _ends_of(counts: np.ndarray) -> np.ndarray:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(counts, dtype=np.int64)])
