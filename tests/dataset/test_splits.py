from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from samnet.core.errors import UserError
from samnet.dataset.cases import find_image_files
from samnet.dataset.splits import find_patient_key, make_splits, patient_of, read_splits


def names(form: str, *counts: int) -> list[str]:
    """Return `form` with each `#` replaced by the numbers below its count, in all combinations."""
    if not counts:
        return [form]
    return [
        name
        for number in range(counts[0])
        for name in names(form.replace("#", f"{number:03d}", 1), *counts[1:])
    ]


GROUPED = {
    "ACDC": (names("patient#_frame#", 8, 2), "patient003_frame001", "patient003"),
    "Sunnybrook": (
        [
            name
            for kind in ("HF-I", "HF-NI", "HYP", "N")
            for name in names(f"SC-{kind}-#-IM-0001-#", 3, 4)
        ],
        "SC-HYP-002-IM-0001-003",
        "SC-HYP-002",
    ),
    "BIDS": (names("sub-#_ses-#_T1w", 6, 2), "sub-005_ses-001_T1w", "sub-005"),
    "one site": (
        names("site1_patient#_slice#", 6, 3),
        "site1_patient002_slice000",
        "site1_patient002",
    ),
    "three sites": (
        names("site#_patient#_slice#", 3, 4, 3),
        "site002_patient001_slice000",
        "site002_patient001",
    ),
    "few patients": (names("p#_slice#", 3, 20), "p001_slice019", "p001"),
    "two sites of few patients": (
        names("site#_patient#_slice#", 2, 2, 3),
        "site001_patient001_slice000",
        "site001",
    ),
    "some with a second scan": ([*names("p#", 6), "p003_2"], "p003_2", "p003"),
    "spaces and letters": (names("Größe # Schicht #", 6, 3), "Größe 004 Schicht 001", "Größe 004"),
}


@pytest.mark.parametrize("kind", GROUPED)
def test_find_patient_key_groups_the_cases_of_a_patient(kind: str) -> None:
    identifiers, one, patient = GROUPED[kind]
    key = find_patient_key(identifiers)
    assert key is not None
    assert one in identifiers
    assert patient_of(one, key) == patient


@pytest.mark.parametrize(
    "identifiers",
    [
        names("hippocampus_#", 20),
        names("BraTS20_Training_#", 20),
        names("sub-#_T1w", 20),
        names("#", 20),
        ["01d44a26f6680c42", "0bf33d3db4282d91", "0d3640c1f1b80f24"],
        ["liver", "spleen"],
        ["only_1_case"],
        [],
    ],
)
def test_find_patient_key_returns_none_for_separate_patients(identifiers: list[str]) -> None:
    assert find_patient_key(identifiers) is None


@pytest.mark.parametrize(
    ("dataset", "patient"),
    [
        ("Dataset004_Hippocampus", None),
        ("Dataset010_SarcomaCT", None),
        ("Dataset020_CardiacLV", "SC-HF-I-01"),
        ("Dataset030_Nuclei", None),
    ],
)
def test_find_patient_key_on_real_case_names(
    real_data: Path, dataset: str, patient: str | None
) -> None:
    folder = real_data / dataset
    ending = json.loads((folder / "dataset.json").read_text())["file_ending"]
    identifiers = list(find_image_files(folder / "imagesTr", ending))
    key = find_patient_key(identifiers)
    if patient is None:
        assert key is None
        return
    assert patient_of(f"{patient}-IM-0001-0048", key) == patient
    assert all(patient_of(name, key) == name.partition("-IM-")[0] for name in identifiers)


@pytest.mark.parametrize(
    ("key", "patient"),
    [
        (None, "p1_s2"),
        (r"^p\d", "p1"),
        (r"(p\d)_(s\d)", "p1"),
        (r"^x\d", "p1_s2"),
        (r"p\d|(s\d)", "p1"),
    ],
)
def test_patient_of_returns_the_first_group_else_the_match_else_the_name(
    key: str | None, patient: str
) -> None:
    assert patient_of("p1_s2", key) == patient


def check_folds(identifiers: list[str], key: str | None, expected_folds: int) -> None:
    folds = make_splits(identifiers, key)
    assert len(folds) == expected_folds
    assert sorted(case for fold in folds for case in fold["val"]) == sorted(identifiers)
    for fold in folds:
        assert sorted(fold["train"] + fold["val"]) == sorted(identifiers)
        assert fold["train"]
        train_patients = {patient_of(case, key) for case in fold["train"]}
        val_patients = {patient_of(case, key) for case in fold["val"]}
        assert not train_patients & val_patients


