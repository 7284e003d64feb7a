"""Image encoders of SAM's shape at any input size."""

from __future__ import annotations

import itertools
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from samnet.models.attention import WindowAttention
from samnet.models.heads.blocks import normalised_convolution
from samnet.models.registry import PIXEL_MEAN, PIXEL_STD
from samnet.models.sam_modules import ImageEncoderViT
from samnet.plan.backbones import EMBEDDING_CHANNELS, PATCH, WINDOW, Backbone


class ImageEncoder(ImageEncoderViT):
    """SAM's image encoder with a faster attention, which can do without the memory for its blocks' inner results.

    gradient_checkpointing: compute them again in the backward pass: the same gradients for less memory and more time.
    stem: see `Backbone`.
    """

    def __init__(
        self,
        *,
        gradient_checkpointing: bool = False,
        stem: tuple[int, ...] = (),
        embed_dim: int,
        **dimensions: Any,
    ) -> None:
        super().__init__(embed_dim=embed_dim, **dimensions)
        if stem:
            self.patch_embed = ConvolutionalStem(stem, embed_dim)
        for block in self.blocks:
            block.attn = WindowAttention(block.attn, block.window_size or None)
            block.window_size = 0  # the attention itself deals with windows
        self.gradient_checkpointing = gradient_checkpointing

    def forward(self, images: Tensor) -> Tensor:
        # The convolution leaves channels first; the layers between here and the neck would each pay for that.
        tokens = (self.patch_embed(images) + self.pos_embed).contiguous()
        recompute = self.gradient_checkpointing and torch.is_grad_enabled()
        for block in self.blocks:
            # Frozen blocks before the first trained one have no graph, so nothing of them is kept or wanted again.
            if recompute and (
                tokens.requires_grad or any(weight.requires_grad for weight in block.parameters())
            ):
                tokens = checkpoint(block, tokens, use_reentrant=False, preserve_rng_state=False)
            else:
                tokens = block(tokens)
        return self.neck(tokens.permute(0, 3, 1, 2))


class ConvolutionalStem(nn.Sequential):
    """From the image `(B, 3, S, S)` to tokens `(B, S / 16, S / 16, width)` in several steps instead of one.

    A vision transformer learns faster and more steadily behind a few convolutions (Xiao et al. 2021, arXiv 2106.14881).
    """

    def __init__(self, channels: tuple[int, ...], width: int) -> None:
        layers = [
            normalised_convolution(before, after, 2)
            for before, after in itertools.pairwise((3, *channels))
        ]
        super().__init__(*layers, nn.Conv2d(channels[-1], width, 3, stride=2, padding=1))

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images).permute(0, 2, 3, 1)


def build_encoder(
    backbone: Backbone, input_size: int, *, gradient_checkpointing: bool = False
) -> ImageEncoder:
    """SAM's image encoder: `(B, 3, S, S)` to `(B, 256, S / 16, S / 16)`, randomly initialised."""
    encoder = ImageEncoder(
        stem=backbone.stem,
        gradient_checkpointing=gradient_checkpointing,
        **encoder_arguments(backbone, input_size),
    )
    _initialise(encoder)
    return encoder


def encoder_arguments(backbone: Backbone, input_size: int) -> dict[str, Any]:
    """What segment_anything's `ImageEncoderViT` takes for a backbone."""
    return {
        "img_size": input_size,
        "patch_size": PATCH,
        "embed_dim": backbone.width,
        "depth": backbone.depth,
        "num_heads": backbone.heads,
        "mlp_ratio": 4,
        "out_chans": EMBEDDING_CHANNELS,
        "qkv_bias": True,
        "norm_layer": partial(nn.LayerNorm, eps=1e-6),
        "use_rel_pos": True,
        "window_size": WINDOW,
        "global_attn_indexes": backbone.global_blocks,
    }


def _initialise(encoder: ImageEncoder) -> None:
    """Truncated normal of 0.02 for linear layers and positions, as vision transformers are commonly trained from."""
    for module in encoder.modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    nn.init.trunc_normal_(encoder.pos_embed, std=0.02)


class InputStem(nn.Module):
    """From a data set's channels, 0 to 1, to the three normalised ones SAM's encoder takes.

    `(B, C, S, S)` to `(B, 3, S, S)`. With other than three channels a 1 x 1 convolution is learned; it starts as the
    mean of the channels.
    """

    def __init__(self, num_channels: int, sam_statistics: bool) -> None:
        super().__init__()
        self.mix = nn.Identity() if num_channels == 3 else _mean_of_channels(num_channels)
        mean, std = (PIXEL_MEAN, PIXEL_STD) if sam_statistics else ((0.0,) * 3, (1.0,) * 3)
        self.register_buffer("mean", torch.tensor(mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(std)[:, None, None], persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        return (self.mix(images) - self.mean) / self.std


def _mean_of_channels(num_channels: int) -> nn.Module:
    mix = nn.Conv2d(num_channels, 3, 1)
    nn.init.constant_(mix.weight, 1 / num_channels)
    mix.bias = nn.Parameter(torch.zeros(3))
    return mix
