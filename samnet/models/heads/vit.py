"""AutoSAM's transformer head (Hu, Xu & Shi 2023, arXiv 2306.13731).

SAM's mask decoder with tokens for each class, which see each other and the image but no other class. AutoSAM copies the
embedding once for each class before the decoder. Classes differ only in their tokens, though, and these reach the image
at the end of the first layer; up to there, everything that depends on the image alone is computed once here. That is a
sum in another order, not another network.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from samnet.models.heads.blocks import dense_positions
from samnet.models.heads.head import Head
from samnet.models.heads.mask_decoder import build_mask_decoder
from samnet.models.sam_modules import PositionEmbeddingRandom
from samnet.plan.backbones import EMBEDDING_CHANNELS, SAM_DECODER_MLP

_MASKS = 2
_MAPS_AT_ONCE = 16


class VitHead(Head):
    """Three tokens for each class (IoU, mask, second mask): `(B, 256, G, G)` to `(B, num_outputs, 4 G, 4 G)`.

    As in AutoSAM, the second mask is not computed: its token takes part in the attention, its hyper-network and the
    head that estimates IoU are not used. Other than there, the positions are SAM's instead of random ones, and the
    IoU tokens are trained.
    """

    stride = 4
    holds_mask_decoder = True
    starts_anew = ("iou_token", "mask_tokens", "iou_prediction_head")

    def __init__(self, num_outputs: int, grid: int, decoder_mlp: int = SAM_DECODER_MLP) -> None:
        super().__init__()
        self.num_outputs, self.grid = num_outputs, grid
        self.prompt_encoder = nn.ModuleDict(
            {"pe_layer": PositionEmbeddingRandom(EMBEDDING_CHANNELS // 2)}
        )
        self.mask_decoder = build_mask_decoder(_MASKS, decoder_mlp)
        self.mask_decoder.iou_token = nn.Embedding(num_outputs, EMBEDDING_CHANNELS)
        self.mask_decoder.mask_tokens = nn.Embedding(num_outputs * _MASKS, EMBEDDING_CHANNELS)
        self.mask_decoder.iou_prediction_head.requires_grad_(False)
        self.mask_decoder.output_hypernetworks_mlps[1].requires_grad_(False)

    def forward(self, embedding: Tensor, image: Tensor) -> Tensor:
        tokens = self._tokens()
        pixels = embedding.flatten(2).transpose(1, 2)
        positions = (
            dense_positions(self.prompt_encoder["pe_layer"], self.grid).flatten(2).transpose(1, 2)
        )
        queries = self._look_at_image(tokens, pixels, pixels + positions)
        pixel_queries = self._first_layer.cross_attn_image_to_token.q_proj(pixels + positions)
        # Classes need nothing of each other from here on; all at once would need memory for an image of each.
        at_once = max(1, _MAPS_AT_ONCE // len(embedding))
        logits = [
            self._masks(part, part_tokens, pixels, pixel_queries, positions)
            for part, part_tokens in zip(
                queries.split(at_once, dim=1), tokens.split(at_once), strict=True
            )
        ]
        return torch.cat(logits, dim=1)

    @property
    def _first_layer(self) -> Any:
        return self.mask_decoder.transformer.layers[0]

    def _tokens(self) -> Tensor:
        """Of K classes, the IoU token first: `(K, 3, C)`."""
        masks = self.mask_decoder.mask_tokens.weight.unflatten(0, (self.num_outputs, _MASKS))
        return torch.cat([self.mask_decoder.iou_token.weight[:, None], masks], dim=1)

    def _look_at_image(self, tokens: Tensor, pixels: Tensor, placed_pixels: Tensor) -> Tensor:
        """The first layer's part that updates the tokens `(K, T, C)` from pixels `(B, N, C)`: `(B, K, T, C)`."""
        layer = self._first_layer
        queries = layer.norm1(layer.self_attn(q=tokens, k=tokens, v=tokens))
        asking = (
            (queries + tokens).flatten(0, 1).expand(len(pixels), -1, -1)
        )  # each token asks for itself
        seen = layer.cross_attn_token_to_image(q=asking, k=placed_pixels, v=pixels)
        queries = layer.norm2(queries + seen.unflatten(1, tokens.shape[:2]))
        return layer.norm3(queries + layer.mlp(queries))

    def _masks(
        self,
        queries: Tensor,
        tokens: Tensor,
        pixels: Tensor,
        pixel_queries: Tensor,
        positions: Tensor,
    ) -> Tensor:
        """The rest of the decoder for k classes, with an image of its own for each: `(B, k, 4 G, 4 G)`.

        queries: `(B, k, T, C)`. tokens: `(k, T, C)`. pixels: `(B, N, C)`. pixel_queries: `(B, N, C / 2)`, of the first
        layer's attention to tokens. positions: `(1, N, C)`.
        """
        decoder, first = self.mask_decoder, self._first_layer
        batch, classes = queries.shape[:2]
        update = _attend_within_classes(
            first.cross_attn_image_to_token, pixel_queries, queries + tokens, queries
        )
        keys = first.norm4(pixels[:, None] + update).flatten(0, 1)
        queries = queries.flatten(0, 1)
        tokens = tokens.expand(batch, -1, -1, -1).flatten(0, 1)
        for layer in decoder.transformer.layers[1:]:
            queries, keys = layer(queries=queries, keys=keys, query_pe=tokens, key_pe=positions)
        seen = decoder.transformer.final_attn_token_to_image(
            q=queries + tokens, k=keys + positions, v=keys
        )
        queries = decoder.transformer.norm_final_attn(queries + seen)
        upscaled = decoder.output_upscaling(
            keys.transpose(1, 2).unflatten(2, (self.grid, self.grid))
        )
        weights = decoder.output_hypernetworks_mlps[0](queries[:, 1])
        return torch.einsum("bc,bchw->bhw", weights, upscaled).unflatten(0, (batch, classes))


def _attend_within_classes(
    attention: Any, pixel_queries: Tensor, keys: Tensor, values: Tensor
) -> Tensor:
    """SAM's `Attention` of pixels to the tokens of each class apart: `(B, k, N, C)`.

    pixel_queries: `(B, N, D)`, projected already, the same for every class. keys, values: `(B, k, T, C)`.
    """
    heads, classes, length = attention.num_heads, keys.shape[1], keys.shape[2]
    q = pixel_queries.unflatten(-1, (heads, -1)).transpose(1, 2)
    k = attention.k_proj(keys).unflatten(-1, (heads, -1)).flatten(1, 2).transpose(1, 2)
    v = attention.v_proj(values).unflatten(-1, (heads, -1)).transpose(2, 3)
    scores = (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).unflatten(-1, (classes, length))
    shares = scores.softmax(dim=-1).permute(0, 3, 1, 2, 4)
    return attention.out_proj((shares @ v).transpose(2, 3).flatten(-2))
