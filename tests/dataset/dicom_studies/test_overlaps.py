"""Regions of overlapping structures: any prediction of them can be written and read."""

from __future__ import annotations

import itertools
import random

import pytest

from samnet.core.errors import UserError
from samnet.dataset.dicom_studies.overlaps import label_structures
from samnet.dataset.label_scheme import LabelScheme, values_of

NAMES = ("a", "b", "c", "d")


@pytest.mark.parametrize("seed", range(100))
def test_every_combination_is_written_as_itself(seed: int) -> None:
    chance = random.Random(seed)
    possible = []
    for size in range(1, 5):
        possible += map(frozenset, itertools.combinations(NAMES, size))
    counts = {entry: chance.randint(1, 99) for entry in chance.sample(possible, 7)}
    if all(len(entry) == 1 for entry in counts):
        return
    places = []
    for name in NAMES:
        places.append([name in entry for entry in counts])
    if any(any(one) and places.count(one) > 1 for one in places):
        with pytest.raises(UserError, match="are the same voxels in all cases"):
            label_structures(NAMES, counts, "regions")
        return
    labelling = label_structures(NAMES, counts, "regions")
    scheme = LabelScheme(labelling.labels, None, labelling.class_order)
    sets = [frozenset(values_of(label)) for label in scheme.foreground.values()]
    assert len(set(sets)) == len(sets)
    assert scheme.regions is not None
    for combination, value in labelling.values.items():
        assert scheme.regions.label_written_for(value) == value
        for name in NAMES:
            values = values_of(labelling.labels[name]) if name in labelling.labels else ()
            assert (value in values) == (name in combination)


def test_structures_that_are_the_same_everywhere_are_refused() -> None:
    with pytest.raises(UserError, match="'a' and 'b' are the same voxels in all cases"):
        label_structures(["a", "b"], {frozenset("ab"): 3}, "regions")


def test_structures_that_do_not_overlap_stay_classes() -> None:
    counts = {frozenset("a"): 3, frozenset("b"): 4}
    labelling = label_structures(["b", "a"], counts, "regions")
    assert labelling.labels == {"background": 0, "b": 1, "a": 2}
    assert labelling.class_order == ()
