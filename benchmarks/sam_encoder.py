"""SAM's image encoder as segment_anything ships it, in the place of samnet's."""

from __future__ import annotations

from torch import nn

from samnet.models.encoder import ImageEncoder, encoder_arguments
from samnet.models.sam_modules import ImageEncoderViT
from samnet.plan.backbones import BACKBONES


def shipped_encoder(backbone: str, input_size: int, own: ImageEncoder) -> nn.Module:
    """segment_anything's encoder with the weights of samnet's. `own` has no LoRA yet."""
    encoder = ImageEncoderViT(**encoder_arguments(BACKBONES[backbone], input_size))
    encoder.patch_embed = own.patch_embed
    encoder.load_state_dict(own.state_dict())
    return encoder
