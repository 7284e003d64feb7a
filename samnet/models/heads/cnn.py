"""AutoSAM's convolutional head (Hu, Xu & Shi 2023, arXiv 2306.13731), and a slim one with norms."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from samnet.models.heads.blocks import normalised_convolution
from samnet.models.heads.head import Head
from samnet.models.wide_convolution import WideConvolution
from samnet.plan.backbones import EMBEDDING_CHANNELS

_WIDTH = 1024
_STAGES = 4


class CnnHead(Head):
    """A wide 1 x 1 stem, then four stages of two 3 x 3 convolutions that each halve the width.

    The first two stages halve the width in their second convolution. The last two halve it in a
    transposed convolution after both, which doubles the size. There is a ReLU after the stem and
    after all 3 x 3 convolutions except the last, and no normalisation.

    Attributes:
        layers: All layers in order.
    """

    stride = 4

    def __init__(self, num_outputs: int, grid: int) -> None:
        """Build the head.

        Args:
            num_outputs: Number of classes with the background, or of regions.
            grid: Rows and columns of the embedding; not used.
        """
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(EMBEDDING_CHANNELS, _WIDTH, 1), nn.ReLU(inplace=True)]
        layers += [nn.Conv2d(_WIDTH, _WIDTH, 1), nn.ReLU(inplace=True)]
        width = _WIDTH
        for stage in range(_STAGES):
            enlarges = stage >= _STAGES - 2
            second_width = width if enlarges else width // 2
            layers += [WideConvolution(width, width), nn.ReLU(inplace=True)]
            layers += [WideConvolution(width, second_width), nn.ReLU(inplace=True)]
            if enlarges:
                layers.append(nn.ConvTranspose2d(width, width // 2, 2, stride=2))
            width //= 2
        layers += [nn.Conv2d(width, width, 3, padding=1), nn.Conv2d(width, num_outputs, 1)]
        self.layers = nn.Sequential(*layers)

    def forward(self, embedding: Tensor, image: Tensor) -> Tensor:
        """Return logits.

        Args:
            embedding: `(B, 256, G, G)`.
            image: Not used.

        Returns:
            Logits `(B, num_outputs, 4 G, 4 G)`.
        """
        return self.layers(embedding)


class SlimCnnHead(Head):
    """Like `CnnHead` with a twentieth of its weights, bilinear enlarging, group norm and GELU.

    Attributes:
        layers: All layers in order.
    """

    stride = 4

    def __init__(self, num_outputs: int, grid: int) -> None:
        """Build the head.

        Args:
            num_outputs: Number of classes with the background, or of regions.
            grid: Rows and columns of the embedding; not used.
        """
        super().__init__()
        layers = [normalised_convolution(EMBEDDING_CHANNELS, EMBEDDING_CHANNELS)]
        width = EMBEDDING_CHANNELS
        for _ in range(2):
            layers.append(nn.Upsample(scale_factor=2, mode="bilinear"))
            layers.append(normalised_convolution(width, width // 2))
            layers.append(normalised_convolution(width // 2, width // 2))
            width //= 2
        self.layers = nn.Sequential(*layers, nn.Conv2d(width, num_outputs, 1))

    def forward(self, embedding: Tensor, image: Tensor) -> Tensor:
        """Return logits.

        Args:
            embedding: `(B, 256, G, G)`.
            image: Not used.

        Returns:
            Logits `(B, num_outputs, 4 G, 4 G)`.
        """
        if embedding.device.type == "cpu":
            # In this order its convolutions and norms take up to a third less time there.
            embedding = embedding.contiguous(memory_format=torch.channels_last)
        return self.layers(embedding)
