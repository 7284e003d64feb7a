"""Plain SAM with box prompts: the network before any adaptation, as a baseline."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from samnet.models.checkpoints import load_checkpoint, load_sam_weights
from samnet.models.encoder import InputStem, build_encoder
from samnet.models.heads.blocks import dense_positions
from samnet.models.heads.head import Head
from samnet.models.heads.mask_decoder import build_mask_decoder
from samnet.models.sam_modules import PromptEncoder
from samnet.plan.backbones import EMBEDDING_CHANNELS, PATCH, Backbone

STRIDE = 4
# One mask for an unambiguous prompt, and three for an ambiguous one, as SAM was trained.
_NUM_MASKS = 4


class PromptedDecoder(Head):
    """SAM's prompt encoder and mask decoder under their own names, so that its weights are found."""

    stride = STRIDE

    def __init__(self, grid: int, decoder_mlp: int) -> None:
        super().__init__()
        size = grid * PATCH
        self.prompt_encoder = PromptEncoder(
            embed_dim=EMBEDDING_CHANNELS,
            image_embedding_size=(grid, grid),
            input_image_size=(size, size),
            mask_in_chans=16,
        )
        self.mask_decoder = build_mask_decoder(_NUM_MASKS, decoder_mlp)


class BoxPromptedSam(nn.Module):
    """SAM (Kirillov et al. 2023, arXiv 2304.02643), asked for the object in each of some boxes.

    input_size: of the square input; SAM was trained at 1024.
    """

    def __init__(self, backbone: Backbone, input_size: int, weights: Path) -> None:
        super().__init__()
        self.grid = input_size // PATCH
        self.stem = InputStem(3, sam_statistics=True)
        self.encoder = build_encoder(backbone, input_size)
        self.decoder = PromptedDecoder(self.grid, backbone.decoder_mlp)
        load_sam_weights(self.encoder, self.decoder, load_checkpoint(weights), str(weights))
        self.eval()

    @torch.inference_mode()
    def forward(self, image: Tensor, boxes: Tensor) -> Tensor:
        """The logits `(N, S / 4, S / 4)` of the mask in each box; above 0 is inside.

        image: `(3, S, S)`, 0 to 1. boxes: `(N, 4)`: left, top, right, bottom in input pixels.
        """
        prompts, decoder = self.decoder.prompt_encoder, self.decoder.mask_decoder
        embedding = self.encoder(self.stem(image[None]))
        sparse, dense = prompts(points=None, boxes=boxes, masks=None)
        masks, _ = decoder(
            image_embeddings=embedding,
            image_pe=dense_positions(prompts.pe_layer, self.grid),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=False,
        )
        return masks[:, 0]
