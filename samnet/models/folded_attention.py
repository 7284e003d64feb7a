"""SAM's attention between many pixels and few tokens, without a projection of the pixels.

With T tokens and H heads there are H T scores for each pixel. The projection of a pixel to D
channels is a part of both its scores and its sum, and both are linear in it. So the projection can
be applied to the tokens instead: `q . (W x) = (W' q) . x`. Where H T is less than D, this takes
fewer operations and less memory, and the numbers are the same up to rounding. Tokens are
`(P, k, T, C)`: P sets of N pixels, and k groups of tokens that look at each of them separately.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor


def attend_to_pixels(
    attention: Any, queries: Tensor, pixels: Tensor, key_positions: Tensor
) -> Tensor:
    """Run an `Attention` of tokens to pixels.

    Args:
        attention: The `Attention` of segment_anything.
        queries: What queries are made of, `(P, T, C)`.
        pixels: What values are made of, and keys together with positions, `(P, N, C)`.
        key_positions: The positions `(N, C)` of the pixels.

    Returns:
        A tensor `(P, T, C)`.
    """
    heads, length = attention.num_heads, queries.shape[1]
    query = attention.q_proj(queries).unflatten(-1, (heads, -1))
    scores = _scores(query, attention.k_proj, pixels, key_positions)
    seen = scores.softmax(dim=-1) @ pixels
    values = torch.einsum(
        "pthc,hdc->pthd", seen.unflatten(1, (length, heads)), _by_head(attention.v_proj, heads)
    )
    # The shares of each query add up to 1, so the bias of the values is added once.
    return attention.out_proj(values.flatten(2) + attention.v_proj.bias.to(values.dtype))


def scores_of_tokens(attention: Any, pixels: Tensor, positions: Tensor, keys: Tensor) -> Tensor:
    """Return how much each pixel looks at each token, before the softmax.

    Args:
        attention: The `Attention` of segment_anything, of pixels to tokens.
        pixels: What queries are made of, together with positions, `(P, N, C)`.
        positions: The positions `(N, C)` of the pixels.
        keys: What keys are made of, `(P, T, C)`.

    Returns:
        Scores `(P, T, H, N)`.
    """
    heads, length = attention.num_heads, keys.shape[1]
    key = attention.k_proj(keys).unflatten(-1, (heads, -1))
    scores = _scores(key, attention.q_proj, pixels, positions)
    return scores.unflatten(1, (length, heads))


def attend_to_tokens(attention: Any, scores: Tensor, values: Tensor) -> Tensor:
    """Run the rest of an `Attention` of pixels to tokens.

    Args:
        attention: The `Attention` of segment_anything.
        scores: `(P, k, T, H, N)`, of the tokens of each of k groups.
        values: What values are made of, `(P, k, T, C)`.

    Returns:
        A tensor `(P, k, N, C)`.
    """
    heads = attention.num_heads
    # Over the tokens: they are not the last dimension, so that the softmax runs along pixels.
    shares = scores.softmax(dim=2).flatten(2, 3)
    value = attention.v_proj(values).unflatten(-1, (heads, -1))
    output = attention.out_proj.weight.unflatten(1, (heads, -1))
    made = torch.einsum("pkthd,chd->pkthc", value, output).flatten(2, 3)
    return shares.transpose(-1, -2) @ made + attention.out_proj.bias.to(made.dtype)


def _scores(tokens: Tensor, projection: Any, pixels: Tensor, positions: Tensor) -> Tensor:
    """Multiply tokens `(P, T, H, d)` by the projection of pixels at their positions.

    Returns `(P, T H, N)`.
    """
    heads, scale = tokens.shape[2], 1 / math.sqrt(tokens.shape[3])
    tokens = tokens * scale
    folded = torch.einsum("pthd,hdc->pthc", tokens, _by_head(projection, heads)).flatten(1, 2)
    bias = projection.bias.unflatten(0, (heads, -1)).to(tokens.dtype)
    # Of each score the part that does not depend on the image: it is the same for all images with
    # the same tokens, and takes no copy of the pixels with their positions.
    fixed = folded @ positions.T + (tokens * bias).sum(-1).flatten(1)[..., None]
    return torch.baddbmm(fixed, folded, pixels.transpose(1, 2))


def _by_head(projection: Any, heads: int) -> Tensor:
    """Return the weight of a projection as `(H, d, C)`."""
    return projection.weight.unflatten(0, (heads, -1))
