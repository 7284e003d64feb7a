"""SAM's image encoder as segment_anything ships it, in the place of samnet's."""

from __future__ import annotations

from functools import partial

from torch import nn

from samnet.models.encoder import ImageEncoder
from samnet.models.sam_modules import ImageEncoderViT
from samnet.planning.backbones import BACKBONES, EMBEDDING_CHANNELS, PATCH, WINDOW


def shipped_encoder(backbone: str, input_size: int, own: ImageEncoder) -> nn.Module:
    """segment_anything's encoder with the weights of samnet's. `own` has no LoRA yet."""
    dimensions = BACKBONES[backbone]
    encoder = ImageEncoderViT(
        img_size=input_size,
        patch_size=PATCH,
        embed_dim=dimensions.width,
        depth=dimensions.depth,
        num_heads=dimensions.heads,
        mlp_ratio=4,
        out_chans=EMBEDDING_CHANNELS,
        qkv_bias=True,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        use_rel_pos=True,
        window_size=WINDOW,
        global_attn_indexes=dimensions.global_blocks,
    )
    encoder.patch_embed = own.patch_embed
    encoder.load_state_dict(own.state_dict())
    return encoder
