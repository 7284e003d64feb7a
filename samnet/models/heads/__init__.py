"""From an image embedding to class logits. A head takes the embedding and the network's input image.

Every head has `stride`: input pixels for each of its output pixels.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from samnet.models.heads.cnn import CnnHead
from samnet.models.heads.mask_decoder import MaskDecoderHead
from samnet.models.heads.upsampling import UpsamplingHead

# name -> builder(num_outputs, grid), grid: rows (and columns) of the embedding.
HEADS: dict[str, Callable[[int, int], nn.Module]] = {
    "mask_decoder": MaskDecoderHead,
    "cnn": CnnHead,
    "upsampling": UpsamplingHead,
}
