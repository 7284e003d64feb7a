"""The memory of a step that is not computed, against that of one that is."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
import torch
from builders.tiny import make_configuration, tiny_backbone

from samnet.models.heads import HEADS
from samnet.models.network import build_network
from samnet.plan.configuration import Configuration
from samnet.training import dry_run
from samnet.training.dry_run import StorageCount, measure_step
from samnet.training.loss import segmentation_loss

__all__ = ["tiny_backbone"]
GIB = 2**30


def measure(device: str = "cpu", **changes: Any) -> float:
    return measure_step(configure(**changes), 1, 3, False, device)


def configure(**changes: Any) -> Configuration:
    """Large enough for activations to outweigh weights."""
    return make_configuration(**{"batch_size": 4, "input_size": 224, "head": "linear"} | changes)


def computed(configuration: Configuration) -> float:
    """GiB of a second step on the CPU, with real tensors."""
    with StorageCount() as count:
        network = build_network(configuration, 1, 3).train()
        optimizer = torch.optim.AdamW(
            [weight for weight in network.parameters() if weight.requires_grad]
        )
        size = configuration.input_size
        for _ in range(2):
            optimizer.zero_grad()
            logits = network(torch.rand(configuration.batch_size, 3, size, size))
            target = torch.zeros(len(logits), *logits.shape[2:], dtype=torch.long)
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
    ],
    ids=str,
)
def test_it_is_what_the_step_takes(changes: dict) -> None:
    assert measure(**changes) == pytest.approx(computed(configure(**changes)), rel=0.1)


def test_what_saves_memory_is_seen() -> None:
    whole = measure()
    assert measure(gradient_checkpointing=True) < 0.9 * whole
    assert (
        measure(encoder_tuning="lora", lora_blocks="last_half")
        < measure(encoder_tuning="lora")
        < whole
    )
    assert measure(encoder_tuning="frozen") < measure(
        encoder_tuning="lora", lora_blocks="last_half"
    )
    assert measure(batch_size=8) > 1.5 * whole


def test_a_batch_between_two_others_takes_no_more_than_the_line_between_them() -> None:
    two, five, eight = (measure(batch_size=batch) for batch in (2, 5, 8))
    assert two < five <= (two + eight) / 2 + 1e-6


def test_half_precision_counts_on_gpus_alone() -> None:
    """Blocks that are computed again run in it, too."""
    for changes in ({"gradient_checkpointing": True}, {}):
        assert measure("cuda", precision="bfloat16", **changes) < measure("cuda", **changes)
        assert measure("cpu", precision="bfloat16", **changes) == measure("cpu", **changes)


@pytest.mark.parametrize("head", HEADS)
def test_every_head_can_be_measured(head: str) -> None:
    small, large = (measure(head=head, input_size=size, batch_size=1) for size in (32, 224))
    assert 0 < small < large


def test_regions_are_measured_with_a_target_for_each() -> None:
    plain = measure_step(configure(), 1, 20, False, "cpu")
    assert measure_step(configure(), 1, 20, True, "cpu") != plain


def test_attention_on_gpus_has_no_matrix_of_queries_and_keys(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Which at 896 pixels, with 3,136 tokens, would be more than all the rest."""
    changes = {"backbone": "vit_b", "encoder_tuning": "lora", "batch_size": 1, "input_size": 896}
    fused = measure("cuda", **changes)
    monkeypatch.setattr(dry_run, "_FusedAttention", contextlib.nullcontext)
    dry_run._peak_of_step.cache_clear()
    assert measure("cuda", **changes) > 2 * fused
    dry_run._peak_of_step.cache_clear()


def test_sams_encoders_take_no_memory_and_no_weights() -> None:
    """ViT-H with SAM's mask decoder, at which this machine may not even begin."""
    configuration = configure(
        backbone="vit_h", head="mask_decoder", initial_weights="pretrained", batch_size=64
    )
    assert 20 < measure_step(configuration, 1, 3, False, "cuda") < 200


def test_storages_are_counted_once_and_given_back() -> None:
    with StorageCount() as count:
        values = torch.zeros(1000, device="meta")
        view = values[:10].reshape(2, 5)
        assert count.now == 4000
        other = values + 1
        del values, other
        assert (count.now, count.peak) == (4000, 8000)
        del view
        assert count.now == 0
