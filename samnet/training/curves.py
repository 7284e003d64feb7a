"""The curves of training runs: loss, Dice of each class and learning rate over the steps."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from samnet.core.figures import name_legend, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Epoch = dict[str, Any]

ON_HELD_OUT_CASES, ON_TRAINING_CASES = "held-out cases", "training cases"  # of an epoch
DPI = 100
_FEW = 40  # so many points are marked; the line through more of them shows each
NOISY_FROM = 12  # from so many epochs on, the loss is smoothed as well
_WINDOW_SHARE = 0.08  # of the epochs is the width of the smoothing
# Okabe and Ito's colours, which people with any colour vision tell apart, dark ones first.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442")
_LINE_STYLES = ("solid", "dashed", "dotted", "dashdot")
_LINES_OF_LEGEND = 18
_GREY = "0.65"


def read_epochs(file: Path) -> list[Epoch]:
    """Read the lines of numbers of a training run.

    Args:
        file: Its `metrics.jsonl`.

    Returns:
        One dictionary for each epoch; a line that a killed run has left incomplete is left out.
        Empty where there is no such file.
    """
    if not file.is_file():
        return []
    rows = []
    for line in file.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return rows


def best_epoch(epochs: Sequence[Epoch]) -> Epoch | None:
    """Return the epoch with the highest mean Dice, the first of equals.

    Args:
        epochs: The epochs.

    Returns:
        The epoch; None where no epoch was validated.
    """
    validated = [epoch for epoch in epochs if epoch.get("mean_dice") is not None]
    return max(validated, key=lambda epoch: epoch["mean_dice"], default=None)


def smooth(values: Sequence[float]) -> np.ndarray:
    """Return the running mean of values, over a window that widens with their number.

    Args:
        values: The values, NaN for none.

    Returns:
        As many values. At the ends the window is cut.
    """
    array = np.asarray(values, float)
    half = max(1, round(_WINDOW_SHARE * len(array) / 2))
    smoothed = np.full(len(array), np.nan)
    for index in range(len(array)):
        window = array[max(0, index - half) : index + half + 1]
        if np.isfinite(window).any():
            smoothed[index] = np.nanmean(window)
    return smoothed


def draw_run(epochs: Sequence[Epoch]) -> Figure:
    """Draw a run: the loss, the Dice of every class, and the learning rate, on their own scales.

    Args:
        epochs: Its epochs, at least one.

    Returns:
        The figure, to be saved with `DPI`. The best epoch is marked.
    """
    figure = new_figure(9, 8)
    loss, dice, rate = figure.subplots(3, 1, sharex=True, height_ratios=(2, 3, 1))
    steps = _column(epochs, "step")
    _draw_loss(loss, steps, epochs)
    _draw_dice(dice, steps, epochs)
    rate.plot(steps, _column(epochs, "learning_rate"), color=_COLOURS[0], **_style(steps))
    rate.set(ylabel="learning rate", xlabel="step")
    _mark_best(loss, dice, epochs)
    for axes in (loss, dice, rate):
        axes.grid(alpha=0.3)
    rate.set_xlim(0, 1.03 * max(steps))
    return figure


def _draw_loss(axes: Axes, steps: Sequence[float], epochs: Sequence[Epoch]) -> None:
    losses = _column(epochs, "loss")
    if len(losses) < NOISY_FROM:
        axes.plot(steps, losses, color=_COLOURS[0], **_style(steps))
    else:
        axes.plot(steps, losses, color=_GREY, linewidth=0.8, label="each epoch")
        axes.plot(steps, smooth(losses), color=_COLOURS[0], linewidth=1.8, label="running mean")
        axes.legend(fontsize="small")
    axes.set_ylabel("training loss")


def _draw_dice(axes: Axes, steps: Sequence[float], epochs: Sequence[Epoch]) -> None:
    names = list(epochs[-1]["dice"])
    for number, name in enumerate(names):
        values = [_number(epoch["dice"].get(name)) for epoch in epochs]
        axes.plot(
            steps,
            values,
            label=f"class {number}",
            color=_COLOURS[number % len(_COLOURS)],
            linestyle=_LINE_STYLES[number // len(_COLOURS) % len(_LINE_STYLES)],
            **_style(steps),
        )
    labels = list(names)
    if len(names) > 1:
        mean = _column(epochs, "mean_dice")
        axes.plot(steps, mean, label="mean", color="black", **(_style(steps) | {"linewidth": 2}))
        labels.append("mean")
    axes.set_ylabel(f"Dice of {epochs[-1]['validated_on']}")
    axes.set_ylim(0, 1)
    _add_legend(axes, labels)


def _add_legend(axes: Axes, names: Sequence[str]) -> None:
    """Name the lines of a panel next to it, where the legend hides none of them."""
    num_columns = 1 + (len(names) - 1) // _LINES_OF_LEGEND
    legend = axes.legend(
        fontsize="small",
        ncols=num_columns,
        loc="center left",
        bbox_to_anchor=(1.01, 0.5),
        frameon=False,
    )
    name_legend(legend, names)


def _mark_best(loss: Axes, dice: Axes, epochs: Sequence[Epoch]) -> None:
    best = best_epoch(epochs)
    if best is None:
        return
    for axes in (loss, dice):
        axes.axvline(best["step"], color=_GREY, linestyle="dashed", linewidth=1, zorder=0)
    loss.set_title(
        f"best epoch: {best['epoch']} (step {best['step']}), mean Dice {best['mean_dice']:.3f}",
        fontsize="medium",
        loc="left",
    )


def draw_folds(folds: Mapping[str, Sequence[Epoch]]) -> Figure:
    """Draw all folds of a configuration: the loss, and the mean Dice of the held-out cases.

    Args:
        folds: Name of a fold -> its epochs. Folds without epochs are left out.

    Returns:
        The figure, to be saved with `DPI`. The best epoch of each fold is marked.
    """
    figure = new_figure(9, 7)
    loss, dice = figure.subplots(2, 1, sharex=True)
    names = []
    for number, (name, epochs) in enumerate(folds.items()):
        if not epochs:
            continue
        colour = _COLOURS[number % len(_COLOURS)]
        line_style = _LINE_STYLES[number // len(_COLOURS) % len(_LINE_STYLES)]
        style = {"color": colour, "linestyle": line_style, **_style(epochs)}
        steps = _column(epochs, "step")
        losses = _column(epochs, "loss")
        loss.plot(steps, smooth(losses) if len(losses) >= NOISY_FROM else losses, **style)
        dice.plot(steps, _column(epochs, "mean_dice"), label=f"fold {number}", **style)
        best = best_epoch(epochs)
        if best is not None:
            dice.plot([best["step"]], [best["mean_dice"]], color=colour, **_BEST)
            name += f", best {best['mean_dice']:.3f}"
        names.append(name)
    loss.set_ylabel("training loss")
    dice.set(ylabel="mean Dice of held-out cases", xlabel="step", ylim=(0, 1))
    for axes in (loss, dice):
        axes.grid(alpha=0.3)
    if names:
        _add_legend(dice, names)
        dice.set_xlim(left=0)
    return figure


_BEST: dict[str, Any] = {
    "marker": "*",
    "markersize": 13,
    "markeredgecolor": "black",
    "linestyle": "none",
}


def _style(points: Sequence[Any]) -> dict[str, Any]:
    """Return the style of a line: a single point is a marker, or it would not be seen."""
    return {"linewidth": 1.3, "marker": "o" if len(points) <= _FEW else "", "markersize": 4}


def _column(epochs: Sequence[Epoch], name: str) -> list[float]:
    return [_number(epoch.get(name)) for epoch in epochs]


def _number(value: float | None) -> float:
    return math.nan if value is None else value
