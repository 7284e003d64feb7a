"""The rules for structures that are copied from slice to slice."""

from __future__ import annotations

from typing import Any

import pytest
from builders.fingerprint import make_fingerprint
from builders.planned import decide

# In slices of 200 x 160 mm; all classes are in 10 of 40 slices across Z.
RARE = {"labelled_slices": 10}


def test_nothing_is_copied_by_default() -> None:
    assert decide(make_fingerprint())["structure_copying"].value == 0.0


def test_labels_of_rare_small_compact_classes_may_be_copied() -> None:
    decision = decide(make_fingerprint(diameters={"liver": 120.0, "tumour": 30.0}, **RARE))
    assert decision["copied_labels"].value == (2,)
    assert decision["copied_labels"].because == (
        "'tumour' is in 25% of the slices, takes 2.2% of them there, and is 1.0 times as wide as a "
        "disc of its area"
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"labelled_slices": 30},
        {"diameters": {"tumour": 70.0}},
        {"diameters": {"vessel": 30.0}, "thickness": 5.0},
        {"diameters": {"nowhere": None}},
    ],
    ids=["in most slices", "large", "thin", "never seen"],
)
def test_labels_of_other_classes_may_not(changes: dict[str, Any]) -> None:
    values = {"diameters": {"tumour": 30.0}} | RARE | changes
    decision = decide(make_fingerprint(**values))["copied_labels"]
    assert decision.value == ()
    assert decision.because.startswith("no class is in at most 50% of the slices")
