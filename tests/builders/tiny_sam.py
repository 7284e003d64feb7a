"""A tiny backbone of SAM's shape, and a configuration that uses it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn

from builders import tiny
from samnet.models.network import SegmentationNetwork
from samnet.models.sam_modules import ImageEncoderViT
from samnet.plan.backbones import Backbone
from samnet.plan.configuration import IntensityWindow

Build = Callable[..., SegmentationNetwork]
TINY = Backbone("tiny", 48, 2, 2, (1,), 1024)


def sam_encoder(backbone: Backbone, input_size: int) -> nn.Module:
    """Build an encoder in the way of segment_anything.

    Args:
        backbone: Dimensions of the encoder.
        input_size: Edge of the square input in pixels.

    Returns:
        segment_anything's encoder, randomly initialised.
    """
    return ImageEncoderViT(
        img_size=input_size,
        patch_size=16,
        embed_dim=backbone.width,
        depth=backbone.depth,
        num_heads=backbone.heads,
        mlp_ratio=4,
        out_chans=256,
        qkv_bias=True,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        use_rel_pos=True,
        rel_pos_zero_init=True,
        window_size=14,
        global_attn_indexes=list(backbone.global_blocks),
    )


def randomise(module: nn.Module) -> nn.Module:
    """Give weights that start as zeros or ones random values, in place.

    A test then notices a weight that is not used or not loaded.

    Args:
        module: Any network or part of one.

    Returns:
        The module.
    """
    for weight in module.parameters():
        if weight.ndim < 2 or not weight.any():
            nn.init.normal_(weight, mean=float(weight.detach().mean()), std=0.1)
    return module


VALUES: dict[str, Any] = tiny.VALUES | {
    "intensity": (IntensityWindow("fixed", 0, 1),),
    "initial_weights": "pretrained",
    "encoder_tuning": "lora",
    "input_size": 224,
    "zoom": 1.0,
    "head": "mask_decoder",
    "steps": 10,
    "steps_per_epoch": 10,
    "warmup_steps": 0,
    "gradient_clip": 0.0,
    "augmentation": "none",
}


def train_a_little(network: SegmentationNetwork, num_channels: int = 3) -> None:
    """Train a network for two steps of AdamW on random images.

    LoRA's A gets its first gradient in the second step, when B is no longer zero.

    Args:
        network: The network, which is changed.
        num_channels: Channels of the images.
    """
    trained = [weight for weight in network.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=0.01, weight_decay=0.1)
    size = network.encoder.img_size
    for _ in range(2):
        optimizer.zero_grad()
        network(torch.rand(1, num_channels, size, size)).square().mean().backward()
        optimizer.step()
