"""SAM's own mask decoder, asked for all classes at once without any prompt, as in SAMed (arXiv 2304.13785)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from samnet.models.sam_modules import MaskDecoder, PromptEncoder, TwoWayTransformer
from samnet.planning.backbones import EMBEDDING_CHANNELS, PATCH


class MaskDecoderHead(nn.Module):
    """One mask token for each output, the background's first: `(B, 256, G, G)` to `(B, num_outputs, 4 G, 4 G)`.

    The prompt encoder gives the positions of the embedding and the "no mask" vector that is added to it.
    """

    stride = 4

    def __init__(self, num_outputs: int, grid: int) -> None:
        super().__init__()
        self.prompt_encoder = PromptEncoder(
            embed_dim=EMBEDDING_CHANNELS,
            image_embedding_size=(grid, grid),
            input_image_size=(grid * PATCH, grid * PATCH),
            mask_in_chans=16,
        )
        self.mask_decoder = MaskDecoder(
            transformer_dim=EMBEDDING_CHANNELS,
            transformer=TwoWayTransformer(depth=2, embedding_dim=EMBEDDING_CHANNELS, mlp_dim=2048, num_heads=8),
            num_multimask_outputs=num_outputs - 1,
        )

    def forward(self, embedding: Tensor, image: Tensor) -> Tensor:
        decoder, count = self.mask_decoder, len(embedding)
        tokens = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
        source = embedding + self.prompt_encoder.no_mask_embed.weight[:, :, None, None]
        positions = self.prompt_encoder.get_dense_pe().expand(count, -1, -1, -1)
        tokens_out, source_out = decoder.transformer(source, positions, tokens.expand(count, -1, -1))
        upscaled = decoder.output_upscaling(source_out.transpose(1, 2).reshape(source.shape))
        mask_tokens = tokens_out[:, 1:]
        weights = [mlp(mask_tokens[:, index]) for index, mlp in enumerate(decoder.output_hypernetworks_mlps)]
        return torch.einsum("bkc,bchw->bkhw", torch.stack(weights, dim=1), upscaled)
