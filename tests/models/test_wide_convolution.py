"""Convolutions of many channels: the results and gradients of torch's."""

from __future__ import annotations

import pytest
import torch
from builders.numerics import relative_error
from torch import Tensor, nn

from samnet.models.wide_convolution import WideConvolution

# Of bfloat16: the gradients are sums of products in another order, rounded once.
CLOSE = 2**-8


def results(layer: nn.Module, images: Tensor, *, half: bool) -> list[Tensor]:
    """The output, and the gradients of weights, bias and, where they need one, images."""
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        output = layer(images)
    ramp = torch.linspace(-1, 1, output.numel()).view(output.shape)
    trained = [*layer.parameters(), *([images] if images.requires_grad else [])]
    return [output, *torch.autograd.grad((output.float() * ramp).sum(), trained)]


@pytest.mark.parametrize("half", [True, False], ids=["bfloat16", "float32"])
@pytest.mark.parametrize("outputs", [8, 24])
def test_a_wide_convolution_has_the_results_and_gradients_of_a_convolution(
    outputs: int, half: bool
) -> None:
    torch.manual_seed(0)
    wide, plain = WideConvolution(1024, outputs), nn.Conv2d(1024, outputs, 3, padding=1)
    plain.load_state_dict(wide.state_dict())
    images = torch.randn(2, 1024, 5, 7, requires_grad=True)
    found, expected = results(wide, images, half=half), results(plain, images, half=half)
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype
        assert relative_error(one, other) <= (CLOSE if half else 0)


def test_in_bfloat16_no_kernel_of_convolutions_makes_the_gradient_of_the_weights() -> None:
    calls = {}
    for half in (True, False):
        layer, images = WideConvolution(1024, 8), torch.randn(1, 1024, 4, 4)
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
            results(layer, images, half=half)
        names = [event.key for event in profile.key_averages()]
        calls[half] = "aten::convolution_backward" in names
    assert calls == {True: False, False: True}


def test_nothing_is_kept_for_gradients_that_nobody_needs() -> None:
    layer, images = WideConvolution(1024, 8).requires_grad_(False), torch.randn(1, 1024, 4, 4)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(images).grad_fn is None
