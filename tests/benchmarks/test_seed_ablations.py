"""The runs and tables of the seed ablations. A fake stands in for `samnet_train`."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import seed_ablations
from builders.tiny import add_tiny_backbone, prepare_dataset
from seed_ablation_tables import Row, describe
from seed_ablation_ways import CLAIMS

from samnet.core.errors import SamnetError
from samnet.plan.configuration import PLAN_KEYS
from samnet.planning.planned_dataset import PlannedDataset

NAME = "Dataset501_Tiny"
Run = Callable[..., list[dict[str, str]]]  # arguments -> rows of seed_ablations.csv


class FakeTraining:
    """Stands in for the call of `samnet_train`: writes scores, the lower the higher the seed."""

    def __init__(self) -> None:
        self.commands: list[list[str]] = []
        self.fails_with: str | None = None

    def call(self, command: Sequence[str | Path], log: Path, environment: dict[str, str]) -> None:
        words = [str(word) for word in command]
        self.commands.append(words)
        if self.fails_with is not None and self.fails_with in words:
            raise SamnetError("out of memory")
        configuration, seed = words[5], int(words[words.index("--seed") + 1])
        run = Path(environment["samnet_results"]) / NAME / configuration / "fold_0"
        (run / "validation").mkdir(parents=True)
        scores = {"1": {"Dice": 0.9 - 0.1 * seed}}
        cases = [{"case": "case_00", "metrics": scores}]
        summary = {"foreground_mean": scores["1"], "mean": scores, "metric_per_case": cases}
        (run / "validation" / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
        epochs = [
            {"step": 10, "loss": 0.5, "seconds": 1.0},
            {"step": 20, "loss": 0.4, "seconds": 2.0},
        ]
        text = "".join(json.dumps(epoch) + "\n" for epoch in epochs)
        (run / "metrics.jsonl").write_text(text, encoding="utf-8")


@pytest.fixture
def training(
    monkeypatch: pytest.MonkeyPatch, make_dataset: Callable[..., Path], tmp_path: Path
) -> FakeTraining:
    add_tiny_backbone(monkeypatch)
    make_dataset(tmp_path / "raw", num_cases=5)
    prepare_dataset(tmp_path, 501, monkeypatch)
    fake = FakeTraining()
    monkeypatch.setattr(seed_ablations, "call", fake.call)
    return fake


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    def run(*arguments: str) -> list[dict[str, str]]:
        output = tmp_path / "output"
        words = ["seed_ablations.py", "501", "--device", "cpu", "--steps", "20", *arguments]
        monkeypatch.setattr("sys.argv", [*words, "--output", str(output)])
        seed_ablations.main()
        with (output / "seed_ablations.csv").open(encoding="utf-8", newline="") as handle:
            return list(csv.DictReader(handle))

    return run


def test_ways_set_keys_of_the_plan() -> None:
    for claim in CLAIMS.values():
        names = [way.name for way in claim.ways]
        assert len(set(names)) == len(names)
        for way in claim.ways:
            assert set(way.settings) <= set(PLAN_KEYS)


def test_every_way_is_trained_once_with_every_seed(
    training: FakeTraining, run: Run, tmp_path: Path
) -> None:
    rows = run("--claims", "optimizer", "--seeds", "0", "1")
    assert [row["way"] for row in rows[:6]] == [way.name for way in CLAIMS["optimizer"].ways]
    assert len(rows) == len(training.commands) == 12
    assert rows[0]["losses"] == "0.5 0.4"
    rate = PlannedDataset.find("501").plan.configuration("lora").learning_rate
    settings = [word for word in training.commands[4] if "=" in word]
    assert settings == [
        "steps_per_epoch=3",
        "patience=0",
        f"learning_rate={json.dumps(rate * 10)}",
        'optimizer="sgd"',
        "weight_decay=0.0001",
    ]
    text = (tmp_path / "output" / "seed_ablations.md").read_text(encoding="utf-8")
    assert "| SGD | all | 20 | 0.900, 0.800 | 0.850 | 0.400 |" in text
    assert (tmp_path / "output" / "seed_ablations.png").is_file()
    # Finished runs are kept.
    assert run("--claims", "optimizer", "--seeds", "0", "1") == rows
    assert len(training.commands) == 12


def test_ways_that_train_alike_are_trained_once(training: FakeTraining, run: Run) -> None:
    planned = PlannedDataset.find("501").plan.configuration("lora")
    rows = run("--claims", "rank", "placement", "--seeds", "0")
    ranks = [way.settings["lora_rank"] for way in CLAIMS["rank"].ways]
    targets = [way.settings["lora_targets"] for way in CLAIMS["placement"].ways]
    assert planned.lora_rank in ranks
    assert list(planned.lora_targets) in targets
    assert len(rows) == len(ranks) + len(targets)
    assert len(training.commands) == len(rows) - 1
    same = [
        row["run"]
        for row, value in zip(rows, [*ranks, *targets], strict=True)
        if value in (planned.lora_rank, list(planned.lora_targets))
    ]
    assert len(same) == 2
    assert len(set(same)) == 1


def test_few_patients_are_tried_where_the_claim_is_about_them(
    training: FakeTraining, run: Run
) -> None:
    rows = run("--claims", "patients", "decoder", "--seeds", "0", "--patients", "1", "3")
    assert [row["patients"] for row in rows] == ["1"] * 4 + ["3"] * 4 + ["0"] * 2
    numbers = [words[words.index("--num-patients") + 1] for words in training.commands[:8]]
    assert numbers == ["1"] * 4 + ["3"] * 4
    assert all("--num-patients" not in words for words in training.commands[8:])
    configurations = [words[5] for words in training.commands[:4]]
    assert configurations == ["frozen", "frozen", "frozen", "scratch"]


def test_a_run_that_fails_is_named_and_the_others_are_finished(
    training: FakeTraining, run: Run
) -> None:
    training.fails_with = 'head="mask_decoder_lora"'
    with pytest.raises(SamnetError, match=r"decoder, .*LoRA in the decoder.*: out of memory"):
        run("--claims", "decoder", "--seeds", "0", "1")
    training.fails_with = None
    assert len(run("--claims", "decoder", "--seeds", "0", "1")) == 4
    assert len(training.commands) == 6


def test_describe_has_a_table_for_each_claim_and_data_set() -> None:
    rows = [
        Row(dataset, "rank", "rank 4", 0, 0, 20, 0.5, "", (0.7, 0.6), 1.0, "run")
        for dataset in ("A", "B")
    ]
    text = describe(rows)
    assert text.count("| rank 4 | all | 20 | 0.500 | 0.500 | 0.600 |") == 2
    assert text.index("## rank") < text.index("### rank, A") < text.index("### rank, B")
