from __future__ import annotations

import itertools

import pytest

from samnet.training.schedule import learning_rate


def samed(step: int, peak: float, warmup: int, steps: int, power: float) -> float:
    """As SAMed's trainer sets it, for a schedule of `steps` after the warm-up."""
    if step < warmup:
        return peak * ((step + 1) / warmup)
    return peak * (1.0 - (step - warmup) / steps) ** power


@pytest.mark.parametrize("step", [0, 1, 124, 249, 250, 251, 1000, 14879, 18599])
def test_it_is_sameds_form(step: int) -> None:
    rate = learning_rate(0.005, (step + 1) / 250, (step - 250) / 18350, 0.9)
    assert rate == pytest.approx(samed(step, 0.005, 250, 18350, 0.9), rel=1e-12)


def test_it_rises_to_the_peak_and_falls_to_nothing_without_a_jump() -> None:
    warmup, steps = 10, 110
    rates = [
        learning_rate(1.0, (step + 1) / warmup, (step - warmup) / (steps - warmup), 0.9) for step in range(steps + 1)
    ]
    assert rates[warmup - 1] == rates[warmup] == 1.0
    assert rates[steps] == 0.0
    assert max(abs(a - b) for a, b in itertools.pairwise(rates)) <= 0.1 + 1e-9
    assert rates[warmup:] == sorted(rates[warmup:], reverse=True)


def test_time_beyond_the_limit_gives_no_complex_number() -> None:
    assert learning_rate(1.0, 10.0, 1.2, 0.9) == 0.0


def test_without_a_warm_up_it_begins_at_the_peak() -> None:
    assert learning_rate(1.0, 1.0, 0.0, 0.9) == 1.0
