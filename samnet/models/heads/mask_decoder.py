"""SAM's mask decoder with a token for each class and no prompt, as in SAMed (arXiv 2304.13785)."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor, nn

from samnet.models.channel_norm import fuse_norms
from samnet.models.heads.blocks import dense_positions
from samnet.models.heads.head import Head
from samnet.models.heads.upscaling import in_order, upscale_tokens
from samnet.models.linear_product import compact_linears, parallel_linear
from samnet.models.sam_modules import LayerNorm2d, MaskDecoder, PromptEncoder, TwoWayTransformer
from samnet.models.token_attention import fuse_attention
from samnet.models.token_mlp import use_rows
from samnet.plan.backbones import EMBEDDING_CHANNELS, PATCH, SAM_DECODER_MLP

_FULL_WIDTHS = (64, 32, 16, 8)  # channels after each enlargement up to the input's resolution


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
            Logits `(B, num_outputs, 16 G / stride, 16 G / stride)`.
        """
        decoder, count = self.mask_decoder, len(embedding)
        tokens = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
        source = embedding + self.prompt_encoder.no_mask_embed.weight[:, :, None, None]
        positions = dense_positions(self.prompt_encoder.pe_layer, self.grid)
        return decode_masks(decoder, source, positions, tokens.expand(count, -1, -1))[0]


class FullMaskDecoderHead(MaskDecoderHead):
    """SAM's mask decoder with two more enlargements, up to the input's resolution, as in MA-SAM.

    The first two convolutions and the norm between them start from SAM's, as does everything else
    that SAM's decoder has in the same shape. Of the hyper-networks these are all layers except the
    last, as there are fewer channels at this resolution.
    """

    stride = 1
    # The norm and the convolutions that come after SAM's second convolution.
    randomly_initialised = tuple(
        f"mask_decoder.output_upscaling.{number}." for number in (4, 6, 7, 9)
    )

    def __init__(self, num_outputs: int, grid: int, decoder_mlp: int = SAM_DECODER_MLP) -> None:
        """Build the head.

        Args:
            num_outputs: Number of classes with the background, or of regions.
            grid: Rows and columns of the embedding.
            decoder_mlp: Hidden width of the decoder's MLPs, see `Backbone`.
        """
        super().__init__(num_outputs, grid, decoder_mlp)
        decoder = self.mask_decoder
        decoder.output_upscaling = _upscaling_to_input()
        for network in decoder.output_hypernetworks_mlps:
            network.layers[-1] = nn.Linear(EMBEDDING_CHANNELS, _FULL_WIDTHS[-1])
        compact_linears(decoder.output_hypernetworks_mlps)
        fuse_norms(decoder)


def _upscaling_to_input() -> nn.Sequential:
    """Return MA-SAM's upscaling: SAM's two convolutions, and two more with a norm before each."""
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise((EMBEDDING_CHANNELS, *_FULL_WIDTHS)):
        layers.append(nn.ConvTranspose2d(before, after, kernel_size=2, stride=2))
        if after != _FULL_WIDTHS[-1]:
            layers.append(LayerNorm2d(after))
        layers.append(nn.GELU())
    return nn.Sequential(*layers)


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
        The logits `(B, K, 2^n G, 2^n G)` after n enlargements, of which SAM has 2, and the output
        for the token of the IoU, `(B, 256)`.
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
