"""The norm over channels, compared with segment_anything's."""

from __future__ import annotations

import pytest
import torch
from builders.numerics import assert_close_to_norm, assert_gradients_close, relative_error
from builders.tiny_sam import randomise
from torch import nn
from torch_timing import count_operators

from samnet.models.channel_norm import ChannelNorm, fuse_norms
from samnet.models.sam_modules import LayerNorm2d


def make_pair() -> tuple[nn.Module, nn.Module]:
    original = randomise(LayerNorm2d(6))
    return ChannelNorm(original), original


@pytest.mark.parametrize("is_channels_last", [False, True])
def test_outputs_and_gradients_are_those_of_segment_anything(is_channels_last: bool) -> None:
    norm, original = (module.double() for module in make_pair())
    x = torch.randn(2, 6, 3, 5, dtype=torch.float64)
    if is_channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    x.requires_grad_()
    found, expected = norm(x), original(x)
    assert_close_to_norm(found, expected)
    weights, trained = torch.randn_like(expected), [x, *original.parameters()]
    assert_gradients_close(
        torch.autograd.grad((found * weights).sum(), trained),
        torch.autograd.grad((expected * weights).sum(), trained),
    )


def test_half_precision_gives_the_type_of_segment_anything_without_its_rounding() -> None:
    norm, original = make_pair()
    x = torch.randn(2, 6, 3, 5).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        found, shipped = norm(x), original(x)
    assert found.dtype == shipped.dtype == torch.float32
    exact = original(x.float())
    assert relative_error(found, exact) < 1e-5 < relative_error(shipped, exact)


def test_norms_are_replaced_under_their_names_and_take_few_operators() -> None:
    module = nn.Sequential(nn.Conv2d(3, 6, 1), LayerNorm2d(6), nn.Sequential(LayerNorm2d(6)))
    names, x = list(module.state_dict()), torch.randn(2, 3, 4, 4)
    before = count_operators(lambda: module(x).sum().backward())
    fuse_norms(module)
    assert list(module.state_dict()) == names
    assert isinstance(module[1], ChannelNorm)
    assert isinstance(module[2][0], ChannelNorm)
    assert count_operators(lambda: module(x).sum().backward()) < before / 2
