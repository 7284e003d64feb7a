"""The order and the records of an ablation. A fake stands in for the runs of `samnet_train`."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import ablate
import pytest
from ablation_tables import Row, describe, verdict
from runs import Dice, read_dice

from samnet.core.errors import SamnetError

NAME = "Dataset501_Tiny"
Run = Callable[..., list[dict[str, str]]]  # arguments of the command line -> rows of ablation.csv


class FakeTraining:
    """Stands in for the call of `samnet_train`: writes scores that depend on the plan's head."""

    def __init__(self) -> None:
        self.commands: list[list[str]] = []
        self.heads: list[str] = []
        self.fails_for: str | None = None

    def call(self, command: Sequence[str | Path], log: Path, environment: dict[str, str]) -> None:
        preprocessed = Path(environment["samnet_preprocessed"]) / NAME
        plan = json.loads((preprocessed / "samnetPlans.json").read_text(encoding="utf-8"))
        head = plan["configurations"]["lora"]["decisions"]["head"]["value"]
        if head == self.fails_for:
            raise SamnetError("out of memory")
        self.commands.append([str(word) for word in command])
        self.heads.append(head)
        run = Path(environment["samnet_results"]) / NAME / "lora" / "fold_0"
        (run / "validation").mkdir(parents=True)
        dice = 0.9 if head == "cnn" else 0.5
        scores = {"1": {"Dice": dice}}
        cases = [{"case": "case_00", "metrics": scores}]
        summary = {"foreground_mean": scores["1"], "mean": scores, "metric_per_case": cases}
        (run / "validation" / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
        (run / "metrics.jsonl").write_text('{"step": 7, "seconds": 1.5}\n', encoding="utf-8")


@pytest.fixture
def training(
    monkeypatch: pytest.MonkeyPatch, make_dataset: Callable[..., Path], folders: dict[str, Path]
) -> FakeTraining:
    make_dataset(folders["raw"], num_cases=5)
    fake = FakeTraining()
    monkeypatch.setattr(ablate, "call", fake.call)
    return fake


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, folders: dict[str, Path]) -> Run:
    def run(*arguments: str) -> list[dict[str, str]]:
        output = tmp_path / "output"
        words = ["ablate.py", "501", "--device", "cpu", "--processes", "0"]
        monkeypatch.setattr("sys.argv", [*words, "--output", str(output), *arguments])
        monkeypatch.setenv("samnet_preprocessed", str(folders["preprocessed"]))
        ablate.main()
        with (output / "ablation.csv").open(encoding="utf-8", newline="") as handle:
            return list(csv.DictReader(handle))

    return run


def test_ablate_trains_every_choice_once_and_the_plans_own_for_all_decisions(
    training: FakeTraining, run: Run, tmp_path: Path, folders: dict[str, Path]
) -> None:
    rows = run("--decision", "heads", "augmentation", "--steps", "20", "--cases", "2")
    assert len(training.commands) == 10  # nine heads; no augmentation
    assert len(rows) == 11
    assert {row["run"] for row in rows if row["is_planned"] == "True"} == {rows[-2]["run"]}
    assert all(row["cases"] == "2" and row["steps"] == "7" for row in rows)
    assert list(folders["preprocessed"].iterdir()) == []
    tables = (tmp_path / "output" / "ablation.md").read_text(encoding="utf-8")
    expected = "The plan's choice, upsampling_quarter, is 0.400 behind: not within 0.005."
    assert f"Best of 9: cnn. {expected}" in tables
    assert run("--decision", "heads", "--steps", "20", "--cases", "2") == rows[:9]
    assert len(training.commands) == 10
    run("--decision", "augmentation", "--steps", "21", "--cases", "2")
    assert len(training.commands) == 12


def test_ablate_trains_for_equal_lengths_with_one_validation_at_the_end(
    training: FakeTraining, run: Run, tmp_path: Path
) -> None:
    run("--decision", "augmentation", "--steps", "20", "--seeds", "3")
    run("--decision", "augmentation", "--minutes", "1.5")
    length = ["--steps", "20", "--set", "steps_per_epoch=20"]
    for command in training.commands[:2]:
        assert command[-8:] == ["--seed", "3", *length, "--device", "cpu"]
    for command in training.commands[2:]:
        assert command[-6:-2] == ["--max-time", "90s", "--set", "steps_per_epoch=3000"]
    splits = tmp_path / "output" / "preprocessed" / NAME / "splits_final.json"
    (fold,) = json.loads(splits.read_text(encoding="utf-8"))
    assert set(fold["train"]) & set(fold["val"]) == set()


