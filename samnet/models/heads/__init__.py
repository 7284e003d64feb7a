"""From an image embedding to class logits, each way a `Head`."""

from __future__ import annotations

from collections.abc import Callable

from samnet.models.heads.cnn import CnnHead, SlimCnnHead
from samnet.models.heads.head import Head
from samnet.models.heads.linear import LinearHead
from samnet.models.heads.mask_decoder import MaskDecoderHead
from samnet.models.heads.upsampling import QuarterUpsamplingHead, UpsamplingHead
from samnet.models.heads.vit import VitHead

# name -> builder(num_outputs, grid), grid: rows (and columns) of the embedding.
HEADS: dict[str, Callable[[int, int], Head]] = {
    "mask_decoder": MaskDecoderHead,
    "mask_decoder_lora": MaskDecoderHead,  # LoRA goes in with the network's assembly, after SAM's weights
    "vit": VitHead,
    "cnn": CnnHead,
    "cnn_slim": SlimCnnHead,
    "linear": LinearHead,
    "upsampling": UpsamplingHead,
    "upsampling_quarter": QuarterUpsamplingHead,
}
