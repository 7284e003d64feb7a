"""Heads turn an image embedding into logits; the heads by the names of the plan."""

from __future__ import annotations

from samnet.models.heads.cnn import CnnHead, SlimCnnHead
from samnet.models.heads.head import Head
from samnet.models.heads.linear import LinearHead
from samnet.models.heads.mask_decoder import FullMaskDecoderHead, MaskDecoderHead
from samnet.models.heads.upsampling import QuarterUpsamplingHead, UpsamplingHead
from samnet.models.heads.vit import VitHead
from samnet.plan.backbones import Backbone

HEADS: dict[str, type[Head]] = {
    "mask_decoder": MaskDecoderHead,
    "mask_decoder_lora": MaskDecoderHead,  # `build_network` adds LoRA after loading SAM's weights
    "mask_decoder_full": FullMaskDecoderHead,
    "vit": VitHead,
    "cnn": CnnHead,
    "cnn_slim": SlimCnnHead,
    "linear": LinearHead,
    "upsampling": UpsamplingHead,
    "upsampling_quarter": QuarterUpsamplingHead,
}


def build_head(name: str, num_outputs: int, grid: int, backbone: Backbone) -> Head:
    """Build a head, randomly initialised.

    Args:
        name: Key of `HEADS`.
        num_outputs: Number of classes with the background, or of regions.
        grid: Rows and columns of the embedding.
        backbone: Dimensions of the encoder, which give the width of SAM's mask decoder.

    Returns:
        The head.
    """
    head = HEADS[name]
    if head.holds_mask_decoder:
        return head(num_outputs, grid, decoder_mlp=backbone.decoder_mlp)
    return head(num_outputs, grid)
