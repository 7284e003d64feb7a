"""Adapters through which the encoder of SAM sees neighbouring slices (MA-SAM, arXiv 2309.08842).

An adapter before a block adds to the tokens what it makes of the same place in the slice itself and
in the slices next to it: norm, narrow linear layer, convolution over three slices, GELU, linear
layer back. The last layer starts at zero, so that the network starts as it is without adapters. As
in MA-SAM, a block can have a second adapter, between its attention and its perceptron.

In MA-SAM's code, the convolution sees zeros beyond the ends of a stack, the narrow layers have 384
channels for each width, and the last layers start from random values and have no biases.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from samnet.models.lora import select_blocks

_NARROWING = 4  # channels of a token for each channel between the slices
REACH = 1  # slices on either side that one adapter sees


class SliceAdapter(nn.Module):
    """Adds to the tokens of slices what they learn from the slices next to them.

    Attributes:
        norm: Norm over the channels.
        down: To fewer channels.
        across: The convolution over the slice before, the slice itself and the slice after it, as a
            linear layer of the channels of all three.
        up: Back to the channels of a token; starts at zero.
    """

    def __init__(self, width: int) -> None:
        """Build an adapter that changes nothing yet.

        Args:
            width: Channels of a token.
        """
        super().__init__()
        narrow = width // _NARROWING
        self.norm = nn.LayerNorm(width)
        self.down = nn.Linear(width, narrow, bias=False)
        self.across = nn.Linear(3 * narrow, narrow)
        self.up = nn.Linear(narrow, width)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, tokens: Tensor, num_slices: int) -> Tensor:
        """Return the tokens with what was learned from neighbouring slices.

        Args:
            tokens: `(B * num_slices, h, w, width)`, the slices of a stack one after the other. The
                slices at the ends of a stack are their own neighbours there.
            num_slices: Slices of each stack, any number.

        Returns:
            Tokens of the same shape.
        """
        slices = self.down(self.norm(tokens)).unflatten(0, (-1, num_slices))
        before = torch.cat([slices[:, :1], slices[:, :-1]], dim=1)
        after = torch.cat([slices[:, 1:], slices[:, -1:]], dim=1)
        mixed = self.across(torch.cat([before, slices, after], dim=-1))
        return tokens + self.up(nn.functional.gelu(mixed)).flatten(0, 1)


def add_slice_adapters(encoder: Any, blocks: str, for_each: int = 1) -> None:
    """Put adapters before and in some blocks of an encoder, in place.

    Args:
        encoder: An `ImageEncoder`.
        blocks: The blocks, see `select_blocks`.
        for_each: Adapters of each block: 1 before it, 2 also between its attention and its
            perceptron.

    Raises:
        UserError: The encoder has no such blocks.
    """
    chosen = select_blocks(encoder, blocks, "depth_blocks")
    width = encoder.pos_embed.shape[-1]
    numbers = [number for number, block in enumerate(encoder.blocks) if _is_one_of(block, chosen)]
    for number in numbers:
        encoder.slice_adapters[str(number)] = SliceAdapter(width)
    if for_each > 1:
        for number in numbers:
            encoder.divide_block(number, SliceAdapter(width))


def _is_one_of(block: Any, chosen: list[Any]) -> bool:
    return any(block is one for one in chosen)


def num_neighbours(network: Any) -> int:
    """Return how many slices on either side of a slice can change its logits.

    Args:
        network: A `SegmentationNetwork`.

    Returns:
        The number; each adapter adds one.
    """
    return REACH * sum(isinstance(layer, SliceAdapter) for layer in network.encoder.layers())


def predict_stack(network: Any, images: Tensor, part: int, kept: slice) -> Tensor:
    """Predict slices of one stack of any length, with few of them in a block at a time.

    The blocks see `part` slices at once. Adapters see all of them, but few rows of tokens at once.
    So every slice is encoded once, and memory holds the tokens of the whole stack, but the inner
    results of few slices. What a layer makes of some tokens takes their place, as no other part
    needs them any more; so there is no gradient.

    Args:
        network: A `SegmentationNetwork` in evaluation mode.
        images: `(N, C, S, S)`, values from 0 to 1, of consecutive slices.
        part: Slices that the encoder's blocks and the head are given at once.
        kept: The slices whose logits are wanted.

    Returns:
        Logits of these slices `(n, num_outputs, S / stride, S / stride)`.
    """
    encoder = network.encoder
    tokens = torch.empty(0)
    for start in range(0, len(images), part):
        some = encoder.tokens(network.stem(images[start : start + part]))
        if start == 0:
            tokens = some.new_empty(len(images), *some.shape[1:])
        tokens[start : start + part] = some
    num_rows = max(1, part * tokens.shape[1] // len(images))
    for layer in encoder.layers():
        if isinstance(layer, SliceAdapter):
            for rows in tokens.split(num_rows, dim=1):
                rows.copy_(layer(rows, len(images)))
        else:
            for some in tokens.split(part):
                some.copy_(layer(some))
    logits = []
    for some, seen in zip(tokens[kept].split(part), images[kept].split(part), strict=True):
        logits.append(network.decode(encoder.embedding(some), seen))
    return torch.cat(logits)
