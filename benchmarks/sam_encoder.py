"""The image encoder of the `segment_anything` package, to use in place of samnet's."""

from __future__ import annotations

from torch import nn

from samnet.models.encoder import ImageEncoder, encoder_arguments
from samnet.models.sam_modules import ImageEncoderViT
from samnet.plan.backbones import BACKBONES


def shipped_encoder(backbone: str, input_size: int, own: ImageEncoder) -> nn.Module:
    """Return `segment_anything`'s encoder with the weights of samnet's encoder.

    Args:
        backbone: Name of the backbone, such as `vit_b`.
        input_size: Edge of the input in pixels.
        own: samnet's encoder of that backbone, before LoRA is added to it.

    Returns:
        The encoder; its patch embedding is the module of `own` itself.
    """
    encoder = ImageEncoderViT(**encoder_arguments(BACKBONES[backbone], input_size))
    encoder.patch_embed = own.patch_embed
    encoder.load_state_dict(own.state_dict())
    return encoder
