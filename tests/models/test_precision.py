"""The precision in which networks compute on a device."""

from __future__ import annotations

import pytest
import torch
from builders.numerics import relative_error
from builders.tiny import make_configuration, tiny_backbone
from torch import nn

from samnet.core.cpu_bfloat16 import VARIABLE
from samnet.models.network import build_network
from samnet.models.precision import autocast, cast_weights, used_precision, weights_cast

__all__ = ["tiny_backbone"]
CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("device", "capability", "planned", "used"),
    [
        ("cuda", (9, 0), "bfloat16", "bfloat16"),
        ("cuda:1", (8, 0), "bfloat16", "bfloat16"),
        ("cuda", (7, 5), "bfloat16", "float32"),
        ("cuda", (9, 0), "float32", "float32"),
        ("cpu", None, "bfloat16", "float32"),
        ("mps", None, "bfloat16", "float32"),
    ],
)
def test_bfloat16_is_used_on_devices_that_compute_in_it(
    device: str,
    capability: tuple[int, int] | None,
    planned: str,
    used: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Torch says this of every GPU.
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *_: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    assert used_precision(planned, torch.device(device)) == used


@pytest.mark.usefixtures("cpu_bfloat16")
def test_a_cpu_that_is_faster_in_bfloat16_computes_in_the_planned_precision() -> None:
    assert used_precision("bfloat16", CPU) == "bfloat16"
    assert used_precision("float32", CPU) == "float32"
    assert used_precision("bfloat16", torch.device("mps")) == "float32"
    layer, values = nn.Linear(2, 2), torch.zeros(1, 2)
    with autocast("bfloat16", CPU):
        assert layer(values).dtype == torch.bfloat16
    with autocast("float32", CPU):
        assert layer(values).dtype == torch.float32


def test_no_autocast_is_made_for_devices_that_compute_in_single_precision(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """torch 2.4 has no autocast for `mps`, as no version has one for `meta`."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: pytest.fail("an autocast was made"))
    for name in ("mps", "cpu", "meta"):
        with autocast("bfloat16", torch.device(name)):
            pass


def test_autocast_leaves_a_cpu_in_single_precision() -> None:
    with autocast("bfloat16", CPU):
        assert not torch.is_autocast_enabled("cpu")
        assert torch.nn.Linear(2, 2)(torch.zeros(1, 2)).dtype == torch.float32


@pytest.mark.usefixtures("cpu_bfloat16")
@pytest.mark.parametrize("head", ["upsampling", "mask_decoder", "vit", "cnn_slim", "linear"])
@torch.inference_mode()
def test_logits_in_bfloat16_are_close_also_with_weights_cast_before(head: str) -> None:
    torch.manual_seed(0)
    network = build_network(make_configuration(head=head, input_size=64), 1, 3).eval()
    images = torch.rand(2, 3, 64, 64)
    expected = network(images)
    with autocast("bfloat16", CPU):
        found = network(images)
        cast_weights(network, "bfloat16", CPU)
        with_cast_weights = network(images)
    # bfloat16 rounds to 1 / 256.
    assert 0 < relative_error(found, expected) < 0.03
    assert relative_error(with_cast_weights, found) < 0.005


@pytest.mark.usefixtures("cpu_bfloat16")
def test_weights_of_layers_are_cast_and_those_of_norms_and_positions_are_not() -> None:
    network = build_network(make_configuration(), 1, 3)
    cast_weights(network, "bfloat16", CPU)
    dtypes = {name: weight.dtype for name, weight in network.named_parameters()}
    assert dtypes["encoder.blocks.0.attn.qkv.weight"] == torch.bfloat16
    assert dtypes["encoder.blocks.0.norm1.weight"] == torch.float32
    assert dtypes["encoder.blocks.0.attn.rel_pos_h"] == torch.float32
    assert dtypes["encoder.pos_embed"] == torch.float32


@pytest.mark.parametrize(
    ("planned", "variable", "device"),
    [("float32", "1", "cpu"), ("bfloat16", "0", "cpu"), ("bfloat16", "1", "cuda")],
)
def test_weights_stay_where_a_device_does_not_need_them_cast(
    planned: str, variable: str, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, variable)
    layer = nn.Linear(2, 2)
    cast_weights(layer, planned, torch.device(device))
    assert layer.weight.dtype == torch.float32


@pytest.mark.usefixtures("cpu_bfloat16")
def test_weights_that_were_cast_for_a_while_are_the_same_as_before() -> None:
    layer, values = nn.Linear(3, 2), torch.rand(4, 3)
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    with autocast("bfloat16", CPU):
        expected = layer(values)

    def interrupted() -> None:
        with weights_cast(layer, "bfloat16", CPU):
            assert layer.weight.dtype == torch.bfloat16
            with autocast("bfloat16", CPU):
                assert torch.equal(layer(values), expected)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    for name, value in layer.state_dict().items():
        assert value.dtype == torch.float32
        assert torch.equal(value, before[name])
        assert value.stride() == before[name].stride()
