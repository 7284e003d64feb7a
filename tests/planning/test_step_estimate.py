"""A training step never takes more than is estimated, which the dry run tells."""

from __future__ import annotations

from typing import Any

import pytest
from builders.tiny import add_tiny_backbone, make_configuration

from samnet.models.heads import HEADS
from samnet.plan.configuration import Configuration
from samnet.planning.planned_step import PlannedStep
from samnet.planning.step_estimate import estimate_step
from samnet.training.dry_run import measure_step

ALL_LAYERS = ("q", "k", "v", "projection", "mlp")


def measured_and_estimated(
    device: str, num_outputs: int, configuration: Configuration
) -> tuple[float, float]:
    step = PlannedStep(configuration, 1, num_outputs, False, device)
    return measure_step(step), estimate_step(step)


@pytest.mark.parametrize("head", HEADS)
def test_estimate_grows_more_with_the_batch_than_any_head_does(
    head: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With many outputs, on a backbone so small that the head takes nearly all memory."""
    add_tiny_backbone(monkeypatch)
    steps = []
    for batch_size in (2, 6):
        configuration = make_configuration(head=head, input_size=224, batch_size=batch_size)
        steps.append(measured_and_estimated("cpu", 30, configuration))
    (measured, estimated), (more_measured, more_estimated) = steps
    assert 0 < more_measured - measured <= more_estimated - estimated
    assert measured <= estimated


@pytest.mark.parametrize(
    ("device", "changes"),
    [
        ("cpu", {"backbone": "small", "encoder_tuning": "lora", "lora_rank": 64}),
        ("cpu", {"backbone": "small", "encoder_tuning": "full", "input_size": 448}),
        ("cuda", {"backbone": "small", "encoder_tuning": "lora", "precision": "bfloat16"}),
        ("cpu", {"backbone": "vit_b", "encoder_tuning": "full", "input_size": 448}),
        ("cuda", {"backbone": "vit_b", "encoder_tuning": "lora", "input_size": 672}),
        ("cpu", {"backbone": "small", "encoder_tuning": "lora", "depth": 5}),
        ("cuda", {"backbone": "vit_b", "encoder_tuning": "full", "depth": 3}),
        ("cuda", {"backbone": "vit_b", "encoder_tuning": "lora", "depth": 5, "depth_adapters": 2}),
    ],
    ids=str,
)
def test_estimate_grows_more_with_the_batch_than_any_encoder_does(
    device: str, changes: dict[str, Any]
) -> None:
    values = {"head": "linear", "input_size": 224, "lora_targets": ALL_LAYERS} | changes
    steps = []
    for batch_size in (1, 2):
        configuration = make_configuration(**values, batch_size=batch_size)
        steps.append(measured_and_estimated(device, 3, configuration))
    (measured, estimated), (more_measured, more_estimated) = steps
    assert 0 < more_measured - measured <= more_estimated - estimated
    assert measured <= estimated


@pytest.mark.parametrize(
    ("device", "changes"),
    [
        ("cuda", {"backbone": "vit_b", "encoder_tuning": "full"}),
        ("cpu", {"backbone": "small", "encoder_tuning": "frozen", "head": "cnn"}),
        (
            "cpu",
            {"backbone": "small", "encoder_tuning": "lora", "lora_rank": 1024, "head": "linear"},
        ),
    ],
    ids=["all of an encoder", "largest head", "adapters of a high rank"],
)
def test_estimate_covers_trained_weights_and_is_no_wild_guess(
    device: str, changes: dict[str, Any]
) -> None:
    values = {"head": "linear", "input_size": 112, "batch_size": 1, "lora_targets": ALL_LAYERS}
    configuration = make_configuration(**values | changes)
    measured, estimated = measured_and_estimated(device, 3, configuration)
    assert measured <= estimated <= 4 * measured
