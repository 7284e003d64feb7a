"""The attention of the mask decoder, compared with segment_anything's."""

from __future__ import annotations

import copy

import pytest
import torch
from builders.numerics import assert_gradients_close, relative_error, to_double
from builders.tiny_sam import randomise

from samnet.models.sam_modules import TokenAttention, TwoWayTransformer
from samnet.models.token_attention import FusedTokenAttention, fuse_attention


@pytest.mark.parametrize("downsample_rate", [1, 2])
def test_outputs_and_gradients_are_those_of_segment_anything(downsample_rate: int) -> None:
    original = to_double(randomise(TokenAttention(32, 4, downsample_rate)))
    fused = FusedTokenAttention(original)
    shapes = [(2, 3, 32), (2, 7, 32), (2, 7, 32)]
    tokens = [torch.randn(*shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    trained = [*tokens, *original.parameters()]
    expected, found = original(*tokens), fused(*tokens)
    assert relative_error(found, expected) < 1e-10
    weights = torch.randn_like(expected)
    assert_gradients_close(
        torch.autograd.grad((found * weights).sum(), trained),
        torch.autograd.grad((expected * weights).sum(), trained),
    )


def test_all_attentions_of_a_transformer_are_replaced_under_their_names() -> None:
    transformer = to_double(randomise(TwoWayTransformer(2, 32, 4, 48)))
    original = copy.deepcopy(transformer)
    fuse_attention(transformer)
    attentions = [part for part in transformer.modules() if isinstance(part, TokenAttention)]
    assert len(attentions) == 7
    assert all(isinstance(part, FusedTokenAttention) for part in attentions)
    assert transformer.state_dict().keys() == original.state_dict().keys()
    image, tokens = torch.randn(2, 32, 4, 4).double(), torch.randn(2, 3, 32).double()
    for found, expected in zip(
        transformer(image, image, tokens), original(image, image, tokens), strict=True
    ):
        assert relative_error(found, expected) < 1e-10
