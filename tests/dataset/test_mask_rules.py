"""Which cases are held out for a test."""

from __future__ import annotations

from samnet.dataset.mask_rules import MaskRules


def held_out(names: list[str], share: float, patient_key: str | None = None) -> set[str]:
    return set(MaskRules(test_share=share).held_out(names, patient_key))


def test_held_out_cases_are_the_same_on_every_machine_and_in_every_version() -> None:
    """Who converts once more is not to test on what was trained on."""
    names = [f"p{number}" for number in range(10)]
    assert held_out(names, 0.3) == held_out(names[::-1], 0.3) == {"p1", "p4", "p8"}


def test_held_out_share_is_the_nearest_that_whole_patients_give() -> None:
    names = [f"p{patient}_{image}" for patient in range(5) for image in "abcd"]
    assert [len(held_out(names, share)) for share in (0.01, 0.25, 0.35, 0.45)] == [4, 4, 8, 8]


def test_held_out_cases_leave_one_patient_to_train_on() -> None:
    assert len(held_out(["a", "b", "c"], 0.99)) == 2


def test_held_out_patients_are_those_of_the_given_expression() -> None:
    names = [f"{patient}-{visit}" for patient in ("ann", "bob", "eve") for visit in "xyz"]
    chosen = held_out(names, 0.3, "^[a-z]+")
    assert len(chosen) == 3
    assert len({name[:3] for name in chosen}) == 1
