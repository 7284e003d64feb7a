"""The network that is pre-trained: SAM in small, and the features of the upsampling head beside its decoder."""

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
# What each part is called in a file of weights; the first three are SAM's names.
_PARTS = ("image_encoder", "prompt_encoder", "mask_decoder", "upsampling")


class PretrainingNetwork(nn.Module):
    """size: of the square images. Where they are smaller than SAM's windows, all blocks attend to the whole image."""

    def __init__(self, backbone: Backbone, size: int) -> None:
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
        """Normalised images `(B, 3, S, S)` and their embeddings `(B, 256, S / 16, S / 16)`."""
        images = self.stem(images)
        return images, self.image_encoder(images)

    def masks(self, embedding: Tensor, sparse: Tensor) -> tuple[Tensor, Tensor]:
        """Four answers to each prompt, `(N, 4, S / 4, S / 4)`, and the IoU expected of each, `(N, 4)`.

        embedding: `(N, 256, G, G)`, repeated for each prompt of an image. sparse: `(N, T, 256)`, encoded prompts.
        """
        decoder = self.mask_decoder
        own = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight]).expand(
            len(sparse), -1, -1
        )
        source = embedding + self.prompt_encoder.no_mask_embed.weight[:, :, None, None]
        positions = dense_positions(self.prompt_encoder.pe_layer, self.grid)
        logits, iou_token = decode_masks(
            decoder, source, positions, torch.cat([own, sparse], dim=1)
        )
        return logits, decoder.iou_prediction_head(iou_token)

    def adapter(self) -> dict[str, Tensor]:
        """Everything, as it is kept for going on."""
        return {name: value.detach() for name, value in self.state_dict().items()}

    def load_adapter(self, weights: dict[str, Tensor], where: str) -> None:
        """Take over an `adapter()`; the encoder's position tables are resized where it was of other images."""
        own = self.state_dict()
        self.load_state_dict(
            {
                name: resize_position_table(
                    name.removeprefix("image_encoder."), value, own[name].shape
                )
                for name, value in weights.items()
            }
        )

    def released(self) -> dict[str, Tensor]:
        """The weights as others load them: SAM's names, in half precision."""
        return {
            name: value.detach().half()
            for name, value in self.state_dict().items()
            if name.startswith(_PARTS)
        }
