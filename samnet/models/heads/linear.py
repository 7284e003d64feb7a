"""AutoSAM's smallest head (Hu, Xu & Shi 2023, arXiv 2306.13731): it enlarges, then classifies."""

from __future__ import annotations

from typing import Any, cast

from torch import Tensor, nn
from torch.nn import functional

from samnet.models.channel_norm import ChannelNorm
from samnet.models.heads.head import Head
from samnet.models.heads.upscaling import in_order, upscale_tokens
from samnet.models.sam_modules import LayerNorm2d
from samnet.plan.backbones import EMBEDDING_CHANNELS


class LinearHead(Head):
    """Two transposed convolutions, then 1 x 1 convolutions on each pixel.

    The transposed convolutions are those of SAM's mask decoder, and start from its weights.
    AutoSAM's release also has a ReLU on the logits. It is left out here: the ReLU would stop a
    logit from falling below zero.

    Attributes:
        mask_decoder: Holds `output_upscaling`, the part of SAM's mask decoder.
        classify: The 1 x 1 convolutions.
    """

    stride = 4

    def __init__(self, num_outputs: int, grid: int) -> None:
        """Build the head.

        Args:
            num_outputs: Number of classes with the background, or of regions.
            grid: Rows and columns of the embedding; not used.
        """
        super().__init__()
        middle, width = EMBEDDING_CHANNELS // 4, EMBEDDING_CHANNELS // 8
        upscaling = nn.Sequential(
            nn.ConvTranspose2d(EMBEDDING_CHANNELS, middle, 2, stride=2),
            ChannelNorm(LayerNorm2d(middle)),
            nn.GELU(),
            nn.ConvTranspose2d(middle, width, 2, stride=2),
            nn.GELU(),
        )
        self.mask_decoder = nn.ModuleDict({"output_upscaling": upscaling})
        self.classify = nn.Sequential(
            nn.Conv2d(width, width, 1), nn.ReLU(), nn.Conv2d(width, num_outputs, 1)
        )

    def forward(self, embedding: Tensor, image: Tensor) -> Tensor:
        """Return logits.

        Args:
            embedding: `(B, 256, G, G)`.
            image: Not used.

        Returns:
            Logits `(B, num_outputs, 4 G, 4 G)`.
        """
        pixels = embedding.flatten(2).transpose(1, 2)
        pixels = upscale_tokens(self.mask_decoder["output_upscaling"], pixels)
        hidden, activation, last = cast(Any, self.classify)
        # A 1 x 1 convolution is a product, too.
        pixels = activation(functional.linear(pixels, hidden.weight[..., 0, 0], hidden.bias))
        logits = functional.linear(pixels, last.weight[..., 0, 0], last.bias)
        return in_order(logits.transpose(1, 2), embedding.shape[-1])
