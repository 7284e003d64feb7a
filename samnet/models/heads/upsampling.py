"""A head that returns to half the input's resolution, guided by the image itself.

SAM's encoder reduces the image 16-fold in its first layer, so structures thinner than a patch have
to be rebuilt. This head enlarges the embedding step by step. At each step it joins the embedding
with features of the input image at that resolution, as the U-Net does with the features of its
encoder (Ronneberger et al. 2015, arXiv 1505.04597).
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
_PROJECTED_WIDTH = 128


class UpsamplingHead(Head):
    """Enlarges the embedding to half the input's resolution, and classifies each pixel.

    Attributes:
        levels: Number of enlargements, each by a factor of 2.
        upsampling: The enlarging layers.
        classify: A 1 x 1 convolution.
    """

    stride = 2
    uses_image = True
    levels = 3

    def __init__(self, num_outputs: int, grid: int) -> None:
        """Build the head.

        Args:
            num_outputs: Number of classes with the background, or of regions.
            grid: Rows and columns of the embedding; not used.
        """
        super().__init__()
        self.upsampling = Upsampling(self.levels)
        self.classify = nn.Conv2d(self.upsampling.widths[-1], num_outputs, 1)

    def forward(self, embedding: Tensor, image: Tensor) -> Tensor:
        """Return logits.

        Args:
            embedding: `(B, 256, G, G)`.
            image: `(B, 3, 16 G, 16 G)`.

        Returns:
            Logits `(B, num_outputs, 16 G / stride, 16 G / stride)`.
        """
        return self.classify(self.upsampling(embedding, image)[-1])


class QuarterUpsamplingHead(UpsamplingHead):
    """Enlarges to a quarter of the input's resolution; a training step takes half the time.

    This is enough for slices that are enlarged so much that they show nothing finer.
    """

    stride = 4
    levels = 2


class Upsampling(nn.Module):
    """Computes feature maps of growing resolution from an embedding and the image.

    Attributes:
        widths: Channels of the map of each level: 64, 32 and 16.
        details: Convolutions that reduce the image, each by a factor of 2.
        project: A 1 x 1 convolution of the embedding.
        fuse: The layers of each level.
    """

    def __init__(self, levels: int) -> None:
        """Build the layers.

        Args:
            levels: Number of levels, 1 to 3.
        """
        super().__init__()
        widths = (3, *_DETAIL_WIDTHS)
        self.widths = tuple(reversed(_DETAIL_WIDTHS))[:levels]
        details = [
            normalised_convolution(coarse, fine, stride=2)
            for coarse, fine in itertools.pairwise(widths)
        ]
        self.details = nn.ModuleList(details)
        self.project = nn.Conv2d(EMBEDDING_CHANNELS, _PROJECTED_WIDTH, 1)
        self.fuse = nn.ModuleList()
        width = _PROJECTED_WIDTH
        for detail in self.widths:
            joining = normalised_convolution(width + detail, detail)
            self.fuse.append(nn.Sequential(joining, normalised_convolution(detail, detail)))
            width = detail

    def forward(self, embedding: Tensor, image: Tensor, levels: int | None = None) -> list[Tensor]:
        """Return the feature maps of the levels.

        Args:
            embedding: `(B, 256, G, G)`.
            image: `(B, 3, 16 G, 16 G)`.
            levels: Number of levels to compute; all by default.

        Returns:
            One map `(B, widths[k - 1], 2^k G, 2^k G)` for each level k from 1.
        """
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
