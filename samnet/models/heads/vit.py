"""AutoSAM's transformer head (Hu, Xu & Shi 2023, arXiv 2306.13731).

It is SAM's mask decoder with tokens for each class; they attend to each other and to the image, but
to no other class. AutoSAM copies the embedding once for each class before the decoder. But classes
differ only in their tokens, and the tokens reach the image only at the end of the first layer.
Before that, everything that depends on the image alone is computed once here. The sums run in
another order; the network is the same.
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
    """SAM's mask decoder with three tokens for each class: IoU, mask and second mask.

    As in AutoSAM, the second mask is not computed: its token takes part in the attention, but its
    hyper-network and the layers that estimate IoU are not used. Unlike in AutoSAM, the positions
    are SAM's instead of random ones, and the IoU tokens are trained.

    Attributes:
        num_outputs: Number of classes with the background, or of regions.
        grid: Rows and columns of the embedding.
        prompt_encoder: Holds `pe_layer`, SAM's position encoding.
        mask_decoder: SAM's mask decoder.
    """

    stride = 4
    holds_mask_decoder = True
    randomly_initialised = ("iou_token", "mask_tokens", "iou_prediction_head")

    def __init__(self, num_outputs: int, grid: int, decoder_mlp: int = SAM_DECODER_MLP) -> None:
        """Build the head.

        Args:
            num_outputs: Number of classes with the background, or of regions.
            grid: Rows and columns of the embedding.
            decoder_mlp: Hidden width of the decoder's MLPs, see `Backbone`.
        """
        super().__init__()
        self.num_outputs, self.grid = num_outputs, grid
        pe_layer = PositionEmbeddingRandom(EMBEDDING_CHANNELS // 2)
        self.prompt_encoder = nn.ModuleDict({"pe_layer": pe_layer})
        self.mask_decoder = build_mask_decoder(_MASKS, decoder_mlp)
        self.mask_decoder.iou_token = nn.Embedding(num_outputs, EMBEDDING_CHANNELS)
        self.mask_decoder.mask_tokens = nn.Embedding(num_outputs * _MASKS, EMBEDDING_CHANNELS)
        self.mask_decoder.iou_prediction_head.requires_grad_(False)
        self.mask_decoder.output_hypernetworks_mlps[1].requires_grad_(False)

    def forward(self, embedding: Tensor, image: Tensor) -> Tensor:
        """Return logits.

        Args:
            embedding: `(B, 256, G, G)`.
            image: Not used.

        Returns:
            Logits `(B, num_outputs, 4 G, 4 G)`.
        """
        tokens = self._tokens()
        pixels = embedding.flatten(2).transpose(1, 2)
        positions = dense_positions(self.prompt_encoder["pe_layer"], self.grid)
        positions = positions.flatten(2).transpose(1, 2)
        queries = self._attend_to_image(tokens, pixels, pixels + positions)
        pixel_queries = self._first_layer.cross_attn_image_to_token.q_proj(pixels + positions)
        # From here on classes do not depend on each other. All classes at once would need the
        # memory of one image for each class.
        at_once = max(1, _MAPS_AT_ONCE // len(embedding))
        parts = zip(queries.split(at_once, dim=1), tokens.split(at_once), strict=True)
        logits = [
            self._masks(part, part_tokens, pixels, pixel_queries, positions)
            for part, part_tokens in parts
        ]
        return torch.cat(logits, dim=1)

    @property
    def _first_layer(self) -> Any:
        return self.mask_decoder.transformer.layers[0]

    def _tokens(self) -> Tensor:
        """Return the tokens of K classes, the IoU token first: `(K, 3, C)`."""
        masks = self.mask_decoder.mask_tokens.weight.unflatten(0, (self.num_outputs, _MASKS))
        return torch.cat([self.mask_decoder.iou_token.weight[:, None], masks], dim=1)

    def _attend_to_image(self, tokens: Tensor, pixels: Tensor, placed_pixels: Tensor) -> Tensor:
        """Run the part of the first layer that updates tokens `(K, T, C)` from pixels `(B, N, C)`.

        Returns `(B, K, T, C)`.
        """
        layer = self._first_layer
        queries = layer.norm1(layer.self_attn(q=tokens, k=tokens, v=tokens))
        # Tokens do not see each other here, so those of all classes make one sequence.
        every_query = (queries + tokens).flatten(0, 1).expand(len(pixels), -1, -1)
        seen = layer.cross_attn_token_to_image(q=every_query, k=placed_pixels, v=pixels)
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
        """Run the rest of the decoder for k classes, with a copy of the image for each class.

        Args:
            queries: `(B, k, T, C)`.
            tokens: `(k, T, C)`.
            pixels: `(B, N, C)`.
            pixel_queries: `(B, N, C / 2)`, of the first layer's attention to tokens.
            positions: `(1, N, C)`.

        Returns:
            Logits `(B, k, 4 G, 4 G)`.
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
        embedding = keys.transpose(1, 2).unflatten(2, (self.grid, self.grid))
        upscaled = decoder.output_upscaling(embedding)
        weights = decoder.output_hypernetworks_mlps[0](queries[:, 1])
        return torch.einsum("bc,bchw->bhw", weights, upscaled).unflatten(0, (batch, classes))


def _attend_within_classes(
    attention: Any, pixel_queries: Tensor, keys: Tensor, values: Tensor
) -> Tensor:
    """Run SAM's `Attention` of pixels to the tokens of each class separately.

    Args:
        attention: The `Attention` of segment_anything.
        pixel_queries: `(B, N, D)`, already projected, the same for every class.
        keys: `(B, k, T, C)`.
        values: `(B, k, T, C)`.

    Returns:
        A tensor `(B, k, N, C)`.
    """
    heads, classes, length = attention.num_heads, keys.shape[1], keys.shape[2]
    q = pixel_queries.unflatten(-1, (heads, -1)).transpose(1, 2)
    k = attention.k_proj(keys).unflatten(-1, (heads, -1)).flatten(1, 2).transpose(1, 2)
    v = attention.v_proj(values).unflatten(-1, (heads, -1)).transpose(2, 3)
    scores = (q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])).unflatten(-1, (classes, length))
    shares = scores.softmax(dim=-1).permute(0, 3, 1, 2, 4)
    return attention.out_proj((shares @ v).transpose(2, 3).flatten(-2))
