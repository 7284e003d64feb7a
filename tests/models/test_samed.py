"""SAMed's files: their layout, and that a network with their weights computes what SAMed does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from builders.numerics import assert_close_to_norm, relative_error, to_double
from builders.samed_files import samed_logits, write_samed
from builders.tiny_sam import TINY, sam_encoder
from torch import Tensor

from samnet.core.errors import UserError
from samnet.models.network import SegmentationNetwork
from samnet.models.samed import from_samed, inspect_samed, save_samed, to_samed
from samnet.plan.backbones import BACKBONES

SIZE = 224
HEADS = {False: "mask_decoder", True: "mask_decoder_lora"}
Build = Callable[..., SegmentationNetwork]


@pytest.fixture(params=[False, True], ids=["samed", "samed_s"])
def decoder_lora(request: pytest.FixtureRequest) -> bool:
    return request.param


@pytest.fixture
def content(decoder_lora: bool) -> dict[str, Tensor]:
    return write_samed(TINY, 2, SIZE, decoder_lora=decoder_lora)


@pytest.fixture
def make(build: Build, decoder_lora: bool, sam_file: Path) -> Callable[..., SegmentationNetwork]:
    def make_network(**changes: Any) -> SegmentationNetwork:
        given = {"head": HEADS[decoder_lora], "pixel_statistics": "none"} | changes
        return build(**given).eval()

    return make_network


@pytest.fixture
def empty(build: Build, decoder_lora: bool) -> Callable[..., SegmentationNetwork]:
    """A function that builds networks of names and shapes alone."""

    def make_network(**changes: Any) -> SegmentationNetwork:
        given = {"head": HEADS[decoder_lora], "initial_weights": "random"} | changes
        with torch.device("meta"):
            network = build(**given)
        network.trainable_only = True
        return network

    return make_network


# Position tables are resized in single precision, which rounds to 1e-7. Everything else is double.
RESIZED = 1e-6


def logits_of(network: SegmentationNetwork, images: Tensor) -> Tensor:
    """The logits of a network in double precision; the network is changed."""
    with torch.no_grad():
        return to_double(network)(images)


def load(network: SegmentationNetwork, content: dict[str, Tensor]) -> SegmentationNetwork:
    network.load_adapter(from_samed(network, content, "epoch_159.pth"), "here")
    return network


def test_a_file_of_samed_is_inspected(content: dict[str, Tensor], decoder_lora: bool) -> None:
    found = inspect_samed(content, "epoch_159.pth")
    assert (found.backbone, found.rank, found.num_classes, found.decoder_lora) == (
        TINY,
        4,
        2,
        decoder_lora,
    )


@pytest.mark.parametrize(
    ("backbone", "small", "mebibytes"),
    [("vit_b", False, 18.8), ("vit_b", True, 6.3), ("vit_h", False, 20.8)],
)
def test_the_synthetic_files_are_as_large_as_the_files_of_samed(
    backbone: str, small: bool, mebibytes: float
) -> None:
    """The layout in `builders.samed_files` is that of the papers: at 8 classes the sizes agree."""
    content = write_samed(BACKBONES[backbone], 8, 512, decoder_lora=small)
    assert sum(value.nbytes for value in content.values()) / 2**20 == pytest.approx(
        mebibytes, abs=0.15
    )


def test_the_logits_are_those_of_samed(
    make: Build, content: dict[str, Tensor], sam_weights: dict[str, Tensor]
) -> None:
    images = torch.rand(2, 3, SIZE, SIZE, dtype=torch.float64)
    expected = samed_logits(images, content, sam_weights, sam_encoder(TINY, SIZE), TINY)
    found = logits_of(load(make(), content), images)
    assert found.shape == (2, 3, SIZE // 4, SIZE // 4)
    assert expected.std() > 0.1
    assert_close_to_norm(found, expected, RESIZED)


def test_logits_without_a_part_of_the_file_differ_from_samed(
    make: Build, content: dict[str, Tensor], sam_weights: dict[str, Tensor]
) -> None:
    """Every part of the file matters enough for the test above to notice a fault in it."""
    images = torch.rand(1, 3, SIZE, SIZE, dtype=torch.float64)
    expected = samed_logits(images, content, sam_weights, sam_encoder(TINY, SIZE), TINY)
    for prefix in (
        "w_b_",
        "prompt_encoder.no_mask",
        "mask_decoder.output_upscaling",
        "cti_b",
        "fati_v",
    ):
        if not any(key.startswith(prefix) for key in content):
            continue
        changed = {
            key: value * 0 if key.startswith(prefix) else value for key, value in content.items()
        }
        found = logits_of(load(make(), changed), images)
        assert relative_error(found, expected) > 100 * RESIZED, prefix


def test_a_file_of_samed_stays_the_same_there_and_back(
    make: Build, content: dict[str, Tensor]
) -> None:
    written = to_samed(load(make(), content), "here")
    assert set(written) == set(content)
    unused = ("iou_prediction_head", "point_embeddings", "not_a_point_embed", "mask_downscaling")
    for key, value in content.items():
        if not any(part in key for part in unused):
            assert torch.equal(written[key], value), key


def test_the_scale_of_lora_goes_into_the_files_b(
    make: Build, content: dict[str, Tensor], sam_weights: dict[str, Tensor]
) -> None:
    network = load(make(lora_scale=2.0), content)
    images = torch.rand(1, 3, SIZE, SIZE, dtype=torch.float64)
    written = to_samed(network, "here")
    assert torch.equal(written["w_b_001"], 2 * content["w_b_001"])
    assert torch.equal(written["w_a_001"], content["w_a_001"])
    expected = samed_logits(images, written, sam_weights, sam_encoder(TINY, SIZE), TINY)
    assert_close_to_norm(logits_of(network, images), expected, RESIZED)


def test_a_written_file_of_samed_can_be_read_without_running_code(
    make: Build, content: dict[str, Tensor], tmp_path: Path
) -> None:
    file = tmp_path / "samed.pth"
    save_samed(to_samed(load(make(), content), "here"), file)
    read = torch.load(file, weights_only=True)
    assert set(read) == set(content)
    assert file.stat().st_size < 1.1 * sum(value.nbytes for value in content.values())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"head": "cnn"}, "head"),
        ({"encoder_tuning": "frozen"}, "down"),
        ({"lora_blocks": "last_half"}, "encoder.blocks.0"),
        ({"lora_targets": ("q", "k", "v")}, r"qkv.down.2|lora_targets"),
        ({"lora_targets": ("q", "k")}, "_proj|lora_targets"),
        ({"channel_layout": "stem", "num_channels": 4}, "stem.mix"),
    ],
)
def test_networks_that_samed_has_no_form_for_are_refused(
    empty: Build, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message) as caught:
        to_samed(empty(**change), "results/lora/fold_0")
    assert "results/lora/fold_0: SAMed's files hold LoRA on q and v" in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"w_b_003": None}, "f.pth: w_b_003 is missing"),
        (
            {"mask_decoder.iou_token.weight": None},
            "f.pth: mask_decoder.iou_token.weight is missing",
        ),
        (
            {"w_a_000": torch.zeros(5, 48)},
            r"f.pth: w_a_000 has shape \(5, 48\), expected \(4, 48\)",
        ),
        ({"optimizer": torch.zeros(1)}, "f.pth: optimizer is unknown in a file of SAMed"),
        ({"mask_decoder.extra": torch.zeros(1)}, "f.pth: mask_decoder.extra is unknown"),
    ],
)
def test_a_file_of_samed_that_differs_is_refused(
    empty: Build, content: dict[str, Tensor], change: dict[str, Tensor | None], message: str
) -> None:
    changed = {key: value for key, value in (content | change).items() if value is not None}
    with pytest.raises(UserError, match=message):
        from_samed(empty(), changed, "f.pth")


def test_a_file_of_samed_is_not_taken_for_one_of_samed_s(empty: Build) -> None:
    plain, small = (write_samed(TINY, 2, SIZE, decoder_lora=kind) for kind in (False, True))
    with pytest.raises(
        UserError, match=r"mask_decoder\.transformer.* is unknown in a file of SAMed_s"
    ):
        from_samed(empty(head="mask_decoder_lora"), plain, "f.pth")
    with pytest.raises(UserError, match=r"is unknown in a file of SAMed$"):
        from_samed(empty(head="mask_decoder"), small, "f.pth")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "no file of SAMed"),
        ({"w_a_000": torch.zeros(4, 48)}, "no file of SAMed"),
        (
            {"w_a_000": torch.zeros(4, 50), "mask_decoder.mask_tokens.weight": torch.zeros(3, 256)},
            r"adapts 0 blocks of 50 channels; known encoders are .*vit_b \(12 x 768\)",
        ),
    ],
)
def test_other_files_are_not_taken_for_samed(content: dict[str, Tensor], message: str) -> None:
    with pytest.raises(UserError, match=message):
        inspect_samed(content, "f.pth")
