from __future__ import annotations

import numpy as np
import pytest
import torch
from builders.tiny_sam import TINY, randomise, sam_encoder

from samnet.models.checkpoints import resize_position_table
from samnet.models.encoder import InputStem, build_encoder
from samnet.models.lora import add_lora
from samnet.plan.backbones import BACKBONES, Backbone

NARROW = Backbone("narrow", 32, 3, 2, (2,), 96)


@pytest.mark.parametrize("size", [224, 448, 512, 1024])
def test_it_computes_what_sam_computes(size: int) -> None:
    encoder, original = build_encoder(NARROW, size), randomise(sam_encoder(NARROW, size))
    encoder.load_state_dict(original.state_dict())
    images = torch.randn(2 if size < 512 else 1, 3, size, size)
    with torch.inference_mode():
        embedding = encoder(images)
        assert embedding.shape == (len(images), 256, size // 16, size // 16)
        expected = original(images)
        assert float((embedding - expected).abs().max()) <= 1e-5 * float(expected.abs().max())


@pytest.mark.parametrize("name", ["vit_b", "vit_l", "vit_h"])
def test_backbones_have_sams_weights(name: str) -> None:
    backbone = BACKBONES[name]
    with torch.device("meta"):
        encoder, original = build_encoder(backbone, 1024), sam_encoder(backbone, 1024)
    assert {key: value.shape for key, value in encoder.state_dict().items()} == {
        key: value.shape for key, value in original.state_dict().items()
    }


def test_checkpointing_changes_memory_only() -> None:
    plain, thrifty = build_encoder(TINY, 64), build_encoder(TINY, 64, gradient_checkpointing=True)
    thrifty.load_state_dict(randomise(plain).state_dict())
    images = torch.randn(1, 3, 64, 64)
    saved = {}
    for encoder in (plain, thrifty):
        encoder.neck = torch.nn.Identity()  # it would take most of so small an encoder's memory
        kept: list[int] = []

        def count(tensor: torch.Tensor, kept: list[int] = kept) -> torch.Tensor:
            kept.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            embedding = encoder(images)
        embedding.square().mean().backward()
        saved[encoder] = sum(kept)
    assert saved[thrifty] < 0.7 * saved[plain]
    for expected, weight in zip(plain.parameters(), thrifty.parameters(), strict=True):
        assert expected.grad is not None
        assert weight.grad is not None
        assert torch.allclose(weight.grad, expected.grad, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_blocks_before_the_first_adapted_one_keep_nothing(checkpointing: bool) -> None:
    """LoRA in late blocks alone: what comes before runs without a graph."""
    encoder = build_encoder(NARROW, 64, gradient_checkpointing=checkpointing)
    add_lora(encoder, rank=2, targets=("q", "v"), blocks="2")
    kept = 0

    def count(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal kept
        kept += 1
        return tensor

    grown = []
    for block in encoder.blocks:
        block.register_forward_hook(lambda *_: grown.append(kept))
    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        encoder(torch.randn(1, 3, 64, 64)).sum().backward()
    assert grown[:2] == [0, 0]
    assert kept > 0


def linear_positions(count: int, total: int) -> list[tuple[int, int, float]]:
    """For each of `count` new cells, two of the `total` old ones and the share of the second: centres at i + 0.5."""
    centres = [(index + 0.5) * total / count - 0.5 for index in range(count)]
    centres = [max(centre, 0.0) for centre in centres]
    return [(int(c), min(int(c) + 1, total - 1), c - int(c)) for c in centres]


def test_absolute_positions_are_resized_bilinearly() -> None:
    table = torch.randn(1, 6, 6, 3)
    resized = resize_position_table("pos_embed", table, torch.Size((1, 4, 4, 3)))
    for row, (above, below, down) in enumerate(linear_positions(4, 6)):
        for column, (left, right, across) in enumerate(linear_positions(4, 6)):
            top = (1 - across) * table[0, above, left] + across * table[0, above, right]
            bottom = (1 - across) * table[0, below, left] + across * table[0, below, right]
            assert torch.allclose(
                resized[0, row, column], (1 - down) * top + down * bottom, atol=1e-6
            )


def test_relative_positions_are_resized_linearly() -> None:
    table = torch.randn(127, 5)
    resized = resize_position_table("blocks.2.attn.rel_pos_h", table, torch.Size((27, 5)))
    expected = [
        (1 - share) * table[low] + share * table[high]
        for low, high, share in linear_positions(27, 127)
    ]
    assert torch.allclose(resized, torch.stack(expected), atol=1e-4)
    half = resize_position_table("blocks.2.attn.rel_pos_h", table.half(), torch.Size((27, 5)))
    assert torch.allclose(half, resized, atol=1e-2)


def test_other_tables_are_left_as_they_are() -> None:
    for key, shape in (("blocks.0.attn.rel_pos_w", (27, 5)), ("neck.0.weight", (4, 4))):
        table = torch.randn(shape)
        assert resize_position_table(key, table, torch.Size((27, 5))) is table


def test_three_channels_get_sams_statistics() -> None:
    pixel = torch.rand(1, 3, 2, 2)
    expected = (255 * pixel[0, :, 0, 0].numpy() - [123.675, 116.28, 103.53]) / [
        58.395,
        57.12,
        57.375,
    ]
    assert np.allclose(InputStem(3, sam_statistics=True)(pixel)[0, :, 0, 0], expected, atol=1e-5)
    assert torch.equal(InputStem(3, sam_statistics=False)(pixel), pixel)


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_other_channels_start_as_their_mean_and_are_trained(channels: int) -> None:
    stem = InputStem(channels, sam_statistics=False)
    images = torch.rand(2, channels, 4, 4)
    mean = images.mean(dim=1, keepdim=True).expand(-1, 3, -1, -1)
    assert torch.allclose(stem(images), mean, atol=1e-6)
    assert all(weight.requires_grad for weight in stem.parameters())
    assert len(list(stem.parameters())) == 2
