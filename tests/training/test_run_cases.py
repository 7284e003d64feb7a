from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from builders.tiny import make_case

from samnet.core.errors import UserError
from samnet.training.run_cases import (
    MAX_TRAINING_VALIDATION,
    FoldCases,
    choose_cases,
    load_cases,
    names_in_splits,
)

CASES = [f"case_{number}" for number in range(10)]
SPLITS = [{"train": CASES[2:], "val": CASES[:2]}, {"train": CASES[:8], "val": CASES[8:]}]


def test_fold_holds_its_validation_cases_out() -> None:
    assert choose_cases(SPLITS, "1") == FoldCases(CASES[:8], CASES[8:], held_out=True)


def test_fold_all_trains_on_every_case_and_watches_some_of_them() -> None:
    cases = choose_cases(SPLITS, "all")
    assert (cases.training, cases.held_out, cases.scored) == (CASES, False, [])
    assert set(cases.validation) <= set(cases.training)
    assert len(cases.validation) == MAX_TRAINING_VALIDATION


def test_fold_of_a_single_patient_holds_nothing_out() -> None:
    assert not choose_cases([{"train": CASES, "val": CASES}], "0").held_out


def test_fold_without_validation_cases_holds_nothing_out() -> None:
    cases = choose_cases([{"train": CASES, "val": []}], "0")
    assert not cases.held_out
    assert cases.validation == CASES[:MAX_TRAINING_VALIDATION]


def test_order_of_the_cases_in_the_splits_does_not_matter() -> None:
    reversed_splits = [{"train": CASES[:1:-1], "val": CASES[1::-1]}]
    for num_cases in (None, 3):
        found = choose_cases(reversed_splits, "0", num_cases, seed=1)
        assert found == choose_cases(SPLITS, "0", num_cases, seed=1)


def test_num_cases_chooses_subsets_of_each_other() -> None:
    chosen = []
    for count in range(1, 9):
        chosen.append(set(choose_cases(SPLITS, "0", num_cases=count, seed=5).training))
    assert [len(cases) for cases in chosen] == list(range(1, 9))
    assert all(fewer < more for fewer, more in itertools.pairwise(chosen))
    by_seed = {
        tuple(choose_cases(SPLITS, "0", num_cases=3, seed=seed).training) for seed in range(9)
    }
    assert len(by_seed) > 3
    assert choose_cases(SPLITS, "0", num_cases=3).validation == CASES[:2]


def test_num_patients_chooses_all_cases_of_a_patient() -> None:
    cases = []
    for patient in range(6):
        cases += [f"patient{patient}_{frame}" for frame in range(patient + 1)]
    splits = [{"train": cases[3:], "val": cases[:3]}]  # patients 2 to 5
    key = r"^patient\d"

    def draw(number: int, seed: int = 0) -> list[str]:
        chosen = choose_cases(splits, "0", seed=seed, num_patients=number, patient_key=key)
        return chosen.training

    for number in range(1, 5):
        patients = {case[:8] for case in draw(number)}
        assert len(patients) == number
        assert draw(number) == [case for case in cases if case[:8] in patients]
        assert set(draw(number)) <= set(draw(min(number + 1, 4)))
    assert len({tuple(draw(1, seed)) for seed in range(20)}) == 4
    with pytest.raises(UserError, match="--num-patients 5: fold 0 has 4 training patients"):
        draw(5)


@pytest.mark.parametrize("fold", ["2", "-1", "00", "²", "a", "", "fold_0"])
def test_unknown_fold_is_refused(fold: str) -> None:
    with pytest.raises(UserError, match="choose from 0, 1, all, or cv"):
        choose_cases(SPLITS, fold)


def test_num_cases_above_those_of_the_fold_is_refused() -> None:
    with pytest.raises(UserError, match="--num-cases 9: fold 0 has 8 training cases"):
        choose_cases(SPLITS, "0", num_cases=9)


def test_names_in_splits_are_each_listed_once() -> None:
    assert names_in_splits(SPLITS) == CASES


def test_cases_that_are_not_prepared_for_the_planned_views_are_refused(tmp_path: Path) -> None:
    labels = np.ones((2, 3, 4), np.uint8)
    make_case(tmp_path, labels[None], labels, name="a", views=(0,))
    assert [case.identifier for case in load_cases(tmp_path, ["a"], (0,))] == ["a"]
    with pytest.raises(UserError, match=r"case 'a' is not prepared for the views \[0, 2\]"):
        load_cases(tmp_path, ["a"], (0, 2))
