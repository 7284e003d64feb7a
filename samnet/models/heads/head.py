"""What every head has in common."""

from __future__ import annotations

from torch import nn


class Head(nn.Module):
    """From an embedding `(B, 256, G, G)` and the network's input image `(B, 3, 16 G, 16 G)` to logits.

    `forward(embedding, image)` returns `(B, num_outputs, 16 G / stride, 16 G / stride)`, of classes, background first,
    or of regions. Parts with the names of released weights (SAM's `prompt_encoder` and `mask_decoder`; `upsampling`)
    take those over. What the output does not depend on is frozen, so that neither optimiser nor adapter deals with it.

    stride: input pixels for each output pixel. uses_image: whether the output depends on the image beside its
    embedding. starts_anew: parts of the name that never take over released weights. holds_mask_decoder: whether it is
    built of SAM's mask decoder, whose `decoder_mlp` (see `Backbone`) it is then given.
    """

    stride: int
    holds_mask_decoder: bool = False
    uses_image: bool = False
    starts_anew: tuple[str, ...] = ()
