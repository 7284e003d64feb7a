"""The curves of a training run, whatever its classes are called, and when they cannot be drawn."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

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
    assert io.imread(tmp_path / "progress.png").shape[:2] == (700, 800)


def test_history_draws_every_number_by_its_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr(
        "samnet.training.history.save_figure", lambda figure, *rest, **options: drawn.append(figure)
    )
    history = History(tmp_path, 0)
    rows = [
        {"step": 2, "loss": 0.9, "learning_rate": 0.02, "dice": {"a": 0.1, "b": None}},
        {"step": 4, "loss": 0.8, "learning_rate": 0.01, "dice": {"a": 0.3, "b": 0.5}},
    ]
    for epoch, (row, mean) in enumerate(zip(rows, (0.1, 0.4), strict=True), 1):
        history.add({"epoch": epoch, "mean_dice": mean, "validated_on": "held-out cases"} | row)
    history.draw()
    above, below, rates = drawn[0].axes
    lines = {
        "training loss": (above, [0.9, 0.8]),
        "learning rate": (rates, [0.02, 0.01]),
    }
    for name, (axes, values) in lines.items():
        assert axes.get_ylabel() == name
        assert [line.get_ydata().tolist() for line in axes.lines] == [values]
    expected = {"class 0": [0.1, 0.3], "class 1": [math.nan, 0.5], "mean": [0.1, 0.4]}
    assert [line.get_label() for line in below.lines] == list(expected)
    for line, values in zip(below.lines, expected.values(), strict=True):
        assert line.get_xdata().tolist() == [2, 4]
        assert line.get_ydata().tolist() == pytest.approx(values, nan_ok=True)
    assert [text.get_text() for text in below.get_legend().get_texts()] == ["a", "b", "mean"]
    assert "held-out cases" in below.get_ylabel()


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
