"""What all heads have in common."""

from __future__ import annotations

from torch import nn


class Head(nn.Module):
    """Turns an embedding and the network's input image into logits.

    `forward(embedding, image)` takes the embedding `(B, 256, G, G)` and the image
    `(B, 3, 16 G, 16 G)`. It returns logits `(B, num_outputs, 16 G / stride, 16 G / stride)`, of the
    classes with the background first, or of the regions.

    Parts with the names of released weights (SAM's `prompt_encoder` and `mask_decoder`;
    `upsampling`) are filled from those. Weights that the output does not depend on are frozen, so
    that neither the optimiser nor the adapter holds them.

    Attributes:
        stride: Input pixels for each output pixel.
        holds_mask_decoder: Whether the head is built of SAM's mask decoder; then it takes an
            argument `decoder_mlp`, see `Backbone`.
        uses_image: Whether the output depends on the image in addition to its embedding.
        randomly_initialised: Parts of names of weights that are never filled from released ones.
        one_for_each_output: Parts of names of weights of which each output has one. They are filled
            as far as released ones have the same name and shape.
    """

    stride: int
    holds_mask_decoder: bool = False
    uses_image: bool = False
    randomly_initialised: tuple[str, ...] = ()
    one_for_each_output: tuple[str, ...] = ()
