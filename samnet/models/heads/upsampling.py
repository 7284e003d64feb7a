"""A head that brings the embedding back to half the input's resolution, guided by the image itself.

SAM's encoder reduces the image 16 fold in its first layer, and what is thinner than a patch has to be rebuilt. Here the
embedding is enlarged step by step, and at each step it is joined with features of the input image at that resolution,
as the U-Net does with its encoder's (Ronneberger et al. 2015, arXiv 1505.04597).
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional

from samnet.models.heads.blocks import normalised_convolution
from samnet.models.heads.head import Head
from samnet.plan.backbones import EMBEDDING_CHANNELS

_DETAIL_WIDTHS = (16, 32, 64)


class UpsamplingHead(Head):
    """`(B, 256, G, G)` and the image `(B, 3, 16 G, 16 G)` to `(B, num_outputs, 8 G, 8 G)`."""

    stride = 2
    uses_image = True
    levels = 3

    def __init__(self, num_outputs: int, grid: int) -> None:
        super().__init__()
        self.upsampling = Upsampling(self.levels)
        self.classify = nn.Conv2d(self.upsampling.widths[-1], num_outputs, 1)

    def forward(self, embedding: Tensor, image: Tensor) -> Tensor:
        return self.classify(self.upsampling(embedding, image)[-1])


class QuarterUpsamplingHead(UpsamplingHead):
    """The same up to a quarter of the input's resolution, `(B, num_outputs, 4 G, 4 G)`: half the time of a step.

    Enough where slices are enlarged so much that nothing finer is in them.
    """

    stride = 4
    levels = 2


class Upsampling(nn.Module):
    """The features of a head: from `(B, 256, G, G)` and the image to one map for each level, `(B, C, 2^k G, 2^k G)`.

    levels: 1 to 3. widths: channels of each level's map, 64, 32 and 16.
    """

    def __init__(self, levels: int) -> None:
        super().__init__()
        widths = (3, *_DETAIL_WIDTHS)
        self.widths = tuple(reversed(_DETAIL_WIDTHS))[:levels]
        self.details = nn.ModuleList(
            [
                normalised_convolution(coarse, fine, stride=2)
                for coarse, fine in itertools.pairwise(widths)
            ]
        )
        self.project = nn.Conv2d(EMBEDDING_CHANNELS, 128, 1)
        self.fuse = nn.ModuleList()
        width = 128
        for detail in self.widths:
            self.fuse.append(
                nn.Sequential(
                    normalised_convolution(width + detail, detail),
                    normalised_convolution(detail, detail),
                )
            )
            width = detail

    def forward(self, embedding: Tensor, image: Tensor, levels: int | None = None) -> list[Tensor]:
        """levels: how many to compute; all where it is not given."""
        details = []
        features = image
        for layer in self.details:
            features = layer(features)
            details.append(features)
        features = self.project(embedding)
        maps = []
        for layer, detail in zip(self.fuse[:levels], reversed(details), strict=False):
            features = functional.interpolate(features, size=detail.shape[-2:], mode="bilinear")
            features = layer(torch.cat([features, detail], dim=1))
            maps.append(features)
        return maps
