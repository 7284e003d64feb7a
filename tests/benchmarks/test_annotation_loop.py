"""The benchmark of simulated annotation, without training."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from annotation_loop import (
    START,
    Row,
    differences_from_random,
    folders_of,
    make_pool,
    read_rows,
    summarize,
)
from builders.data import write_dataset
from builders.tiny import prepare_dataset, tiny_backbone
from runs import write_rows

from samnet.annotation.pool import Pool
from samnet.core.paths import raw_folder
from samnet.dataset.dataset_folder import DatasetFolder
from samnet.planning.planned_dataset import PlannedDataset

__all__ = ["tiny_backbone"]


def row(strategy: str, seed: int, number: int, dice: float) -> Row:
    return Row(strategy, seed, number, 2 + 2 * number, dice, 1.0, ("a", "b"))


ROWS = [
    row(START, 0, 0, 0.5),
    row("random", 0, 1, 0.6),
    row("random", 0, 2, 0.7),
    row("random", 1, 1, 0.5),
    row("mixed", 0, 1, 0.7),
    row("mixed", 0, 2, 0.7),
    row("mixed", 1, 1, 0.4),
    row("mixed", 1, 2, 0.9),
]


def test_strategies_are_compared_with_random_of_the_same_seed_and_round() -> None:
    assert differences_from_random(ROWS, "mixed") == pytest.approx([0.05, -0.1])
    assert differences_from_random(ROWS, "random") == [0, 0]


def test_table_has_a_row_for_each_strategy() -> None:
    lines = [line.split() for line in summarize(ROWS).splitlines()]
    assert lines[0] == ["strategy", "4", "6", "seeds", "from", "random", "sd"]
    assert lines[2] == ["random", "0.550", "0.700", "2", "+0.000", "0.000"]
    assert lines[3] == ["mixed", "0.550", "0.800", "2", "-0.025", "0.106"]
    assert summarize(ROWS[:1]) == "no round is finished"


def test_rounds_are_the_same_after_writing_and_reading(tmp_path: Path) -> None:
    write_rows(tmp_path / "table.csv", ROWS, Row)
    assert read_rows(tmp_path / "table.csv") == ROWS
    assert read_rows(tmp_path / "none.csv") == []


def test_samnet_sees_labels_of_chosen_cases_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_dataset(tmp_path / "raw", num_cases=5, num_test=3, shape=(3, 24, 20))
    prepare_dataset(tmp_path, 501, monkeypatch)
    pool = make_pool(PlannedDataset.find(501), 4, 2)
    assert [case.identifier for case in pool.test_cases] == ["case_05", "case_07"]
    assert [case.label_file is not None for case in pool.test_cases] == [True, True]
    before = dict(os.environ)
    chosen = pool.cases[1].identifier
    with folders_of(pool, [chosen], tmp_path / "round") as raw:
        assert raw_folder() == tmp_path / "round" / "raw"
        seen = Pool.find(DatasetFolder.find(501), raw / "imagesTr")
        assert [case.identifier for case in seen.labelled] == [chosen]
        assert len(seen.unlabelled) == 3
        assert PlannedDataset.find(501).splits == [{"train": [chosen], "val": [chosen]}]
    assert dict(os.environ) == before