@pytest.mark.parametrize(
    ("num_cases", "num_folds"), [(2, 2), (3, 3), (4, 4), (5, 5), (6, 5), (23, 5)]
)
def test_make_splits_holds_out_every_case_once(num_cases: int, num_folds: int) -> None:
    identifiers = names("case_#", num_cases)
    check_folds(identifiers, None, num_folds)
    sizes = [len(fold["val"]) for fold in make_splits(identifiers, None)]
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("kind", GROUPED)
def test_make_splits_keeps_a_patient_on_one_side(kind: str) -> None:
    identifiers = GROUPED[kind][0]
    key = find_patient_key(identifiers)
    patients = {patient_of(name, key) for name in identifiers}
    check_folds(identifiers, key, min(5, len(patients)))


def test_make_splits_balances_folds_of_unequal_patients() -> None:
    identifiers = [
        f"p{patient}_{case}"
        for patient, size in enumerate((9, 7, 5, 4, 3, 2, 1, 1))
        for case in range(size)
    ]
    assert sorted(len(fold["val"]) for fold in make_splits(identifiers, r"^p\d")) == [5, 5, 6, 7, 9]


def test_make_splits_does_not_depend_on_the_order_of_the_cases() -> None:
    identifiers = names("p#_slice#", 13, 3)
    expected = make_splits(identifiers, r"^p\d+")
    for seed in range(5):
        shuffled = random.Random(seed).sample(identifiers, len(identifiers))
        assert make_splits(shuffled, r"^p\d+") == expected
    assert make_splits(identifiers, r"^p\d+", seed=1) != expected


def test_make_splits_gives_the_folds_of_earlier_versions() -> None:
    """Results of a fold are only comparable where its cases stay the same."""
    folds = make_splits(names("case_#", 7), None)
    assert [fold["val"] for fold in folds] == [
        ["case_004", "case_006"],
        ["case_003", "case_005"],
        ["case_000"],
        ["case_002"],
        ["case_001"],
    ]


@pytest.mark.parametrize("identifiers", [["only"], ["p1_a", "p1_b"]])
def test_make_splits_puts_a_single_patient_on_both_sides(identifiers: list[str]) -> None:
    assert make_splits(identifiers, "^p1") == [{"train": identifiers, "val": identifiers}]


def test_read_splits_returns_what_was_written(tmp_path: Path) -> None:
    folds = make_splits(names("case_#", 7), None)
    (tmp_path / "splits_final.json").write_text(json.dumps(folds))
    assert read_splits(tmp_path / "splits_final.json", names("case_#", 7)) == folds


@pytest.mark.parametrize(
    "content",
    [
        {},
        [],
        [[]],
        [{"train": ["a"]}],
        [{"train": ["a"], "val": []}],
        [{"train": "a", "val": ["b"]}],
        [{"train": ["a"], "val": [1]}],
        [{"train": ["a"], "val": [{}]}],
        [{"train": ["a"], "val": ["b"]}, None],
    ],
)
def test_read_splits_refuses_another_form(tmp_path: Path, content: Any) -> None:
    (tmp_path / "splits_final.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"splits_final\.json: expected a list of folds"):
        read_splits(tmp_path / "splits_final.json", ["a", "b"])


def test_read_splits_names_unknown_cases(tmp_path: Path) -> None:
    (tmp_path / "splits_final.json").write_text(
        json.dumps([{"train": ["a", "z"], "val": ["b", "y"]}])
    )
    with pytest.raises(UserError, match=r"splits_final\.json: names cases .* does not have: y, z"):
        read_splits(tmp_path / "splits_final.json", ["a", "b"])


def test_read_splits_warns_of_a_case_on_both_sides(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "splits_final.json"
    file.write_text(json.dumps([{"train": ["a"], "val": ["a"]}]))
    read_splits(file, ["a", "b"])
    assert not caplog.messages
    file.write_text(
        json.dumps([{"train": ["a"], "val": ["b"]}, {"train": ["a", "b"], "val": ["b"]}])
    )
    read_splits(file, ["a", "b"])
    assert "fold 1 trains and validates on b" in caplog.text
