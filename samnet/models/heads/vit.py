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

from samnet.models.folded_attention import attend_to_pixels, attend_to_tokens, scores_of_tokens
from samnet.models.heads.blocks import dense_positions
from samnet.models.heads.head import Head
from samnet.models.heads.mask_decoder import build_mask_decoder
from samnet.models.heads.upscaling import in_order, upscale_tokens
from samnet.models.precision import as_in_products
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
        # Sums of tensors that lie in different orders, and their norms, take far longer.
        pixels = embedding.flatten(2).transpose(1, 2).contiguous()
        positions = dense_positions(self.prompt_encoder["pe_layer"], self.grid)
        positions = positions.flatten(2)[0].T.to(pixels.dtype)
        queries = self._attend_to_image(tokens, pixels, pixels + positions)
        scores = self._first_scores(queries + tokens, pixels, positions)
        # From here on classes do not depend on each other. All classes at once would need the
        # memory of one image for each class.
        at_once = max(1, _MAPS_AT_ONCE // len(embedding))
        parts = zip(
            queries.split(at_once, dim=1),
            tokens.split(at_once),
            scores.split(at_once, dim=1),
            strict=True,
        )
        logits = [
            self._masks(part, part_tokens, pixels, part_scores, positions)
            for part, part_tokens, part_scores in parts
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

    def _first_scores(self, tokens: Tensor, pixels: Tensor, positions: Tensor) -> Tensor:
        """Return how much pixels `(B, N, C)` look at tokens `(B, K, T, C)` in the first layer.

        The projected pixels are the same for all classes, so here they are the smaller way. Returns
        `(B, K, T, H, N)`.
        """
        attention = self._first_layer.cross_attn_image_to_token
        heads = attention.num_heads
        query = attention.q_proj(pixels + positions).unflatten(-1, (heads, -1)).permute(0, 2, 3, 1)
        key = attention.k_proj(tokens.flatten(1, 2)).unflatten(-1, (heads, -1)).transpose(1, 2)
        scores = key @ query / math.sqrt(key.shape[-1])
        return scores.unflatten(2, tokens.shape[1:3]).permute(0, 2, 3, 1, 4)

    def _masks(
        self, queries: Tensor, tokens: Tensor, pixels: Tensor, scores: Tensor, positions: Tensor
    ) -> Tensor:
        """Run the rest of the decoder for k classes, with a copy of the image for each class.

        Args:
            queries: `(B, k, T, C)`.
            tokens: `(k, T, C)`.
            pixels: `(B, N, C)`.
            scores: `(B, k, T, H, N)`, of the first layer's attention to tokens.
            positions: `(N, C)`.

        Returns:
            Logits `(B, k, 4 G, 4 G)`.
        """
        decoder, first = self.mask_decoder, self._first_layer
        transformer, batch = decoder.transformer, len(queries)
        update = attend_to_tokens(first.cross_attn_image_to_token, scores, queries)
        keys = first.norm4(pixels[:, None] + update).flatten(0, 1)
        queries = queries.flatten(0, 1)
        tokens = tokens.expand(batch, -1, -1, -1).flatten(0, 1)
        for layer in transformer.layers[1:]:
            queries, keys = _run_layer(layer, queries, keys, tokens, positions)
        products = as_in_products(keys)
        seen = attend_to_pixels(
            transformer.final_attn_token_to_image, queries + tokens, products, positions
        )
        queries = transformer.norm_final_attn(queries + seen)
        upscaled = upscale_tokens(decoder.output_upscaling, products)
        weights = decoder.output_hypernetworks_mlps[0](queries[:, 1])
        logits = weights[:, None] @ upscaled.transpose(1, 2)
        return in_order(logits[:, 0].unflatten(0, (batch, -1)), self.grid)


def _run_layer(
    layer: Any, queries: Tensor, keys: Tensor, tokens: Tensor, positions: Tensor
) -> tuple[Tensor, Tensor]:
    """Run a layer of SAM's transformer after the first.

    Args:
        layer: The `TwoWayAttentionBlock` of segment_anything.
        queries: `(P, T, C)`.
        keys: `(P, N, C)`.
        tokens: What is added to queries, `(P, T, C)`.
        positions: What is added to keys, `(N, C)`.

    Returns:
        The new queries and keys.
    """
    placed = queries + tokens
    queries = layer.norm1(queries + layer.self_attn(q=placed, k=placed, v=queries))
    products = as_in_products(keys)
    seen = attend_to_pixels(layer.cross_attn_token_to_image, queries + tokens, products, positions)
    queries = layer.norm2(queries + seen)
    queries = layer.norm3(queries + layer.mlp(queries))
    attention = layer.cross_attn_image_to_token
    scores = scores_of_tokens(attention, products, positions, queries + tokens)
    update = attend_to_tokens(attention, scores[:, None], queries[:, None])[:, 0]
    return queries, layer.norm4(keys + update)
