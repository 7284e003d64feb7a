"""Plain SAM with box prompts: the network before any adaptation, as a baseline."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from samnet.models.checkpoints import load_checkpoint, load_sam_weights
from samnet.models.encoder import InputStem, build_encoder
from samnet.models.heads.blocks import dense_positions
from samnet.models.heads.head import Head
from samnet.models.heads.mask_decoder import build_mask_decoder
from samnet.models.sam_modules import PromptEncoder
from samnet.plan.backbones import EMBEDDING_CHANNELS, PATCH, Backbone

STRIDE = 4
# One mask for an unambiguous prompt and three for an ambiguous one, as SAM was trained.
_NUM_MASKS = 4


class PromptedDecoder(Head):
    """SAM's prompt encoder and mask decoder under the names of SAM's weights.

    Attributes:
        prompt_encoder: Turns boxes into tokens.
        mask_decoder: Turns the embedding and the tokens into masks.
    """

    stride = STRIDE

    def __init__(self, grid: int, decoder_mlp: int) -> None:
        """Build both parts, randomly initialised.

        Args:
            grid: Rows and columns of the embedding.
            decoder_mlp: Hidden width of the decoder's MLPs, see `Backbone`.
        """
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
    """SAM (Kirillov et al. 2023, arXiv 2304.02643), which segments the object in each given box.

    Attributes:
        grid: Rows and columns of the embedding.
        stem: Normalises the image.
        encoder: SAM's image encoder.
        decoder: SAM's prompt encoder and mask decoder.
    """

    def __init__(self, backbone: Backbone, input_size: int, weights: Path) -> None:
        """Build the network and read its weights.

        Args:
            backbone: Dimensions of the encoder.
            input_size: Edge of the square input in pixels; SAM was trained at 1024.
            weights: File of SAM's weights.

        Raises:
            UserError: The file cannot be read, or is of another backbone.
        """
        super().__init__()
        self.grid = input_size // PATCH
        self.stem = InputStem(3, sam_statistics=True)
        self.encoder = build_encoder(backbone, input_size)
        self.decoder = PromptedDecoder(self.grid, backbone.decoder_mlp)
        load_sam_weights(self.encoder, self.decoder, load_checkpoint(weights), str(weights))
        self.eval()

    @torch.inference_mode()
    def forward(self, image: Tensor, boxes: Tensor) -> Tensor:
        """Segment the object in each box of an image.

        As in SAM's training, an image that does not fill the input is padded on the right and
        below, with zeros that are not normalised.

        Args:
            image: `(3, H, W)`, values from 0 to 1; H and W are at most the edge S of the input.
            boxes: `(N, 4)`: left, top, right and bottom in pixels of the input.

        Returns:
            The logits `(N, S / 4, S / 4)` of the masks; above 0 is inside the object.
        """
        prompts, decoder = self.decoder.prompt_encoder, self.decoder.mask_decoder
        size = self.grid * PATCH
        right, below = size - image.shape[2], size - image.shape[1]
        embedding = self.encoder(functional.pad(self.stem(image[None]), (0, right, 0, below)))
        sparse, dense = prompts(points=None, boxes=boxes, masks=None)
        masks, _ = decoder(
            image_embeddings=embedding,
            image_pe=dense_positions(prompts.pe_layer, self.grid),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=False,
        )
        return masks[:, 0]
