"""AutoSAM's smallest head (Hu, Xu & Shi 2023, arXiv 2306.13731): nothing but enlarging and classifying each pixel."""

from __future__ import annotations

from torch import Tensor, nn

from samnet.models.heads.head import Head
from samnet.models.sam_modules import LayerNorm2d
from samnet.plan.backbones import EMBEDDING_CHANNELS


class LinearHead(Head):
    """Two transposed convolutions, then 1 x 1 ones: `(B, 256, G, G)` to `(B, num_outputs, 4 G, 4 G)`.

    The transposed convolutions are those of SAM's mask decoder, and start from its weights. AutoSAM's release also puts
    a ReLU on the logits; it is left out, as no class could be made less likely than another's 0 with it.
    """

    stride = 4

    def __init__(self, num_outputs: int, grid: int) -> None:
        super().__init__()
        middle, width = EMBEDDING_CHANNELS // 4, EMBEDDING_CHANNELS // 8
        upscaling = nn.Sequential(
            nn.ConvTranspose2d(EMBEDDING_CHANNELS, middle, 2, stride=2),
            LayerNorm2d(middle),
            nn.GELU(),
            nn.ConvTranspose2d(middle, width, 2, stride=2),
            nn.GELU(),
        )
        self.mask_decoder = nn.ModuleDict({"output_upscaling": upscaling})
        self.classify = nn.Sequential(
            nn.Conv2d(width, width, 1), nn.ReLU(), nn.Conv2d(width, num_outputs, 1)
        )

    def forward(self, embedding: Tensor, image: Tensor) -> Tensor:
        return self.classify(self.mask_decoder["output_upscaling"](embedding))
