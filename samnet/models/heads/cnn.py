"""AutoSAM's convolutional head (Hu, Xu & Shi 2023, arXiv 2306.13731)."""

from __future__ import annotations

from torch import Tensor, nn

from samnet.planning.backbones import EMBEDDING_CHANNELS

_WIDTH = 1024
_STAGES = 4


class CnnHead(nn.Module):
    """A wide 1 x 1 stem, then four stages of two 3 x 3 convolutions that halve the width; the last two double the size.

    ReLU, no normalisation. `(B, 256, G, G)` to `(B, num_outputs, 4 G, 4 G)`.
    """

    stride = 4

    def __init__(self, num_outputs: int, grid: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [
            nn.Conv2d(EMBEDDING_CHANNELS, _WIDTH, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(_WIDTH, _WIDTH, 1),
            nn.ReLU(inplace=True),
        ]
        width = _WIDTH
        for stage in range(_STAGES):
            if stage >= _STAGES - 2:
                layers.append(nn.Upsample(scale_factor=2, mode="bilinear"))
            layers += [nn.Conv2d(width, width, 3, padding=1), nn.ReLU(inplace=True)]
            layers += [nn.Conv2d(width, width // 2, 3, padding=1), nn.ReLU(inplace=True)]
            width //= 2
        layers += [nn.Conv2d(width, width, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(width, num_outputs, 1)]
        self.layers = nn.Sequential(*layers)

    def forward(self, embedding: Tensor, image: Tensor) -> Tensor:
        return self.layers(embedding)
