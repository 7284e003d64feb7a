"""The memory of a step that is not computed, against that of one that is."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from builders.tiny import make_configuration

from samnet.models import chunked_attention
from samnet.models.heads import HEADS
from samnet.models.network import build_network
from samnet.models.precision import autocast
from samnet.plan.backbones import PATCH
from samnet.plan.configuration import Configuration
from samnet.planning.planned_step import PlannedStep
from samnet.training.dry_run import StorageCount, measure_step
from samnet.training.loss import segmentation_loss

GIB = 2**30


def measure(device: str = "cpu", **changes: Any) -> float:
    return measure_step(PlannedStep(configure(**changes), 1, 3, False, device))


def configure(**changes: Any) -> Configuration:
    """Return a configuration that is large enough for activations to outweigh weights."""
    return make_configuration(**{"batch_size": 4, "input_size": 224, "head": "linear"} | changes)


def computed(configuration: Configuration) -> float:
    """Return the GiB of a second step on the CPU, with real tensors."""
    with StorageCount() as count:
        network = build_network(configuration, 1, 3).train()
        trained = [weight for weight in network.parameters() if weight.requires_grad]
        optimizer = torch.optim.AdamW(trained)
        size = configuration.input_size
        stack = () if configuration.depth == 1 else (configuration.depth,)
        for _ in range(2):
            optimizer.zero_grad()
            images = torch.rand(configuration.batch_size, *stack, 3, size, size)
            with autocast(configuration.precision, torch.device("cpu")):
                logits = network(images).float()
            target = torch.zeros(len(logits), *stack, *logits.shape[-2:], dtype=torch.long)
            loss = segmentation_loss(logits, target, cross_entropy_weight=0.2, dice_weight=0.8)
            loss.backward()
            optimizer.step()
    return count.peak / GIB


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"gradient_checkpointing": True},
        {"encoder_tuning": "lora"},
        {"encoder_tuning": "frozen", "head": "upsampling"},
        {"head": "mask_decoder", "batch_size": 1},
        {"depth": 3, "batch_size": 2},
        {"depth": 3, "batch_size": 2, "encoder_tuning": "lora", "gradient_checkpointing": True},
    ],
    ids=[
        "full",
        "checkpointed",
        "lora",
        "frozen with upsampling head",
        "mask decoder",
        "stacks",
        "stacks checkpointed",
    ],
)
def test_measured_memory_is_what_a_step_takes(changes: dict) -> None:
    assert measure(**changes) == pytest.approx(computed(configure(**changes)), rel=0.1)


@pytest.mark.usefixtures("cpu_bfloat16")
@pytest.mark.parametrize(
    "changes",
    [
        {"encoder_tuning": "lora"},
        {"encoder_tuning": "frozen", "head": "upsampling"},
        {"encoder_tuning": "frozen", "head": "vit"},
        {"encoder_tuning": "lora", "depth": 3},
    ],
    ids=["lora", "frozen with upsampling head", "frozen with vit head", "stacks"],
)
def test_measured_memory_in_bfloat16_is_what_a_step_takes_on_a_cpu(changes: dict) -> None:
    changes = changes | {"precision": "bfloat16", "batch_size": 2}
    assert measure(**changes) == pytest.approx(computed(configure(**changes)), rel=0.1)


@pytest.mark.parametrize(
    ("values", "input_size"),
    [(2**20, 448), (2**12, 240)],
    ids=["a head at a time", "some queries at a time"],
)
def test_measured_memory_is_that_of_attention_in_many_chunks(
    values: int, input_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without values only the first chunk is worked on."""
    monkeypatch.setattr(chunked_attention, "CHUNK_VALUES", values)
    configuration = configure(input_size=input_size)
    measured = measure_step(PlannedStep(configuration, 1, 3, False, "cpu"))
    assert measured == pytest.approx(computed(configuration), rel=0.06)


def test_measured_memory_falls_with_what_saves_memory() -> None:
    whole = measure()
    lora, half = measure(encoder_tuning="lora"), {"lora_blocks": "last_half"}
    lora_in_half = measure(encoder_tuning="lora", **half)
    assert measure(gradient_checkpointing=True) < 0.9 * whole
    assert measure(encoder_tuning="frozen") < lora_in_half < lora < whole
    assert measure(batch_size=8) > 1.5 * whole


def test_measured_memory_of_a_batch_lies_on_the_line_between_two_others_or_below() -> None:
    two, five, eight = (measure(batch_size=batch) for batch in (2, 5, 8))
    assert two < five <= (two + eight) / 2 + 1e-6


@pytest.mark.parametrize("checkpointing", [True, False])
def test_half_precision_saves_memory_where_torch_has_it(checkpointing: bool) -> None:
    """Blocks that are computed again run in it, too."""
    changes = {"gradient_checkpointing": checkpointing}
    for device in ("cuda", "cpu"):
        assert measure(device, precision="bfloat16", **changes) < 0.9 * measure(device, **changes)
    assert measure("mps", precision="bfloat16", **changes) == measure("mps", **changes)


@pytest.mark.parametrize("head", HEADS)
def test_every_head_can_be_measured(head: str) -> None:
    small, large = (measure(head=head, input_size=size, batch_size=1) for size in (32, 224))
    assert 0 < small < large


def test_regions_are_measured_with_a_target_for_each() -> None:
    plain = measure_step(PlannedStep(configure(), 1, 20, False, "cpu"))
    assert measure_step(PlannedStep(configure(), 1, 20, True, "cpu")) != plain


def test_measured_memory_on_gpus_grows_with_the_tokens_and_not_with_their_square() -> None:
    """CUDA's fused attention has no matrix of all queries and keys.

    With such matrices, the growth between the two larger inputs would be 2.2 times that between the
    two smaller ones.
    """
    check_growth("cuda", backbone="vit_b", encoder_tuning="lora")


def test_measured_memory_of_a_frozen_encoder_in_bfloat16_grows_with_the_tokens_on_a_cpu() -> None:
    """It has the attention of GPUs, as no backward pass is needed."""
    check_growth("cpu", precision="bfloat16", encoder_tuning="frozen")


def check_growth(device: str, **changes: Any) -> None:
    """Compare the growth of memory between larger inputs with that between smaller ones."""
    sizes = (448, 672, 896)
    tokens = [(size // PATCH) ** 2 for size in sizes]
    memory = [measure(device, input_size=size, batch_size=1, **changes) for size in sizes]
    expected = (tokens[2] - tokens[1]) / (tokens[1] - tokens[0])
    growth = (memory[2] - memory[1]) / (memory[1] - memory[0])
    assert growth == pytest.approx(expected, rel=0.05)


def test_measuring_sams_encoders_needs_neither_memory_nor_weights() -> None:
    """It can measure ViT-H with SAM's mask decoder, which may not even fit into this machine."""
    configuration = configure(
        backbone="vit_h", head="mask_decoder", initial_weights="pretrained", batch_size=64
    )
    assert 20 < measure_step(PlannedStep(configuration, 1, 3, False, "cuda")) < 200


def test_storages_are_counted_once_and_until_they_are_freed() -> None:
    with StorageCount() as count:
        values = torch.zeros(1000, device="meta")
        view = values[:10].reshape(2, 5)
        assert count.now == 4000
        other = values + 1
        del values, other
        assert (count.now, count.peak) == (4000, 8000)
        del view
        assert count.now == 0
