"""Networks of every system: their adapters, what they train, and how small they are saved."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from builders.numerics import assert_close_to_norm, relative_error, to_double
from builders.tiny_sam import Build, train_a_little
from torch import Tensor

from samnet.core.errors import SamnetError, UserError
from samnet.models.encoder import InputStem, build_encoder
from samnet.models.heads import HEADS
from samnet.models.heads.mask_decoder import MaskDecoderHead
from samnet.models.lora import add_decoder_lora, add_lora, merge_lora, unmerge_lora
from samnet.models.network import SegmentationNetwork, count_parameters, load_weights, save_weights
from samnet.plan.backbones import BACKBONES

SYSTEMS: dict[str, dict[str, Any]] = {
    "samed": {},
    "samed_s": {"head": "mask_decoder_lora"},
    "autosam": {"encoder_tuning": "frozen", "head": "vit"},
    "autosam_cnn": {"encoder_tuning": "frozen", "head": "cnn"},
    "autosam_linear": {"encoder_tuning": "frozen", "head": "linear"},
    "frozen": {"encoder_tuning": "frozen", "head": "cnn_slim"},
    "full": {"encoder_tuning": "full"},
    "scratch": {"encoder_tuning": "full", "initial_weights": "random"},
    "scratch, upsampling": {
        "encoder_tuning": "full",
        "initial_weights": "random",
        "head": "upsampling",
    },
    "every LoRA": {
        "lora_targets": ("q", "k", "v", "projection", "mlp"),
        "lora_blocks": "last_half",
    },
    "two channels": {
        "encoder_tuning": "frozen",
        "head": "linear",
        "channel_layout": "stem",
        "num_channels": 2,
    },
}
SIZE = 64
# Parts of SAM's mask decoder and prompt encoder that no output depends on; they are not saved.
UNUSED = ("iou_prediction_head", "point_embeddings", "not_a_point_embed", "mask_downscaling")
IN_ENCODER = {"lora": (".down.", ".up."), "full": ("",), "frozen": ()}


@pytest.fixture
def build(build: Build) -> Build:
    """The function for an input size that is quick to compute."""
    return partial(build, input_size=SIZE)


def draw_images(count: int = 1, channels: int = 3) -> Tensor:
    return torch.rand(count, channels, SIZE, SIZE, dtype=torch.float64)


def predict(network: SegmentationNetwork, images: Tensor) -> Tensor:
    """The logits in double precision; the network stays unchanged."""
    with torch.inference_mode():
        return to_double(copy.deepcopy(network).eval())(images)


def copy_state(network: SegmentationNetwork) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_saved_adapter_restores_the_weights_and_the_predictions(
    system: str, build: Build, sam_file: Path, tmp_path: Path
) -> None:
    changes = SYSTEMS[system]
    trained, channels = build(**changes), changes.get("num_channels", 3)
    images = draw_images(1, channels)
    untrained = predict(trained, images)
    train_a_little(trained, channels)
    expected = predict(trained, images)
    assert expected.shape == (1, 3, SIZE // trained.stride, SIZE // trained.stride)
    assert relative_error(expected, untrained) > 1e-3

    file = tmp_path / "adapter.safetensors"
    save_weights(trained.adapter(), file)
    torch.manual_seed(1)
    restored = build(load_pretrained=False, **changes)
    restored.load_adapter(load_weights(file), str(file))
    found = restored.state_dict()
    for name, value in trained.state_dict().items():
        if not any(part in name for part in UNUSED):
            assert torch.equal(found[name], value), name
    assert_close_to_norm(predict(restored, images), expected)
    merge_lora(restored)
    assert_close_to_norm(predict(restored, images), expected, 1e-6)  # merged in single precision


@pytest.mark.parametrize("system", SYSTEMS)
def test_training_changes_only_the_weights_that_the_adapter_holds(
    system: str, build: Build, sam_file: Path
) -> None:
    network = build(**SYSTEMS[system])
    before = copy_state(network)
    train_a_little(network, SYSTEMS[system].get("num_channels", 3))
    after = network.state_dict()
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    trained = {name for name, weight in network.named_parameters() if weight.requires_grad}
    assert not {name for name in trained - changed if not name.endswith("k_proj.bias")}
    assert changed <= trained
    marks = IN_ENCODER[SYSTEMS[system].get("encoder_tuning", "lora")]
    of_encoder = {name for name in before if name.startswith("encoder.")}
    expected = {name for name in of_encoder if contains_any(name, marks)}
    assert trained & of_encoder == expected
    buffers = {name for name, _ in network.named_buffers()} & set(before)
    if "scratch" in system:
        assert set(network.adapter()) == set(before)
    else:
        assert set(network.adapter()) == trained | buffers


def contains_any(name: str, parts: Iterable[str]) -> bool:
    return any(part in name for part in parts)


def test_weight_decay_leaves_unused_weights_unchanged(build: Build, sam_file: Path) -> None:
    network = build()
    before = {
        name: value
        for name, value in copy_state(network).items()
        if name.startswith("head.") and contains_any(name, UNUSED)
    }
    assert len(before) == 6 + 4 + 1 + 10
    train_a_little(network)
    after = network.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert not [name for name in network.adapter() if contains_any(name, UNUSED)]


def test_an_adapter_that_does_not_fit_the_network_is_named(build: Build, sam_file: Path) -> None:
    network = build()
    adapter = network.adapter()
    one = "encoder.blocks.0.attn.qkv.down.0"
    other_rank = build(lora_rank=2).adapter()
    cases = {
        f"{one} is missing": {name: value for name, value in adapter.items() if name != one},
        "stranger is unknown": adapter | {"stranger": torch.zeros(1)},
        r"down\.0 has shape \(2, 48\), expected \(4, 48\)": other_rank,
        "head.* is missing": build(head="linear").adapter(),
    }
    for finding, weights in cases.items():
        message = rf"adapter\.file: does not fit the plan next to it; .*{finding}"
        with pytest.raises(UserError, match=message):
            network.load_adapter(weights, "adapter.file")


def test_an_adapter_replaces_one_that_is_merged(build: Build, sam_file: Path) -> None:
    network, other = build(), build()
    images = draw_images()
    for one in (network, other):
        train_a_little(one)
    expected = predict(other, images)
    merge_lora(network)
    network.load_adapter(other.adapter(), "other")
    # The frozen weights were merged and unmerged in single precision.
    assert_close_to_norm(predict(network, images), expected, 1e-6)


def test_merged_weights_are_no_adapter(build: Build) -> None:
    network = build(initial_weights="random")
    merge_lora(network)
    with pytest.raises(SamnetError, match="merged"):
        network.adapter()
    unmerge_lora(network)
    network.adapter()


def test_the_planned_scale_of_lora_reaches_encoder_and_decoder(
    build: Build, sam_file: Path
) -> None:
    network = build(lora_scale=0.5, head="mask_decoder_lora")
    assert network.encoder.blocks[0].attn.qkv.scale == 0.5
    assert network.head.mask_decoder.transformer.final_attn_token_to_image.v_proj.scale == 0.5


def test_the_encoder_has_the_planned_gradient_checkpointing(build: Build, sam_file: Path) -> None:
    for planned in (True, False):
        assert build(gradient_checkpointing=planned).encoder.gradient_checkpointing is planned


@pytest.mark.parametrize("name", HEADS)
def test_the_images_of_a_batch_do_not_change_each_other(
    name: str, build: Build, sam_file: Path
) -> None:
    network = build(head=name)
    images = draw_images(3)
    together = predict(network, images)
    assert_close_to_norm(together[1:2], predict(network, images[1:2]))


def empty_network(head: str, backbone: str = "vit_b") -> SegmentationNetwork:
    """A network for 8 classes as SAMed has it, without memory for its weights."""
    with torch.device("meta"):
        encoder, decoder = build_encoder(BACKBONES[backbone], 512), MaskDecoderHead(9, 32)
        add_lora(encoder, rank=4, targets=("q", "v"), blocks="all")
        if head == "mask_decoder_lora":
            add_decoder_lora(decoder.mask_decoder.transformer, rank=4, targets=("q", "v"))
        stem = InputStem(3, sam_statistics=False)
        return SegmentationNetwork(stem, encoder, decoder, trainable_only=True)


@pytest.mark.parametrize(
    ("head", "backbone", "mebibytes"),
    [
        ("mask_decoder", "vit_b", 19),
        ("mask_decoder_lora", "vit_b", 6.5),
        ("mask_decoder", "vit_h", 20.8),
    ],
)
def test_adapters_are_as_small_as_samed_published(
    head: str, backbone: str, mebibytes: float, tmp_path: Path
) -> None:
    adapter = empty_network(head, backbone).adapter()
    file = tmp_path / "adapter.safetensors"
    save_weights({name: torch.zeros(value.shape) for name, value in adapter.items()}, file)
    assert file.stat().st_size <= mebibytes * 2**20


def test_samed_trains_lora_decoder_and_the_vector_for_no_mask() -> None:
    network = empty_network("mask_decoder")
    unused = count_parameters(network.head.mask_decoder.iou_prediction_head)[0]
    assert count_parameters(network)[1] == 147_456 + 4_759_945 - unused + 256
