"""The perceptron on rows, compared with segment_anything's."""

from __future__ import annotations

import torch
from builders.numerics import assert_close_to_norm, assert_gradients_close
from builders.tiny_sam import randomise
from torch import nn
from torch_timing import count_operators

from samnet.models.lora import LoraLinear
from samnet.models.sam_modules import MLPBlock
from samnet.models.token_mlp import TokenMlp, use_rows


def test_outputs_and_gradients_are_those_of_segment_anything() -> None:
    original = randomise(MLPBlock(8, 12)).double()
    mlp, x = TokenMlp(original), torch.randn(2, 3, 4, 8, dtype=torch.float64, requires_grad=True)
    found, expected = mlp(x), original(x)
    assert_close_to_norm(found, expected)
    weights, trained = torch.randn_like(expected), [x, *original.parameters()]
    assert_gradients_close(
        torch.autograd.grad((found * weights).sum(), trained),
        torch.autograd.grad((expected * weights).sum(), trained),
    )


def test_perceptrons_are_replaced_under_their_names_and_take_fewer_operators_with_lora() -> None:
    module = nn.Sequential(MLPBlock(8, 12))
    module[0].lin1 = LoraLinear(module[0].lin1, rank=2)
    module[0].lin2 = LoraLinear(module[0].lin2, rank=2)
    names, x = list(module.state_dict()), torch.randn(2, 3, 4, 8, requires_grad=True)
    before = count_operators(lambda: module(x).sum().backward())
    use_rows(module)
    assert list(module.state_dict()) == names
    assert isinstance(module[0], TokenMlp)
    assert count_operators(lambda: module(x).sum().backward()) <= before - 4
