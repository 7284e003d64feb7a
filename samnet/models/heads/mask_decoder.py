"""SAM's own mask decoder, asked for all classes at once without any prompt, as in SAMed (arXiv 2304.13785)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from samnet.models.heads.blocks import dense_positions
from samnet.models.heads.head import Head
from samnet.models.sam_modules import MaskDecoder, PromptEncoder, TwoWayTransformer
from samnet.plan.backbones import EMBEDDING_CHANNELS, PATCH, SAM_DECODER_MLP


class MaskDecoderHead(Head):
    """One mask token for each output: `(B, 256, G, G)` to `(B, num_outputs, 4 G, 4 G)`.

    The prompt encoder gives the positions of the embedding and the "no mask" vector that is added to it. Its other
    parts and the head that estimates IoU are there, as in SAM's and SAMed's files, and are not used.
    """

    stride = 4
    holds_mask_decoder = True
    starts_anew = ("mask_tokens", "output_hypernetworks_mlps", "iou_prediction_head")

    def __init__(self, num_outputs: int, grid: int, decoder_mlp: int = SAM_DECODER_MLP) -> None:
        super().__init__()
        self.grid = grid
        self.prompt_encoder = PromptEncoder(
            embed_dim=EMBEDDING_CHANNELS,
            image_embedding_size=(grid, grid),
            input_image_size=(grid * PATCH, grid * PATCH),
            mask_in_chans=16,
        )
        self.mask_decoder = build_mask_decoder(num_outputs, decoder_mlp)
        self.prompt_encoder.requires_grad_(False)
        self.prompt_encoder.no_mask_embed.requires_grad_(True)
        self.mask_decoder.iou_prediction_head.requires_grad_(False)

    def forward(self, embedding: Tensor, image: Tensor) -> Tensor:
        decoder, count = self.mask_decoder, len(embedding)
        tokens = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
        source = embedding + self.prompt_encoder.no_mask_embed.weight[:, :, None, None]
        positions = dense_positions(self.prompt_encoder.pe_layer, self.grid)
        return decode_masks(decoder, source, positions, tokens.expand(count, -1, -1))[0]


def decode_masks(
    decoder: Any, source: Tensor, positions: Tensor, tokens: Tensor
) -> tuple[Tensor, Tensor]:
    """Masks from SAM's mask decoder, each image with tokens of its own.

    source: `(B, 256, G, G)`. positions: `(1, 256, G, G)`. tokens: `(B, 1 + K + P, 256)`: that of the IoU, those of the
    decoder's K masks, prompts.

    Returns:
        logits `(B, K, 4 G, 4 G)`, and what became of the IoU's token, `(B, 256)`.
    """
    tokens_out, source_out = decoder.transformer(
        source, positions.expand(len(source), -1, -1, -1), tokens
    )
    upscaled = decoder.output_upscaling(source_out.transpose(1, 2).reshape(source.shape))
    weights = [
        mlp(tokens_out[:, 1 + index]) for index, mlp in enumerate(decoder.output_hypernetworks_mlps)
    ]
    return torch.einsum("bkc,bchw->bkhw", torch.stack(weights, dim=1), upscaled), tokens_out[:, 0]


def build_mask_decoder(num_masks: int, mlp_width: int = SAM_DECODER_MLP) -> MaskDecoder:
    """SAM's mask decoder in its released dimensions, with a token and a hyper-network for each of `num_masks`.

    mlp_width: see `Backbone.decoder_mlp`.
    """
    return MaskDecoder(
        transformer_dim=EMBEDDING_CHANNELS,
        transformer=TwoWayTransformer(
            depth=2, embedding_dim=EMBEDDING_CHANNELS, mlp_dim=mlp_width, num_heads=8
        ),
        num_multimask_outputs=num_masks - 1,
    )
