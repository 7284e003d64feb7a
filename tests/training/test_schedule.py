from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
import torch
from builders.tiny import make_configuration

from samnet.training.schedule import PLATEAU_EPOCHS, Plateau, learning_rate, planned_rate

GOLDEN = Path(__file__).parent / "golden"
PLATEAUS = json.loads((GOLDEN / "autosam_plateau.json").read_text(encoding="utf-8"))["cases"]


def samed_rate(step: int, peak: float, warmup: int, steps: int, power: float) -> float:
    """Return the rate as SAMed's trainer sets it, for a schedule of `steps` after the warm-up."""
    if step < warmup:
        return peak * ((step + 1) / warmup)
    return peak * (1.0 - (step - warmup) / steps) ** power


@pytest.mark.parametrize("step", [0, 1, 124, 249, 250, 251, 1000, 14879, 18599])
def test_learning_rate_has_the_form_of_samed(step: int) -> None:
    rate = learning_rate(0.005, (step + 1) / 250, (step - 250) / 18350, 0.9)
    assert rate == pytest.approx(samed_rate(step, 0.005, 250, 18350, 0.9), rel=1e-12)


def test_learning_rate_rises_to_the_peak_and_falls_to_0_without_a_jump() -> None:
    warmup, steps = 10, 110
    rates = []
    for step in range(steps + 1):
        rates.append(
            learning_rate(1.0, (step + 1) / warmup, (step - warmup) / (steps - warmup), 0.9)
        )
    assert rates[warmup - 1] == rates[warmup] == 1.0
    assert rates[steps] == 0.0
    assert max(abs(a - b) for a, b in itertools.pairwise(rates)) <= 0.1 + 1e-9
    assert rates[warmup:] == sorted(rates[warmup:], reverse=True)


def test_learning_rate_beyond_the_time_limit_is_0_and_no_complex_number() -> None:
    assert learning_rate(1.0, 10.0, 1.2, 0.9) == 0.0


def test_learning_rate_without_a_warm_up_begins_at_the_peak() -> None:
    assert learning_rate(1.0, 1.0, 0.0, 0.9) == 1.0


def test_planned_rate_follows_the_clock_where_time_is_short() -> None:
    values = make_configuration(steps=12, warmup_steps=4, learning_rate=0.01)
    assert planned_rate(values, 6, 75.0, None) == pytest.approx(0.01 * (1 - 2 / 8) ** 0.9)
    assert planned_rate(values, 6, 75.0, 100.0) == pytest.approx(0.01 * (1 - 0.75) ** 0.9)
    # Where more steps are done than the clock expects, the rate follows the steps.
    assert planned_rate(values, 10, 1.0, 100.0) == pytest.approx(0.01 * (1 - 6 / 8) ** 0.9)
    assert planned_rate(values, 10, 130.0, 100.0) == 0.0


def test_warm_up_of_slow_steps_takes_a_tenth_of_the_time() -> None:
    values = make_configuration(steps=1000, warmup_steps=100, learning_rate=0.01)
    assert planned_rate(values, 1, 5.0, None) == pytest.approx(0.01 * 2 / 100)
    assert planned_rate(values, 1, 5.0, 100.0) == pytest.approx(0.01 / 2)
    assert planned_rate(values, 1, 20.0, 100.0) == pytest.approx(0.01 * 0.8**0.9)


def test_planned_rate_falls_by_the_planned_share_alone() -> None:
    values = make_configuration(steps=12, warmup_steps=4, learning_rate=0.01, decay_share=0.5)
    assert planned_rate(values, 11, 100.0, 100.0) == pytest.approx(0.01 * 0.5**0.9)


def test_planned_rate_at_a_plateau_is_a_share_of_the_peak() -> None:
    values = make_configuration(steps=12, warmup_steps=0, learning_rate=0.01, schedule="plateau")
    assert planned_rate(values, 11, 90.0, 100.0, plateau_factor=0.1) == pytest.approx(0.001)


def test_plateau_acts_as_the_schedule_of_torch() -> None:
    generator = torch.Generator().manual_seed(0)
    losses = torch.rand(6 * PLATEAU_EPOCHS, generator=generator).tolist()
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.Adam([weight], lr=1.0)
    expected = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)
    plateau, factors = Plateau(), set()
    for loss in losses:
        plateau.finish_epoch(loss)
        expected.step(loss)
        assert plateau.factor == pytest.approx(optimizer.param_groups[0]["lr"])
        factors.add(round(plateau.factor, 9))
    assert len(factors) > 2


@pytest.mark.parametrize("figures", PLATEAUS, ids=lambda figures: figures["case"])
def test_plateau_by_pass_has_the_rates_of_autosams_code(figures: dict) -> None:
    values = make_configuration(
        schedule="plateau_by_pass", warmup_steps=0, learning_rate=5e-4, batch_size=4
    )
    plateau, rates = Plateau(), []
    for number, loss in enumerate(figures["loss_of_the_last_batch_of_each_epoch"]):
        rates.append(planned_rate(values, 3 * number, 0.0, None, plateau.factor))
        for batch, loss_of_batch in enumerate((100.0, 0.0, loss), 1):
            plateau.finish_step(values, 3 * number + batch, 12, loss_of_batch)
    assert rates == pytest.approx(figures["rate_in_each_epoch"])


@pytest.mark.parametrize(("num_slices", "step"), [(12, 33), (10, 28), (3, 9)])
def test_pass_ends_with_the_batch_that_holds_its_last_slice(num_slices: int, step: int) -> None:
    """The eleventh is the first that counts."""
    values = make_configuration(schedule="plateau_by_pass", batch_size=4)
    plateau = Plateau()
    for before in range(1, step):
        plateau.finish_step(values, before, num_slices, float(before))
        assert plateau.best_loss is None
    plateau.finish_step(values, step, num_slices, float(step))
    assert plateau.best_loss == step


def test_other_schedules_take_no_note_of_steps() -> None:
    for schedule in ("plateau", "polynomial"):
        plateau = Plateau()
        for step in range(1, 60):
            plateau.finish_step(make_configuration(schedule=schedule), step, 2, 1.0)
        assert plateau == Plateau()


@pytest.mark.parametrize("warmup", [4, 9])
def test_warm_up_may_be_as_long_as_the_training(warmup: int) -> None:
    values = make_configuration(steps=4, warmup_steps=warmup, learning_rate=0.01)
    rates = [planned_rate(values, step, 0.0, None) for step in range(4)]
    assert rates == pytest.approx([0.01 * (step + 1) / warmup for step in range(4)])
