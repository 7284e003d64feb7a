from __future__ import annotations

import itertools

import pytest

from samnet.core.errors import UserError
from samnet.training.run_cases import MAX_TRAINING_VALIDATION, choose_cases

CASES = [f"case_{number}" for number in range(10)]
SPLITS = [{"train": CASES[2:], "val": CASES[:2]}, {"train": CASES[:8], "val": CASES[8:]}]


def test_a_fold_holds_its_cases_out() -> None:
    assert choose_cases(SPLITS, "1") == (CASES[:8], CASES[8:], True)


def test_all_trains_on_everything_and_watches_some_of_it() -> None:
    training, validation, held_out = choose_cases(SPLITS, "all")
    assert (training, held_out) == (CASES, False)
    assert set(validation) <= set(training)
    assert len(validation) == MAX_TRAINING_VALIDATION


def test_a_single_patients_fold_holds_nothing_out() -> None:
    assert choose_cases([{"train": CASES, "val": CASES}], "0")[2] is False


def test_fewer_cases_are_a_part_of_more() -> None:
    chosen = [set(choose_cases(SPLITS, "0", num_cases=count, seed=5)[0]) for count in range(1, 9)]
    assert [len(cases) for cases in chosen] == list(range(1, 9))
    assert all(fewer < more for fewer, more in itertools.pairwise(chosen))
    assert (
        len({tuple(choose_cases(SPLITS, "0", num_cases=3, seed=seed)[0]) for seed in range(9)}) > 3
    )
    assert choose_cases(SPLITS, "0", num_cases=3)[1] == CASES[:2]


def test_fewer_patients_come_with_all_their_cases() -> None:
    cases = [f"patient{patient}_{frame}" for patient in range(6) for frame in range(patient + 1)]
    splits = [{"train": cases[3:], "val": cases[:3]}]  # patients 2 to 5
    key = r"^patient\d"

    def draw(number: int, seed: int = 0) -> list[str]:
        return choose_cases(splits, "0", seed=seed, num_patients=number, patient_key=key)[0]

    for number in range(1, 5):
        patients = {case[:8] for case in draw(number)}
        assert len(patients) == number
        assert draw(number) == [case for case in cases if case[:8] in patients]
        assert set(draw(number)) <= set(draw(min(number + 1, 4)))
    assert len({tuple(draw(1, seed)) for seed in range(20)}) == 4
    with pytest.raises(UserError, match="--num-patients 5: fold 0 has 4 training patients"):
        draw(5)


@pytest.mark.parametrize("fold", ["2", "-1", "00", "²", "a", "", "fold_0"])
def test_what_is_no_fold(fold: str) -> None:
    with pytest.raises(UserError, match="choose from 0 to 1, all, or cv"):
        choose_cases(SPLITS, fold)


def test_more_cases_than_there_are() -> None:
    with pytest.raises(UserError, match="--num-cases 9: fold 0 has 8 training cases"):
        choose_cases(SPLITS, "0", num_cases=9)
