"""Adapters over neighbouring slices: what they leave unchanged, and how far a slice sees."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from builders.numerics import assert_close_to_norm
from builders.tiny import make_configuration, tiny_backbone
from torch import Tensor

from samnet.core.errors import UserError
from samnet.models.heads import HEADS
from samnet.models.lora import merge_lora
from samnet.models.network import SegmentationNetwork, build_network
from samnet.models.slice_adapter import SliceAdapter, num_neighbours, predict_stack

__all__ = ["tiny_backbone"]
ROUNDED = 1e-6


def build(seed: int = 0, **changes: Any) -> SegmentationNetwork:
    """Return a network of two blocks, by default with stacks of three slices in all blocks."""
    torch.manual_seed(seed)
    return build_network(
        make_configuration(**({"depth": 3, "depth_blocks": "all"} | changes)), 1, 3
    )


def with_effect(network: SegmentationNetwork) -> SegmentationNetwork:
    """Draw the weights that start at zero, and return the network in evaluation mode."""
    generator = torch.Generator().manual_seed(1)
    for weight in network.parameters():
        if not weight.any():
            torch.nn.init.normal_(weight, std=0.3, generator=generator)
    return network.eval()


def stacks(count: int = 2, depth: int = 3, size: int = 32) -> Tensor:
    return torch.rand(count, depth, 3, size, size, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize(
    ("head", "tuning"), [*((head, "lora") for head in HEADS), ("upsampling", "full")]
)
def test_network_starts_as_without_adapters(head: str, tuning: str) -> None:
    values = {"head": head, "encoder_tuning": tuning}
    plain, network = build(depth=1, **values).eval(), build(**values).eval()
    double = build(**values, depth_adapters=2).eval()
    assert [num_neighbours(one) for one in (plain, network, double)] == [0, 2, 4]
    images = stacks()
    logits = network(images)
    assert logits.shape[:3] == (2, 3, 3)
    expected = plain(images.flatten(0, 1))
    assert_close_to_norm(logits.flatten(0, 1), expected, ROUNDED)
    assert_close_to_norm(double(images).flatten(0, 1), expected, ROUNDED)


@pytest.mark.parametrize("depth", [1, 2, 3, 5])
def test_adapter_is_a_convolution_over_the_slices_with_its_edges_repeated(depth: int) -> None:
    """Torch's own convolution computes the same."""
    adapter = SliceAdapter(16).double()
    torch.nn.init.normal_(adapter.up.weight)
    tokens = torch.rand(2 * depth, 3, 4, 16, dtype=torch.double)
    narrow = adapter.down(adapter.norm(tokens)).unflatten(0, (2, depth)).permute(0, 4, 1, 2, 3)
    padded = torch.nn.functional.pad(narrow, (0, 0, 0, 0, 1, 1), mode="replicate")
    kernel = adapter.across.weight.unflatten(1, (3, 4)).permute(0, 2, 1)[..., None, None]
    mixed = torch.nn.functional.conv3d(padded, kernel, adapter.across.bias)
    learned = adapter.up(torch.nn.functional.gelu(mixed.permute(0, 2, 3, 4, 1)))
    expected = tokens + learned.flatten(0, 1)
    assert_close_to_norm(adapter(tokens, depth), expected, 1e-12)


@pytest.mark.parametrize("adapters", [1, 2])
def test_slices_see_as_many_neighbours_as_there_are_adapters_and_no_other_stack(
    adapters: int,
) -> None:
    network = with_effect(build(depth_adapters=adapters))
    images = stacks(count=2, depth=7)
    changed = images.clone()
    changed[0, 6] = 1 - changed[0, 6]
    difference = (network(changed) - network(images)).flatten(2).abs().amax(-1)
    first = 6 - 2 * adapters  # one for each adapter of the two blocks
    assert (difference[0, first:] > 0).all()
    assert (difference[0, :first] == 0).all()
    assert (difference[1] == 0).all()


