"""A network for each view: built, stored and filled as one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from builders.tiny import VALUES, make_configuration, tiny_backbone
from torch import Tensor

from samnet.core.errors import UserError
from samnet.models.network import SegmentationNetwork
from samnet.models.transfer import transfer_weights
from samnet.models.view_networks import ViewNetworks, axis_of_step, build_networks

__all__ = ["tiny_backbone"]

OWN = {"views": (0, 2), "view_weights": "own"}
Build = Callable[..., ViewNetworks]


@pytest.fixture
def build() -> Build:
    def build_with(seed: int = 0, **changes: Any) -> ViewNetworks:
        torch.manual_seed(seed)
        networks = build_networks(make_configuration(**(OWN | changes)), 1, 3)
        assert isinstance(networks, ViewNetworks)
        return networks.eval()

    return build_with


@torch.no_grad()
def logits(networks: ViewNetworks, axis: int) -> Tensor:
    images = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    return networks.of_view(axis)(images)


def test_each_view_has_a_network_of_its_own(build: Build) -> None:
    networks = build()
    assert networks.of_view(0) is not networks.of_view(2)
    assert not torch.equal(logits(networks, 0), logits(networks, 2))
    assert networks.encoders == [networks.of_view(axis).encoder for axis in (0, 2)]
    assert networks.stride == networks.of_view(0).stride


def test_one_network_sees_all_views_unless_they_have_their_own() -> None:
    network = build_networks(make_configuration(views=(0, 2)), 1, 3)
    assert isinstance(network, SegmentationNetwork)
    assert network.of_view(0) is network.of_view(2) is network
    assert network.encoders == [network.encoder]


def test_the_adapter_of_all_views_brings_each_back(build: Build) -> None:
    networks, others = build(), build(seed=1)
    assert not torch.equal(logits(networks, 2), logits(others, 2))
    others.load_adapter(networks.adapter(), "adapter.file")
    for axis in (0, 2):
        assert torch.equal(logits(networks, axis), logits(others, axis))


def test_the_adapter_has_only_what_is_trained_of_each_view(build: Build) -> None:
    networks = build()
    names = set(networks.adapter())
    assert names == {
        f"by_view.{axis}.{name}" for axis in (0, 2) for name in networks.of_view(axis).adapter()
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda weights: weights.pop("by_view.2.head.classify.bias"), "view 2: .*bias is missing"),
        (lambda weights: weights.update({"by_view.1.x": torch.zeros(1)}), "by_view.1.x is unknown"),
        (lambda weights: weights.update({"head.x": torch.zeros(1)}), "head.x is unknown"),
    ],
    ids=["missing", "of another view", "of one network"],
)
def test_an_adapter_that_does_not_fit_is_refused(
    build: Build, change: Callable[[dict[str, Tensor]], object], message: str
) -> None:
    networks = build()
    weights = networks.adapter()
    change(weights)
    with pytest.raises(UserError, match=f"adapter.file.*{message}"):
        networks.load_adapter(weights, "adapter.file")


def test_a_model_that_sees_all_views_is_a_start_for_each(build: Build) -> None:
    torch.manual_seed(5)
    source = build_networks(make_configuration(), 1, 3).eval()
    assert isinstance(source, SegmentationNetwork)
    networks = build()
    transfer = transfer_weights(networks, source.adapter())
    assert (transfer.left_out, transfer.untouched) == ({}, [])
    with torch.no_grad():
        images = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
        expected = source(images)
    assert all(torch.equal(logits(networks, axis), expected) for axis in (0, 2))


def test_position_tables_of_each_view_are_resized(build: Build) -> None:
    source = build_networks(make_configuration(input_size=64), 1, 3)
    transfer = transfer_weights(build(), source.adapter())
    assert transfer.left_out == {}
    assert "by_view.2.encoder.pos_embed" in transfer.loaded


def test_a_model_with_a_network_for_each_view_starts_another_one(build: Build) -> None:
    networks, others = build(), build(seed=1)
    assert transfer_weights(others, networks.adapter()).left_out == {}
    assert torch.equal(logits(networks, 2), logits(others, 2))


def test_views_take_turns_in_the_steps() -> None:
    own = make_configuration(**OWN)
    assert [axis_of_step(own, step) for step in range(4)] == [0, 2, 0, 2]
    shared = make_configuration(views=VALUES["views"])
    assert axis_of_step(shared, 3) is None
