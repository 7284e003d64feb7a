"""The network that is pre-trained: a small SAM, and the features of the upsampling head."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from samnet.models.checkpoints import resize_position_table
from samnet.models.encoder import InputStem, build_encoder
from samnet.models.heads.blocks import dense_positions
from samnet.models.heads.mask_decoder import decode_masks
from samnet.models.heads.upsampling import Upsampling
from samnet.models.prompted import PromptedDecoder
from samnet.plan.backbones import PATCH, WINDOW, Backbone

_LEVELS = 3
# Names of the parts in a file of weights; the first three are SAM's.
_PARTS = ("image_encoder", "prompt_encoder", "mask_decoder", "upsampling")


class PretrainingNetwork(nn.Module):
    """Encoder, prompt encoder, mask decoder and upsampling features for images of one size.

    Where the images are smaller than SAM's windows, all blocks attend to the whole image.

    Attributes:
        size: Edge of the square images in pixels.
        grid: Edge of the embedding in tokens.
        stem: Normalisation of the images.
        image_encoder: The encoder.
        prompt_encoder: SAM's encoder of points and boxes.
        mask_decoder: SAM's mask decoder.
        upsampling: Features of the upsampling head.
        log_scale: Logarithm of the factor on distances in `prototype_loss`.
    """

    def __init__(self, backbone: Backbone, size: int) -> None:
        """Build the network with random weights.

        Args:
            backbone: Dimensions of the encoder.
            size: Edge of the square images in pixels.
        """
        super().__init__()
        self.size, self.grid = size, size // PATCH
        if self.grid < WINDOW:
            backbone = replace(backbone, global_blocks=tuple(range(backbone.depth)))
        self.stem = InputStem(3, sam_statistics=True)
        self.image_encoder = build_encoder(backbone, size)
        decoder = PromptedDecoder(self.grid, backbone.decoder_mlp)
        self.prompt_encoder, self.mask_decoder = decoder.prompt_encoder, decoder.mask_decoder
        self.upsampling = Upsampling(_LEVELS)
        self.log_scale = nn.Parameter(torch.zeros(()))

    def embed(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Normalise and encode images.

        Args:
            images: Images `(B, 3, S, S)` from 0 to 1.

        Returns:
            Normalised images `(B, 3, S, S)`, and their embeddings `(B, 256, S / 16, S / 16)`.
        """
        images = self.stem(images)
        return images, self.image_encoder(images)

    def masks(self, embedding: Tensor, sparse: Tensor) -> tuple[Tensor, Tensor]:
        """Decode four masks for each of N prompts.

        Args:
            embedding: Embeddings `(N, 256, G, G)`, repeated for each prompt of an image.
            sparse: Encoded prompts `(N, T, 256)`.

        Returns:
            Logits of the masks `(N, 4, S / 4, S / 4)`, and the predicted IoU of each `(N, 4)`.
        """
        decoder = self.mask_decoder
        output_tokens = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight])
        tokens = torch.cat([output_tokens.expand(len(sparse), -1, -1), sparse], dim=1)
        source = embedding + self.prompt_encoder.no_mask_embed.weight[:, :, None, None]
        positions = dense_positions(self.prompt_encoder.pe_layer, self.grid)
        logits, iou_token = decode_masks(decoder, source, positions, tokens)
        return logits, decoder.iou_prediction_head(iou_token)

    def adapter(self) -> dict[str, Tensor]:
        """Return all weights by name, as they are saved to resume a training run."""
        return {name: value.detach() for name, value in self.state_dict().items()}

    def load_adapter(self, weights: dict[str, Tensor], where: str) -> None:
        """Load what `adapter` returned.

        The encoder's position tables are resized where they are for images of another size.

        Args:
            weights: All weights by name.
            where: Not used; other networks name the file in messages by it.
        """
        expected = self.state_dict()
        resized = {}
        for name, value in weights.items():
            table_name = name.removeprefix("image_encoder.")
            resized[name] = resize_position_table(table_name, value, expected[name].shape)
        self.load_state_dict(resized)

    def released(self) -> dict[str, Tensor]:
        """Return the weights by SAM's names in half precision, as they are published."""
        return {
            name: value.detach().half()
            for name, value in self.state_dict().items()
            if name.startswith(_PARTS)
        }
