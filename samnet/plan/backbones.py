"""The image encoders samnet knows: SAM's three, and a small one of the same shape for machines without a GPU."""

from __future__ import annotations

from dataclasses import dataclass

PATCH = 16
WINDOW = 14
EMBEDDING_CHANNELS = 256
SAM_DECODER_MLP = 2048


@dataclass(frozen=True)
class Backbone:
    """The dimensions of an image encoder of SAM's kind (patches of 16 pixels, windows of 14 tokens, 256 outputs).

    width: channels of a token; depth: blocks; heads: of each attention.
    global_blocks: the blocks that attend to the whole image instead of a window.
    pretrained_size: the input size its released weights were trained at; None where there are none.
    smallest_input: the edge in pixels below which no input is planned.
    stem: channels of the convolutions of stride 2 that precede the last one into tokens; none for a single step of 16.
    decoder_mlp: inner width of the mask decoder's perceptrons.
    trained_upsampling: whether its released weights hold the features of the upsampling heads.
    """

    name: str
    width: int
    depth: int
    heads: int
    global_blocks: tuple[int, ...]
    pretrained_size: int | None
    smallest_input: int = WINDOW * PATCH
    stem: tuple[int, ...] = ()
    decoder_mlp: int = SAM_DECODER_MLP
    trained_upsampling: bool = False

    @property
    def has_weights(self) -> bool:
        return self.pretrained_size is not None


# SAM's dimensions: Kirillov et al. 2023 (arXiv 2304.02643), as in the released models.
BACKBONES = {
    backbone.name: backbone
    for backbone in (
        Backbone(
            "small",
            192,
            6,
            3,
            (1, 3, 5),
            224,
            112,
            stem=(16, 32, 64),
            decoder_mlp=256,
            trained_upsampling=True,
        ),
        Backbone("vit_b", 768, 12, 12, (2, 5, 8, 11), 1024),
        Backbone("vit_l", 1024, 24, 16, (5, 11, 17, 23), 1024),
        Backbone("vit_h", 1280, 32, 16, (7, 15, 23, 31), 1024),
    )
}
