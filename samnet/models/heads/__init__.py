"""From an image embedding to class logits, each way a `Head`."""

from __future__ import annotations

from samnet.models.heads.cnn import CnnHead, SlimCnnHead
from samnet.models.heads.head import Head
from samnet.models.heads.linear import LinearHead
from samnet.models.heads.mask_decoder import MaskDecoderHead
from samnet.models.heads.upsampling import QuarterUpsamplingHead, UpsamplingHead
from samnet.models.heads.vit import VitHead
from samnet.plan.backbones import Backbone

HEADS: dict[str, type[Head]] = {
    "mask_decoder": MaskDecoderHead,
    "mask_decoder_lora": MaskDecoderHead,  # LoRA goes in with the network's assembly, after SAM's weights
    "vit": VitHead,
    "cnn": CnnHead,
    "cnn_slim": SlimCnnHead,
    "linear": LinearHead,
    "upsampling": UpsamplingHead,
    "upsampling_quarter": QuarterUpsamplingHead,
}


def build_head(name: str, num_outputs: int, grid: int, backbone: Backbone) -> Head:
    """The head of that name, randomly initialised, for embeddings of `grid` rows and columns."""
    head = HEADS[name]
    if head.holds_mask_decoder:
        return head(num_outputs, grid, decoder_mlp=backbone.decoder_mlp)
    return head(num_outputs, grid)
