"""The curves of runs and folds: every number in its place, from the first epoch on."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from samnet.training.curves import best_epoch, draw_folds, draw_run, read_epochs, smooth


def make_epochs(count: int, names: tuple[str, ...] = ("a", "b")) -> list[dict[str, Any]]:
    """Return epochs whose Dice rises to that of the last but one."""
    epochs = []
    for index in range(count):
        dice = 0.5 if index == count - 2 else 0.3 * index / count
        epoch = {
            "epoch": index + 1,
            "step": 10 * (index + 1),
            "loss": 1 / (index + 1) + 0.1 * (index % 2),
            "learning_rate": 0.01 * (count - index),
            "dice": dict.fromkeys(names, dice),
            "mean_dice": dice,
            "validated_on": "held-out cases",
        }
        epochs.append(epoch)
    return epochs


def test_curves_show_every_number_by_its_step_on_scales_of_their_own() -> None:
    epochs = make_epochs(3)
    epochs[0]["dice"]["b"] = epochs[0]["mean_dice"] = None
    loss, dice, rate = draw_run(epochs).axes
    assert loss.lines[0].get_ydata().tolist() == [epoch["loss"] for epoch in epochs]
    assert rate.lines[0].get_ydata().tolist() == [0.03, 0.02, 0.01]
    assert rate.get_ylabel() == "learning rate"
    lines = dict(zip(["a", "b", "mean"], dice.lines, strict=False))
    assert lines["a"].get_xdata().tolist() == [10, 20, 30]
    expected = [math.nan, 0.5, epochs[2]["dice"]["b"]]
    for name in ("b", "mean"):
        assert lines[name].get_ydata().tolist() == pytest.approx(expected, nan_ok=True)
    legend = [text.get_text() for text in dice.get_legend().get_texts()]
    assert legend == ["a", "b", "mean"]
    assert dice.get_ylabel() == "Dice of held-out cases"  # which may be 2D images


def test_curves_of_one_epoch_are_markers() -> None:
    """A line through one point is blank."""
    for axes in draw_run(make_epochs(1)).axes:
        assert axes.lines[0].get_marker() == "o"
    [loss, dice] = draw_folds({"fold 0": make_epochs(1)}).axes
    assert loss.lines[0].get_marker() == dice.lines[0].get_marker() == "o"


def test_curves_mark_the_best_epoch() -> None:
    loss, dice, _ = draw_run(make_epochs(5)).axes
    assert loss.get_title(loc="left") == "best epoch: 4 (step 40), mean Dice 0.500"
    for axes in (loss, dice):
        assert axes.lines[-1].get_xdata() == [40, 40]
    unvalidated = [epoch | {"mean_dice": None} for epoch in make_epochs(2)]
    assert best_epoch(unvalidated) is None
    assert draw_run(unvalidated).axes[0].get_title(loc="left") == ""


def test_noisy_loss_is_smoothed_in_addition() -> None:
    epochs = make_epochs(40)
    [raw, smoothed] = draw_run(epochs).axes[0].lines[:2]
    assert raw.get_ydata().tolist() == [epoch["loss"] for epoch in epochs]
    steps = [np.abs(np.diff(line.get_ydata()[20:])) for line in (raw, smoothed)]
    assert steps[1].max() < steps[0].min() / 2


def test_smoothing_takes_the_mean_of_what_is_there() -> None:
    values = [1.0] * 25
    values[12] = math.nan
    assert smooth(values).tolist() == [1.0] * 25
    assert smooth([0.0, 3.0, 0.0]).tolist() == [1.5, 1.0, 1.5]
    assert math.isnan(smooth([math.nan] * 3)[1])


def test_folds_are_drawn_in_one_figure_with_their_best_dice() -> None:
    folds = {"fold 0": make_epochs(4), "fold 1": [], "fold_2": make_epochs(6)}
    loss, dice = draw_folds(folds).axes
    assert len(loss.lines) == 2
    names = [text.get_text() for text in dice.get_legend().get_texts()]
    assert names == ["fold 0, best 0.500", "fold_2, best 0.500"]
    assert draw_folds({}).axes


def test_epochs_of_a_killed_run_are_read(tmp_path: Path) -> None:
    file = tmp_path / "metrics.jsonl"
    assert read_epochs(file) == []
    file.write_text(json.dumps({"epoch": 1}) + "\n" + '{"epoch": 2, "los')
    assert read_epochs(file) == [{"epoch": 1}]
