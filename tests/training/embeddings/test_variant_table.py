from __future__ import annotations

import numpy as np
import pytest
from builders.embeddings import make_variants

from samnet.preprocessing.storage import StoredCase
from samnet.training.embeddings.variant_table import VariantTable
from samnet.training.embeddings.variants import SliceVariant


@pytest.fixture
def variants(cases: list[StoredCase]) -> list[SliceVariant]:
    """Return variants with and without bends, changed intensities and classes."""
    reader = make_variants(cases)
    drawn = []
    for index in (0, 2, 5):
        drawn += [reader.draw(0, 0, index, number) for number in range(4)]
    assert {variant.bend_seed is None for variant in drawn} == {True, False}
    assert {len(variant.classes) for variant in drawn} >= {0, 2}
    return drawn


def test_table_returns_the_variants_that_it_holds(variants: list[SliceVariant]) -> None:
    assert list(VariantTable.of(variants)) == variants
    tables = [VariantTable.of(variants[:5]), VariantTable.of([]), VariantTable.of(variants[5:])]
    joined = VariantTable.joined(tables)
    assert list(joined) == variants
    assert joined.slices.tolist() == [variant.index for variant in variants]
    assert list(VariantTable.joined([])) == []


def test_table_is_brought_into_another_order(variants: list[SliceVariant]) -> None:
    order = np.random.default_rng(0).permutation(len(variants))
    expected = [variants[number] for number in order]
    assert list(VariantTable.of(variants).in_order(order)) == expected


@pytest.mark.parametrize("value", [1, 2, 3])
def test_table_finds_the_variants_that_show_a_class(
    variants: list[SliceVariant], value: int
) -> None:
    table = VariantTable.of(variants)
    for start, stop in ((0, len(variants)), (3, 7), (4, 4)):
        expected = [n for n in range(start, stop) if value in variants[n].classes]
        assert table.find(start, stop, value).tolist() == expected