def test_ablate_names_a_run_that_fails_and_finishes_the_others(
    training: FakeTraining, run: Run, tmp_path: Path
) -> None:
    training.fails_for = "linear"
    with pytest.raises(SamnetError, match=f"heads, {NAME}, linear, seed 0: out of memory"):
        run("--decision", "heads", "--steps", "20")
    assert len(training.heads) == 8
    training.fails_for = None
    assert len(run("--decision", "heads", "--steps", "20", "--finished")) == 8
    assert len(training.heads) == 8
    assert len(run("--decision", "heads", "--steps", "20")) == 9
    assert training.heads[8:] == ["linear"]


def row(
    choice: str,
    dice: float,
    dataset: str = "A",
    *,
    is_planned: bool = False,
    seed: int = 0,
    per_case: tuple[float, ...] = (0.5,),
) -> Row:
    return Row(
        dataset=dataset,
        decision="zoom",
        choice=choice,
        is_planned=is_planned,
        follows="",
        configuration="lora",
        cases=8,
        validation_cases=4,
        seed=seed,
        length="9 steps",
        dice=dice,
        per_class="",
        per_case=per_case,
        steps=9,
        seconds=1.0,
        run=choice,
    )


@pytest.mark.parametrize(
    ("planned", "other", "expected"),
    [
        (0.8, 0.7, "Best of 2: 1 x, which is the plan's choice."),
        (0.8, 0.804, "Best of 2: 2 x. The plan's choice, 1 x, is 0.004 behind: within 0.005."),
        (0.8, 0.81, "Best of 2: 2 x. The plan's choice, 1 x, is 0.010 behind: not within 0.005."),
    ],
)
def test_verdict_names_the_best_choice_and_how_far_the_plan_is_behind(
    planned: float, other: float, expected: str
) -> None:
    assert verdict([row("1 x", planned, is_planned=True), row("2 x", other)]) == expected


def test_verdict_needs_the_run_of_the_plans_choice() -> None:
    assert verdict([row("2 x", 0.8), row("0.5 x", 0.7)]) == "Not enough runs yet."


def test_describe_has_one_table_of_means_over_seeds_for_several_data_sets() -> None:
    rows = [
        row("1 x", 0.8, is_planned=True),
        row("1 x", 0.6, is_planned=True, seed=1),
        row("2 x", 0.5),
        row("1 x", 0.4, "B", is_planned=True),
    ]
    table = describe(rows).split("###")[0]
    assert "| choice | A | B |" in table
    assert "| 1 x | **0.700** | **0.400** |" in table
    assert "| 2 x | 0.500 |  |" in table
    assert "| 2 x |  | 0.500 | -0.200 |" in describe(rows)


def test_describe_gives_a_difference_with_its_standard_error_over_cases() -> None:
    planned = [
        row("1 x", 0.5, is_planned=True, seed=seed, per_case=(0.4, 0.6, 0.2, math.nan))
        for seed in (0, 1)
    ]
    others = [
        row("2 x", 0.6, seed=0, per_case=(0.5, 0.8, 0.4, 0.3)),
        row("2 x", 0.6, seed=1, per_case=(0.5, 0.8, 0.6, 0.3)),
    ]
    assert "| +0.100 +- 0.058 |" in describe([*planned, *others])  # differences 0.1, 0.2 and 0.3


def test_read_dice_averages_the_classes_that_a_case_has(tmp_path: Path) -> None:
    cases = [
        {"case": "a", "metrics": {"1": {"Dice": 0.4}, "2": {"Dice": 0.6}}},
        {"case": "b", "metrics": {"1": {"Dice": math.nan}, "2": {"Dice": 0.7}}},
    ]
    summary = {
        "foreground_mean": {"Dice": 0.525},
        "mean": {"1": {"Dice": 0.4}, "2": {"Dice": 0.65}},
        "metric_per_case": cases,
    }
    (tmp_path / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    expected = Dice(0.525, {1: 0.4, 2: 0.65}, {"a": 0.5, "b": 0.7})
    assert read_dice(tmp_path / "summary.json") == expected
