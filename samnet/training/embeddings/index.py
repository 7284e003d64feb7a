"""Which stored embeddings there are of a slice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from samnet.training.embeddings.cache import StoredBlock
from samnet.training.embeddings.variant_table import VariantTable
from samnet.training.embeddings.variants import SliceVariant
from samnet.training.slice_reader import SliceReader


@dataclass(frozen=True)
class StoredEmbedding:
    """An embedding on disk.

    Attributes:
        block: The number of its block.
        row: Its row in the block's array.
        variant: How its slice was shown.
    """

    block: int
    row: int
    variant: SliceVariant


class EmbeddingIndex:
    """Finds the embeddings of a slice. It is held in arrays: see `VariantTable`."""

    def __init__(self, reader: SliceReader, blocks: Sequence[StoredBlock]) -> None:
        """Sort the embeddings by slice.

        Args:
            reader: The slices.
            blocks: Embeddings of them.
        """
        self._files = [str(entry.file) for entry in blocks]
        self._first_place: dict[tuple[int, int], int] = {}
        num_places = 0
        for case_index, axis in reader.stacks:
            self._first_place[case_index, axis] = num_places
            num_places += reader.cases[case_index].num_slices(axis)
        numbers = {case.identifier: number for number, case in enumerate(reader.cases)}
        lengths = [len(entry.variants) for entry in blocks]
        firsts = []
        for entry in blocks:
            firsts.append(self._first_place[numbers[entry.block.identifier], entry.block.axis])
        variants = VariantTable.joined([entry.variants for entry in blocks])
        places = np.repeat(np.array(firsts, np.int64), lengths) + variants.slices
        # Embeddings of a slice stay in the order of their blocks, on which samples depend.
        order = np.argsort(places, kind="stable")
        self._variants = variants.in_order(order)
        self._starts = np.searchsorted(places[order], np.arange(num_places + 1))
        self._blocks = np.repeat(np.arange(len(blocks)), lengths)[order]
        rows = [np.zeros(0, np.int64), *(np.arange(length) for length in lengths)]
        self._rows = np.concatenate(rows)[order]

    def __len__(self) -> int:
        return len(self._blocks)

    def __getitem__(self, number: int) -> StoredEmbedding:
        block, row = int(self._blocks[number]), int(self._rows[number])
        return StoredEmbedding(block, row, self._variants[number])

    def file(self, block: int) -> Path:
        """Return the file of a block.

        Args:
            block: Its number.

        Returns:
            The array on disk.
        """
        return Path(self._files[block])

    def find(self, case_index: int, axis: int, index: int) -> range:
        """Find the embeddings of a slice.

        Args:
            case_index: The case.
            axis: The axis across which the slice lies.
            index: The slice.

        Returns:
            Their numbers; none where the slice is not embedded.
        """
        place = self._first_place[case_index, axis] + index
        return range(int(self._starts[place]), int(self._starts[place + 1]))

    def showing(self, found: range, value: int) -> np.ndarray:
        """Return those of a slice's embeddings that show a class.

        Args:
            found: What `find` has found.
            value: The class.

        Returns:
            Their numbers.
        """
        return self._variants.find(found.start, found.stop, value)
