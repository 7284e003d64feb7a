"""The operators that a LoRA step dispatches: at most half of those of segment_anything's forms."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from builders.tiny import make_configuration
from torch_timing import count_operators

from samnet.models.network import build_network
from samnet.training.loss import segmentation_loss
from samnet.training.out_of_memory import BatchGradients


# Half of 3,462 and 2,162 (benchmarks/README.md); clipping and optimiser take fewer than 20.
@pytest.mark.parametrize(("head", "most"), [("mask_decoder", 1731), ("upsampling", 1081)])
def test_a_lora_step_dispatches_half_as_many_operators(head: str, most: int) -> None:
    configuration = make_configuration(
        backbone="small",
        input_size=224,
        head=head,
        encoder_tuning="lora",
        lora_rank=16,
        lora_targets=("q", "k", "v", "projection", "mlp"),
        lora_blocks="all",
    )
    network = build_network(configuration, 1, 6).train()
    images = torch.rand(2, 3, 224, 224)
    edge = 224 // network.stride
    target = torch.zeros(2, edge, edge, dtype=torch.long)
    loss_of = partial(segmentation_loss, target=target, cross_entropy_weight=0.2, dice_weight=0.8)
    gradients = BatchGradients(network, 2, may_fall_back=False)
    count = count_operators(
        lambda: gradients.compute(images, network, loss_of, 0, lambda fallback: None)
    )
    assert count <= most - 20
