"""The curves of a training run, whatever its classes are called, and when they cannot be drawn."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from skimage import io

from samnet.training.history import History


def add_epoch(history: History, name: str) -> None:
    history.add(
        {
            "epoch": len(history.rows) + 1,
            "step": 5,
            "loss": 0.5,
            "learning_rate": 0.001,
            "dice": {name: 0.5, "other": None},
            "mean_dice": 0.5,
            "validated_on": "held out",
        }
    )


@pytest.mark.parametrize("name", ["liver", "dose $50_{Gy^$", "_hidden", "\u809d\u81d3"])
def test_history_draws_classes_of_any_name(tmp_path: Path, name: str) -> None:
    history = History(tmp_path, 0)
    add_epoch(history, name)
    history.draw()
    assert io.imread(tmp_path / "progress.png").shape[:2] == (800, 900)


def test_history_continues_where_nothing_can_be_drawn(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    (tmp_path / "progress.png").mkdir()  # a folder where the figure is to be
    history = History(tmp_path, 0)
    for _ in range(2):
        add_epoch(history, "liver")
        history.draw()
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 2
