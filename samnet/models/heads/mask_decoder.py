"""SAM's mask decoder with a token for each class and no prompt, as in SAMed (arXiv 2304.13785)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from samnet.models.channel_norm import fuse_norms
from samnet.models.heads.blocks import dense_positions
from samnet.models.heads.head import Head
from samnet.models.heads.upscaling import in_order, upscale_tokens
from samnet.models.linear_product import compact_linears, parallel_linear
from samnet.models.sam_modules import MaskDecoder, PromptEncoder, TwoWayTransformer
from samnet.models.token_attention import fuse_attention
from samnet.models.token_mlp import use_rows
from samnet.plan.backbones import EMBEDDING_CHANNELS, PATCH, SAM_DECODER_MLP


class MaskDecoderHead(Head):
    """SAM's mask decoder with one mask token for each output.

    The prompt encoder gives the positions of the embedding and the "no mask" vector that is added
    to it. Its other parts and the layers that estimate IoU exist, as in SAM's and SAMed's files,
    but are not used.

    SAM's decoder has four masks. As far as weights of the masks fit, they start from SAM's: the
    hyper-networks of the first four outputs, and the tokens where there are four outputs. SAMed's
    code leaves them out of what it loads, but only after torch has tried to load everything, which
    copies all that fits.

    Attributes:
        grid: Rows and columns of the embedding.
        prompt_encoder: SAM's prompt encoder.
        mask_decoder: SAM's mask decoder.
    """

    stride = 4
    holds_mask_decoder = True
    one_for_each_output = ("mask_tokens", "output_hypernetworks_mlps", "iou_prediction_head")

    def __init__(self, num_outputs: int, grid: int, decoder_mlp: int = SAM_DECODER_MLP) -> None:
        """Build the head.

        Args:
            num_outputs: Number of classes with the background, or of regions.
            grid: Rows and columns of the embedding.
            decoder_mlp: Hidden width of the decoder's MLPs, see `Backbone`.
        """
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
        """Return logits.

        Args:
            embedding: `(B, 256, G, G)`.
            image: Not used.

        Returns:
            Logits `(B, num_outputs, 4 G, 4 G)`.
        """
        decoder, count = self.mask_decoder, len(embedding)
        tokens = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
        source = embedding + self.prompt_encoder.no_mask_embed.weight[:, :, None, None]
        positions = dense_positions(self.prompt_encoder.pe_layer, self.grid)
        return decode_masks(decoder, source, positions, tokens.expand(count, -1, -1))[0]


def decode_masks(
    decoder: Any, source: Tensor, positions: Tensor, tokens: Tensor
) -> tuple[Tensor, Tensor]:
    """Compute the masks of SAM's mask decoder for images that each have separate tokens.

    Args:
        decoder: SAM's mask decoder with K masks.
        source: Embeddings `(B, 256, G, G)`.
        positions: Position encoding of the embeddings, `(1, 256, G, G)`.
        tokens: `(B, 1 + K + P, 256)`: the token of the IoU, those of the masks, and P prompts.

    Returns:
        The logits `(B, K, 4 G, 4 G)`, and the output for the token of the IoU, `(B, 256)`.
    """
    tokens_out, source_out = decoder.transformer(
        source, positions.expand(len(source), -1, -1, -1), tokens
    )
    upscaled = upscale_tokens(decoder.output_upscaling, source_out)
    num_masks = len(decoder.output_hypernetworks_mlps)
    weights = _mask_weights(decoder, tokens_out[:, 1 : 1 + num_masks])
    return in_order(weights @ upscaled.transpose(1, 2), source.shape[-1]), tokens_out[:, 0]


def _mask_weights(decoder: Any, tokens: Tensor) -> Tensor:
    """Return what the hyper-networks make of the tokens `(B, K, 256)` of their masks: `(B, K, C)`.

    They have one shape, so that each of their layers is computed for all masks at once.
    """
    networks = [mlp.layers for mlp in decoder.output_hypernetworks_mlps]
    features = tokens.transpose(0, 1)
    for number, layers in enumerate(zip(*networks, strict=True)):
        features = parallel_linear(features.relu() if number else features, layers)
    return features.transpose(0, 1)


def build_mask_decoder(num_masks: int, mlp_width: int = SAM_DECODER_MLP) -> MaskDecoder:
    """Build SAM's mask decoder in its released dimensions, randomly initialised.

    Attention and norms are fused, and linear layers have fewer operators; weights and results are
    SAM's.

    Args:
        num_masks: Number of masks; each has a token and a hyper-network.
        mlp_width: Hidden width of the MLPs, see `Backbone.decoder_mlp`.

    Returns:
        The decoder.
    """
    transformer = TwoWayTransformer(
        depth=2, embedding_dim=EMBEDDING_CHANNELS, mlp_dim=mlp_width, num_heads=8
    )
    fuse_attention(transformer)
    compact_linears(transformer)
    use_rows(transformer)
    decoder = MaskDecoder(
        transformer_dim=EMBEDDING_CHANNELS,
        transformer=transformer,
        num_multimask_outputs=num_masks - 1,
    )
    fuse_norms(decoder)
    return decoder
