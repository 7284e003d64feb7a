"""Loss, learning rates and augmentation against figures from SAMed's own code."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builders.fingerprint import make_fingerprint
from builders.numerics import assert_close_to_norm
from builders.planned import GPU, plan_all

from samnet.training.augmentation import PROFILES
from samnet.training.loss import segmentation_loss
from samnet.training.schedule import planned_rate

GOLDEN = Path(__file__).parent / "golden"
LOSSES: list[dict[str, Any]] = json.loads((GOLDEN / "samed_loss.json").read_text())["cases"]
RATES: dict[str, Any] = json.loads((GOLDEN / "samed_rates.json").read_text())
SIX_DIGITS = 2e-6


@pytest.mark.parametrize("golden", LOSSES, ids=lambda golden: golden["case"])
def test_loss_and_its_gradient_are_those_of_samed(golden: dict[str, Any]) -> None:
    logits = torch.tensor(golden["logits"], dtype=torch.float64, requires_grad=True)
    target = torch.tensor(golden["target"])

    def loss(cross_entropy_weight: float, dice_weight: float) -> torch.Tensor:
        return segmentation_loss(
            logits,
            target,
            form="samed",
            cross_entropy_weight=cross_entropy_weight,
            dice_weight=dice_weight,
        )

    assert loss(1, 0).item() == pytest.approx(golden["cross_entropy"], abs=SIX_DIGITS)
    assert loss(0, 1).item() == pytest.approx(golden["dice"], abs=SIX_DIGITS)
    total = loss(0.2, 0.8)
    assert total.item() == pytest.approx(golden["total"], abs=SIX_DIGITS)
    (gradient,) = torch.autograd.grad(total, logits)
    # Small elements have few digits there.
    assert_close_to_norm(gradient, torch.tensor(golden["gradient_of_total"]), 1e-4)


@pytest.mark.parametrize("name", ["samed", "samed_h"])
def test_planned_rates_are_those_of_samed_on_synapse(name: str) -> None:
    """Its code sets a rate after the step, so each is used one step later than ours."""
    golden = RATES[name]
    slices = 93 * 24  # 93 steps of 24 slices
    synapse = make_fingerprint(
        shape=(slices // 18, 512, 512),
        channels=("CT",),
        values=(-1000.0, 1000.0),
        case_names=tuple(f"case{number:02d}" for number in range(18)),
    )
    configuration = plan_all(synapse, GPU).configuration(name)
    assert configuration.steps == golden["stops_after"]
    for iteration, rate in golden["rate_used_at_iteration"].items():
        step = max(0, int(iteration) - 1)
        assert planned_rate(configuration, step, 0.0, None) == pytest.approx(rate, rel=1e-6)


def test_augmentation_samed_has_the_statistics_of_its_code() -> None:
    """Four reflections an eighth each, a quarter turned by up to 20 degrees."""
    generator = np.random.default_rng(0)
    number = 8_000
    kinds: Counter[str] = Counter()
    degrees = []
    for _ in range(number):
        matrix = PROFILES["samed"].draw_matrix(generator, (1.0, 1.0), (True, True))
        assert np.allclose(matrix @ matrix.T, np.eye(2))
        if np.array_equal(matrix, np.eye(2)):
            kinds["none"] += 1
        elif np.linalg.det(matrix) < 0:
            kinds[str(matrix.round().astype(int).tolist())] += 1
        else:
            kinds["rotation"] += 1
            degrees.append(np.degrees(np.arctan2(matrix[1, 0], matrix[0, 0])))
    shares = {kind: count / number for kind, count in kinds.items()}
    assert shares.pop("none") == pytest.approx(1 / 4, abs=0.02)
    assert shares.pop("rotation") == pytest.approx(1 / 4, abs=0.02)
    assert list(shares.values()) == pytest.approx([1 / 8] * 4, abs=0.02)
    assert -20 <= min(degrees) < -19.5
    assert 19 < max(degrees) <= 20
    assert np.mean(np.abs(degrees) < 10) == pytest.approx(1 / 2, abs=0.02)