@pytest.mark.parametrize("blocks", ["0", "last_half"])
def test_only_chosen_blocks_have_adapters(blocks: str) -> None:
    network = build(depth_blocks=blocks)
    assert list(network.encoder.slice_adapters) == ["0" if blocks == "0" else "1"]


def test_second_adapter_stands_between_attention_and_perceptron() -> None:
    """As in MA-SAM's code; the weights of blocks keep their names."""
    network = with_effect(build(depth_adapters=2, depth_blocks="1"))
    encoder: Any = network.encoder
    assert set(build(depth=1).state_dict()) < set(network.state_dict())
    assert list(encoder.inner_slice_adapters) == ["1"]
    images = stacks(count=1)[0]
    with torch.no_grad():
        tokens = encoder.blocks[0](encoder.tokens(images))
        block = encoder.blocks[1]
        tokens = encoder.slice_adapters["1"](tokens, 3)
        tokens = tokens + block.attn(block.norm1(tokens))
        tokens = encoder.inner_slice_adapters["1"](tokens, 3)
        tokens = tokens + block.mlp(block.norm2(tokens))
        assert_close_to_norm(encoder(images, 3), encoder.embedding(tokens), ROUNDED)


def test_block_that_does_not_exist_is_refused_by_the_name_of_the_key() -> None:
    with pytest.raises(UserError, match=r"depth_blocks is '0,7': '7' is no block"):
        build(depth_blocks="0,7")


@pytest.mark.parametrize("changes", [{"encoder_tuning": "lora"}, {"encoder_tuning": "full"}])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_adapters_learn_also_where_blocks_are_computed_again(
    changes: dict, checkpointing: bool
) -> None:
    changes = changes | {"depth_adapters": 2}
    plain = with_effect(build(**changes))
    network = with_effect(build(gradient_checkpointing=checkpointing, **changes)).train()
    for one in (plain, network):
        one(stacks()).square().mean().backward()
    expected = dict(plain.named_parameters())
    adapted = [name for name in expected if "slice_adapters" in name]
    assert len(adapted) == 2 * 2 * 7
    for name in adapted:
        found = network.get_parameter(name).grad
        assert found.any()
        assert_close_to_norm(found, expected[name].grad, ROUNDED)


@pytest.mark.parametrize("tuning", ["lora", "full"])
def test_adapters_are_stored_with_what_is_trained(tuning: str) -> None:
    values = {"encoder_tuning": tuning, "depth_adapters": 2}
    network = with_effect(build(**values))
    other = build(seed=3, **values).eval()
    network.trainable_only = other.trainable_only = True  # as with released weights
    other.load_state_dict(
        {k: v for k, v in network.state_dict().items() if "slice_adapters" not in k}, strict=False
    )
    weights = network.adapter()
    assert "encoder.slice_adapters.1.across.weight" in weights
    assert "encoder.inner_slice_adapters.1.across.weight" in weights
    other.load_adapter(weights, "a test")
    assert torch.equal(other(stacks()), network(stacks()))


def test_merging_lora_leaves_stacks_as_they_are() -> None:
    network = with_effect(build(encoder_tuning="lora", depth_adapters=2))
    before = network(stacks())
    merge_lora(network)
    assert_close_to_norm(network(stacks()), before, 1e-5)


@pytest.mark.parametrize(
    ("head", "adapters"),
    [("upsampling", 1), ("upsampling", 2), ("vit", 1), ("mask_decoder", 1)],
)
def test_stack_in_parts_is_the_stack_as_a_whole(head: str, adapters: int) -> None:
    network = with_effect(build(head=head, depth_adapters=adapters))
    images = stacks(count=1, depth=7)
    with torch.inference_mode():
        expected = network(images)[0, 2:7]
        found = predict_stack(network, images[0], 2, slice(2, 7))
    assert_close_to_norm(found, expected, ROUNDED)
