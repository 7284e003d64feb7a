"""The image encoder computes what SAM's computes; its tables are resized, its memory saved."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from builders.numerics import SINGLE, assert_close_to_norm, assert_gradients_close, to_double
from builders.tiny_sam import TINY, randomise, sam_encoder
from torch import Tensor

from samnet.models.attention_form import as_if_on
from samnet.models.checkpoints import resize_position_table
from samnet.models.encoder import InputStem, build_encoder
from samnet.models.lora import add_lora
from samnet.plan.backbones import BACKBONES, Backbone

NARROW = Backbone("narrow", 32, 3, 2, (2,), 96)


@pytest.mark.parametrize(
    ("size", "device"), [(224, "cpu"), (448, "cpu"), (512, "cpu"), (1024, "cpu"), (512, "cuda")]
)
def test_the_encoder_computes_what_sam_computes(size: int, device: str) -> None:
    """Also in the forms of attention that it has on a CUDA device."""
    encoder, original = build_encoder(NARROW, size), randomise(sam_encoder(NARROW, size))
    encoder.load_state_dict(original.state_dict())
    to_double(encoder)
    to_double(original)
    images = torch.randn(2 if size < 512 else 1, 3, size, size, dtype=torch.float64)
    with torch.inference_mode(), as_if_on(device):
        embedding = encoder(images)
        assert embedding.shape == (len(images), 256, size // 16, size // 16)
        assert_close_to_norm(embedding, original(images))


def shapes(module: torch.nn.Module) -> dict[str, torch.Size]:
    return {key: value.shape for key, value in module.state_dict().items()}


@pytest.mark.parametrize("name", ["vit_b", "vit_l", "vit_h"])
def test_backbones_have_the_weights_of_sam(name: str) -> None:
    backbone = BACKBONES[name]
    with torch.device("meta"):
        encoder, original = build_encoder(backbone, 1024), sam_encoder(backbone, 1024)
    assert shapes(encoder) == shapes(original)


class KeptTensors:
    """Counts what an operation keeps for its backward pass, with `saved_tensors_hooks`."""

    def __init__(self) -> None:
        self.count, self.elements = 0, 0

    def note(self, tensor: Tensor) -> Tensor:
        self.count += 1
        self.elements += tensor.numel()
        return tensor

    def hooks(self) -> torch.autograd.graph.saved_tensors_hooks:
        return torch.autograd.graph.saved_tensors_hooks(self.note, lambda tensor: tensor)


def test_gradient_checkpointing_changes_only_the_memory() -> None:
    plain, thrifty = build_encoder(TINY, 64), build_encoder(TINY, 64, gradient_checkpointing=True)
    thrifty.load_state_dict(randomise(plain).state_dict())
    images = torch.randn(1, 3, 64, 64, dtype=torch.float64)
    saved, gradients = [], []
    for encoder in (plain, thrifty):
        encoder.neck = torch.nn.Identity()  # it would take most of so small an encoder's memory
        to_double(encoder)
        kept = KeptTensors()
        with kept.hooks():
            embedding = encoder(images)
        saved.append(kept.elements)
        gradients.append(torch.autograd.grad(embedding.square().mean(), list(encoder.parameters())))
    assert saved[1] < 0.7 * saved[0]
    assert_gradients_close(gradients[1], gradients[0])


@pytest.mark.parametrize("checkpointing", [False, True])
def test_blocks_before_the_first_adapted_block_keep_nothing(checkpointing: bool) -> None:
    """With LoRA in late blocks alone, the blocks before run without a graph."""
    encoder = build_encoder(NARROW, 64, gradient_checkpointing=checkpointing)
    add_lora(encoder, rank=2, targets=("q", "v"), blocks="2")
    kept = KeptTensors()
    counts = []
    for block in encoder.blocks:
        block.register_forward_hook(lambda *_: counts.append(kept.count))
    with kept.hooks():
        encoder(torch.randn(1, 3, 64, 64)).sum().backward()
    assert counts[:2] == [0, 0]
    assert kept.count > 0


def linear_positions(count: int, total: int) -> list[tuple[int, int, float]]:
    """For each of `count` new cells, two of `total` old cells and the share of the second.

    The centre of cell i lies at i + 0.5.
    """
    positions = []
    for index in range(count):
        centre = max((index + 0.5) * total / count - 0.5, 0.0)
        positions.append((int(centre), min(int(centre) + 1, total - 1), centre - int(centre)))
    return positions


# Tables are resized in single precision, which rounds places of up to 127 to 1e-5 of a cell.
RESIZED = 1e-4


def test_absolute_positions_are_resized_bilinearly() -> None:
    table = torch.randn(1, 6, 6, 3)
    resized = resize_position_table("pos_embed", table, torch.Size((1, 4, 4, 3)))
    expected = torch.empty(1, 4, 4, 3)
    for row, (above, below, down) in enumerate(linear_positions(4, 6)):
        for column, (left, right, across) in enumerate(linear_positions(4, 6)):
            top = (1 - across) * table[0, above, left] + across * table[0, above, right]
            bottom = (1 - across) * table[0, below, left] + across * table[0, below, right]
            expected[0, row, column] = (1 - down) * top + down * bottom
    assert_close_to_norm(resized, expected, RESIZED)


def test_relative_positions_are_resized_linearly() -> None:
    table = torch.randn(127, 5)
    resized = resize_position_table("blocks.2.attn.rel_pos_h", table, torch.Size((27, 5)))
    expected = [
        (1 - share) * table[low] + share * table[high]
        for low, high, share in linear_positions(27, 127)
    ]
    assert_close_to_norm(resized, torch.stack(expected), RESIZED)
    half = resize_position_table("blocks.2.attn.rel_pos_h", table.half(), torch.Size((27, 5)))
    assert_close_to_norm(half, resized, 1e-3)  # half precision rounds to 1 / 2048


def test_tables_that_need_no_resizing_stay_unchanged() -> None:
    for key, shape in (("blocks.0.attn.rel_pos_w", (27, 5)), ("neck.0.weight", (4, 4))):
        table = torch.randn(shape)
        assert resize_position_table(key, table, torch.Size((27, 5))) is table


def test_three_channels_are_normalised_with_the_statistics_of_sam() -> None:
    pixel = torch.rand(1, 3, 2, 2)
    mean, std = np.array([123.675, 116.28, 103.53]), np.array([58.395, 57.12, 57.375])
    expected = (255 * pixel[0, :, 0, 0].double().numpy() - mean) / std
    found = InputStem(3, sam_statistics=True)(pixel)[0, :, 0, 0]
    assert_close_to_norm(found, expected, SINGLE)
    assert torch.equal(InputStem(3, sam_statistics=False)(pixel), pixel)


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_other_numbers_of_channels_start_as_their_mean_and_are_trained(channels: int) -> None:
    stem = to_double(InputStem(channels, sam_statistics=False))
    images = torch.rand(2, channels, 4, 4, dtype=torch.float64)
    mean = images.mean(dim=1, keepdim=True).expand(-1, 3, -1, -1)
    assert_close_to_norm(stem(images), mean, 1e-6)  # the initial weights are in single precision
    assert all(weight.requires_grad for weight in stem.parameters())
    assert len(list(stem.parameters())) == 2
