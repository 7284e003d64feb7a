"""The image encoders that samnet knows: SAM's three, and a small one for machines without a GPU."""

from __future__ import annotations

from dataclasses import dataclass

PATCH = 16
WINDOW = 14
EMBEDDING_CHANNELS = 256
SAM_DECODER_MLP = 2048


@dataclass(frozen=True)
class Backbone:
    """The dimensions of an image encoder of SAM's kind.

    All have patches of 16 pixels, attention windows of 14 tokens and 256 output channels.

    Attributes:
        name: What plans and `--backbone` call it.
        width: Channels of a token.
        depth: Number of blocks.
        heads: Heads of each attention.
        global_blocks: The blocks that attend to the whole image instead of a window.
        pretrained_size: Input size in pixels that its released weights were trained at; None where
            there are none.
        smallest_input: Edge in pixels below which no input is planned.
        patch_convolutions: Channels of the convolutions of stride 2 that precede the last one into
            tokens; empty for a single step of 16 pixels.
        decoder_mlp: Inner width of the mask decoder's perceptrons.
        trained_upsampling: Whether its released weights hold features of the upsampling heads.
    """

    name: str
    width: int
    depth: int
    heads: int
    global_blocks: tuple[int, ...]
    pretrained_size: int | None
    smallest_input: int = WINDOW * PATCH
    patch_convolutions: tuple[int, ...] = ()
    decoder_mlp: int = SAM_DECODER_MLP
    trained_upsampling: bool = False

    @property
    def has_weights(self) -> bool:
        """Whether there are released weights."""
        return self.pretrained_size is not None


_SMALL = Backbone(
    "small",
    width=192,
    depth=6,
    heads=3,
    global_blocks=(1, 3, 5),
    pretrained_size=224,
    smallest_input=112,
    patch_convolutions=(16, 32, 64),
    decoder_mlp=256,
    trained_upsampling=True,
)
# SAM's dimensions: Kirillov et al. 2023 (arXiv 2304.02643), as in the released models.
_VIT_B = Backbone("vit_b", 768, 12, 12, (2, 5, 8, 11), 1024)
_VIT_L = Backbone("vit_l", 1024, 24, 16, (5, 11, 17, 23), 1024)
_VIT_H = Backbone("vit_h", 1280, 32, 16, (7, 15, 23, 31), 1024)
BACKBONES = {backbone.name: backbone for backbone in (_SMALL, _VIT_B, _VIT_L, _VIT_H)}
