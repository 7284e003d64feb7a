"""AutoSAM's convolutional head (Hu, Xu & Shi 2023, arXiv 2306.13731), and a slim one with normalisation."""

from __future__ import annotations

from torch import Tensor, nn

from samnet.models.heads.blocks import normalised_convolution
from samnet.models.heads.head import Head
from samnet.plan.backbones import EMBEDDING_CHANNELS

_WIDTH = 1024
_STAGES = 4


class CnnHead(Head):
    """A wide 1 x 1 stem, then four stages of two 3 x 3 convolutions that halve the width; the last two double the size.

    The first two stages halve it in their second convolution, the last two in a transposed one after both. ReLU after
    stem and 3 x 3 convolutions but the last, no normalisation. `(B, 256, G, G)` to `(B, num_outputs, 4 G, 4 G)`.
    """

    stride = 4

    def __init__(self, num_outputs: int, grid: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv2d(EMBEDDING_CHANNELS, _WIDTH, 1), nn.ReLU(inplace=True)]
        layers += [nn.Conv2d(_WIDTH, _WIDTH, 1), nn.ReLU(inplace=True)]
        width = _WIDTH
        for stage in range(_STAGES):
            enlarges = stage >= _STAGES - 2
            layers += [nn.Conv2d(width, width, 3, padding=1), nn.ReLU(inplace=True)]
            layers += [
                nn.Conv2d(width, width if enlarges else width // 2, 3, padding=1),
                nn.ReLU(inplace=True),
            ]
            if enlarges:
                layers.append(nn.ConvTranspose2d(width, width // 2, 2, stride=2))
            width //= 2
        layers += [nn.Conv2d(width, width, 3, padding=1), nn.Conv2d(width, num_outputs, 1)]
        self.layers = nn.Sequential(*layers)

    def forward(self, embedding: Tensor, image: Tensor) -> Tensor:
        return self.layers(embedding)


class SlimCnnHead(Head):
    """Like `CnnHead` with a twentieth of its weights, bilinear enlarging, group norm and GELU.

    `(B, 256, G, G)` to `(B, num_outputs, 4 G, 4 G)`.
    """

    stride = 4

    def __init__(self, num_outputs: int, grid: int) -> None:
        super().__init__()
        layers = [normalised_convolution(EMBEDDING_CHANNELS, EMBEDDING_CHANNELS)]
        width = EMBEDDING_CHANNELS
        for _ in range(2):
            layers.append(nn.Upsample(scale_factor=2, mode="bilinear"))
            layers += [
                normalised_convolution(width, width // 2),
                normalised_convolution(width // 2, width // 2),
            ]
            width //= 2
        self.layers = nn.Sequential(*layers, nn.Conv2d(width, num_outputs, 1))

    def forward(self, embedding: Tensor, image: Tensor) -> Tensor:
        return self.layers(embedding)
