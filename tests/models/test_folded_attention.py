"""Attention of few tokens without a projection of the pixels, compared with segment_anything's."""

from __future__ import annotations

import torch
from builders.numerics import assert_close_to_norm, assert_gradients_close, to_double
from builders.tiny_sam import randomise
from torch import Tensor

from samnet.models.folded_attention import attend_to_pixels, attend_to_tokens, scores_of_tokens
from samnet.models.sam_modules import TokenAttention


def make_attention() -> TokenAttention:
    return to_double(randomise(TokenAttention(32, 4, 2)))


def make_tokens(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


def assert_same(found: Tensor, expected: Tensor, sources: list[Tensor]) -> None:
    """Compare results, and their gradients by all that they are made of."""
    assert_close_to_norm(found, expected)
    weights = torch.randn_like(expected)
    assert_gradients_close(
        torch.autograd.grad((found * weights).sum(), sources),
        torch.autograd.grad((expected * weights).sum(), sources),
    )


def test_tokens_attend_to_pixels_as_in_segment_anything() -> None:
    attention, pixels, positions = make_attention(), make_tokens(2, 7, 32), make_tokens(7, 32)
    queries = make_tokens(2, 3, 32)
    found = attend_to_pixels(attention, queries, pixels, positions)
    expected = attention(q=queries, k=pixels + positions, v=pixels)
    assert_same(found, expected, [queries, pixels, positions, *attention.parameters()])


def test_pixels_attend_to_tokens_as_in_segment_anything() -> None:
    attention, pixels, positions = make_attention(), make_tokens(2, 7, 32), make_tokens(7, 32)
    keys, values = make_tokens(2, 3, 32), make_tokens(2, 3, 32)
    scores = scores_of_tokens(attention, pixels, positions, keys)
    found = attend_to_tokens(attention, scores[:, None], values[:, None])[:, 0]
    expected = attention(q=pixels + positions, k=keys, v=values)
    assert_same(found, expected, [pixels, positions, keys, values, *attention.parameters()])
