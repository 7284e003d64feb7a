"""SAM's weights are read from files of any form, and fill encoders and heads."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from builders.numerics import assert_close_to_norm, to_double
from builders.tiny_sam import TINY, VALUES, Build, sam_encoder
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from samnet.core.errors import UserError
from samnet.models.checkpoints import load_checkpoint
from samnet.models.network import build_network
from samnet.models.registry import find_checkpoint
from samnet.plan.configuration import Configuration

Write = Callable[[dict[str, Tensor], Path], None]
RANDOM_PARTS = {
    "mask_decoder": (),
    "vit": ("iou_token", "mask_tokens", "iou_prediction_head"),
    "linear": (),
}


def write_wrapped(key: str) -> Write:
    return lambda weights, file: torch.save({key: weights, "epoch": 3}, file)


def write_parallel(weights: dict[str, Tensor], file: Path) -> None:
    torch.save({f"module.{key}": weights[key] for key in weights}, file)


def write_half(weights: dict[str, Tensor], file: Path) -> None:
    torch.save({key: weights[key].half() for key in weights}, file)


FORMS: dict[str, tuple[str, Write]] = {
    "official": (".pth", torch.save),
    "safetensors": (".safetensors", save_file),
    "in model": (".pth", write_wrapped("model")),
    "in state_dict": (".pth", write_wrapped("state_dict")),
    "parallel": (".pth", write_parallel),
    "half": (".pth", write_half),
}


@pytest.mark.parametrize("form", FORMS)
def test_weights_are_read_in_every_form(
    form: str, tmp_path: Path, sam_weights: dict[str, Tensor]
) -> None:
    suffix, write = FORMS[form]
    file = tmp_path / f"weights{suffix}"
    write(sam_weights, file)
    loaded = load_checkpoint(file)
    assert set(loaded) == set(sam_weights)
    for key, value in sam_weights.items():
        assert torch.equal(loaded[key], value.half() if form == "half" else value), key


def tables_of_samed(sam_weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The encoder's weights for 224 pixels, resized as SAMed does it."""
    weights = {
        key.removeprefix("image_encoder."): value
        for key, value in sam_weights.items()
        if "image_encoder" in key
    }
    channels_first = weights["pos_embed"].permute(0, 3, 1, 2)
    resized = functional.interpolate(channels_first, (14, 14), mode="bilinear")
    weights["pos_embed"] = resized.permute(0, 2, 3, 1)
    for axis in "hw":
        # Of the global block; SAMed resizes it as an image of one channel.
        key = f"blocks.1.attn.rel_pos_{axis}"
        image = weights[key][None, None]
        weights[key] = functional.interpolate(image, (27, 24), mode="bilinear")[0, 0]
        assert weights[f"blocks.0.attn.rel_pos_{axis}"].shape == (27, 24)
    return weights


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_network_starts_from_the_file_in_the_users_folder(
    suffix: str, sam_file: Path, sam_weights: dict[str, Tensor], build: Build
) -> None:
    if suffix == ".safetensors":
        sam_file.unlink()
        save_file(sam_weights, sam_file.with_suffix(suffix))
    assert find_checkpoint(TINY) == sam_file.with_suffix(suffix)
    encoder = to_double(build(encoder_tuning="full").encoder)
    original = sam_encoder(TINY, 224)
    original.load_state_dict(tables_of_samed(sam_weights))
    to_double(original)
    images = torch.randn(1, 3, 224, 224, dtype=torch.float64)
    with torch.inference_mode():
        # The tables are resized in single precision, which rounds to 1e-7.
        assert_close_to_norm(encoder(images), original(images), 1e-6)


@pytest.mark.parametrize("head", RANDOM_PARTS)
def test_heads_are_filled_with_sams_parts_and_the_rest_stays_random(
    head: str, sam_file: Path, sam_weights: dict[str, Tensor], build: Build
) -> None:
    for key, value in build(head=head).head.state_dict().items():
        if key not in sam_weights or value.shape != sam_weights[key].shape:
            continue
        stays_random = any(part in key for part in RANDOM_PARTS[head])
        assert torch.equal(value, sam_weights[key]) != stays_random, key


def test_an_upsampling_head_is_filled_except_for_its_classes(
    sam_file: Path, sam_weights: dict[str, Tensor], build: Build
) -> None:
    random = build(head="upsampling").head.state_dict()
    released = {key: value + 1 for key, value in random.items() if key.startswith("upsampling.")}
    assert set(random) - set(released) == {"classify.weight", "classify.bias"}
    torch.save(sam_weights | released, sam_file)
    filled = build(head="upsampling").head.state_dict()
    for key, value in released.items():
        assert torch.equal(filled[key], value), key


@pytest.mark.parametrize("head", ["mask_decoder", "mask_decoder_lora", "mask_decoder_full"])
@pytest.mark.parametrize("num_outputs", [2, 4, 6])
def test_mask_decoder_starts_from_sam_as_far_as_weights_of_its_outputs_fit(
    sam_file: Path,
    sam_weights: dict[str, Tensor],
    caplog: pytest.LogCaptureFixture,
    head: str,
    num_outputs: int,
) -> None:
    """As in effect in SAMed's code: hyper-networks 0 to 3, most of the IoU head, 4 tokens."""
    configuration = Configuration(**(VALUES | {"head": head}))
    with caplog.at_level(logging.WARNING):
        network = build_network(configuration, 1, num_outputs)
    assert not caplog.records
    weights = network.head.mask_decoder.state_dict()
    for number in range(min(num_outputs, 4)):
        # Up to the input's resolution there are fewer channels, so the last layer is another.
        for layer in range(2 if head == "mask_decoder_full" else 3):
            name = f"output_hypernetworks_mlps.{number}.layers.{layer}.weight"
            assert torch.equal(weights[name], sam_weights[f"mask_decoder.{name}"]), name
    for number in (0, 1, 3):
        name = f"output_upscaling.{number}.weight"
        assert torch.equal(weights[name], sam_weights[f"mask_decoder.{name}"]), name
    for name, fits in {
        "mask_tokens.weight": num_outputs == 4,
        "iou_prediction_head.layers.1.weight": True,
        "iou_prediction_head.layers.2.weight": num_outputs == 4,
    }.items():
        assert torch.equal(weights[name], sam_weights[f"mask_decoder.{name}"]) == fits, name


def test_weights_of_the_decoder_that_a_file_lacks_are_logged(
    sam_file: Path, sam_weights: dict[str, Tensor], build: Build, caplog: pytest.LogCaptureFixture
) -> None:
    of_encoder = {
        key: value for key, value in sam_weights.items() if key.startswith("image_encoder")
    }
    torch.save(of_encoder, sam_file)
    with caplog.at_level(logging.WARNING):
        build(head="cnn_slim")
    assert not caplog.records
    with caplog.at_level(logging.WARNING):
        build(head="mask_decoder")
    assert "sam_tiny.pth" in caplog.text
    assert "mask_decoder.iou_token.weight" in caplog.text


def test_a_missing_file_of_weights_is_named_with_its_address_and_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, build: Build
) -> None:
    monkeypatch.setenv("samnet_checkpoints", str(tmp_path / "weights"))
    with pytest.raises(UserError) as caught:
        build()
    message = str(caught.value)
    assert "https://dl.fbaipublicfiles.com/segment_anything/sam_tiny.pth" in message
    assert str(tmp_path / "weights") in message
    assert "0" * 64 in message


class Harmful:
    """An object whose pickle ends the program when it is read."""

    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return exec, ("raise SystemExit('code of a checkpoint was run')",)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_the_pickle_of_a_checkpoint_is_never_run(zipped: bool, tmp_path: Path) -> None:
    file = tmp_path / "harmful.pth"
    torch.save({"image_encoder.pos_embed": Harmful()}, file, _use_new_zipfile_serialization=zipped)
    message = r"harmful\.pth: holds more than weights \(.*exec\)"
    with pytest.raises(UserError, match=message) as caught:
        load_checkpoint(file)
    assert "weights_only" not in str(caught.value)


def test_damaged_files_of_weights_are_named(tmp_path: Path, sam_weights: dict[str, Tensor]) -> None:
    whole = tmp_path / "whole.pth"
    torch.save(sam_weights, whole)
    contents = {
        "cut.pth": whole.read_bytes()[:-2000],
        "page.pth": b"<html>404</html>",
        "empty.pth": b"",
        "page.safetensors": b"<html>404</html>",
    }
    for name, content in contents.items():
        file = tmp_path / name
        file.write_bytes(content)
        with pytest.raises(UserError, match=name):
            load_checkpoint(file)
    with pytest.raises(UserError, match=r"absent\.pth"):
        load_checkpoint(tmp_path / "absent.pth")


@pytest.mark.parametrize("content", [{"epoch": 3}, [1, 2], torch.zeros(3), {"model": {"lr": 0.1}}])
def test_files_without_weights_are_named(content: object, tmp_path: Path) -> None:
    file = tmp_path / "other.pth"
    torch.save(content, file)
    with pytest.raises(UserError, match=r"other\.pth: holds no weights by name"):
        load_checkpoint(file)


WIDER = {"image_encoder.patch_embed.proj.weight": torch.zeros(64, 3, 16, 16)}
DEEPER = {"image_encoder.blocks.2.norm1.weight": torch.zeros(48)}


@pytest.mark.parametrize(
    ("dropped", "added", "message"),
    [
        (None, WIDER, r"patch_embed\.proj\.weight has shape \(64, 3, 16, 16\), expected \(48, 3, "),
        (
            "blocks.1.",
            {},
            r"lacks \d+ of the encoder's weights, such as .*blocks\.1\.",
        ),
        (None, DEEPER, r"1 weights more than the encoder, such as .*blocks\.2\.norm1\.weight"),
        ("", {"vision_encoder.pos_embed": torch.zeros(3)}, r"lacks \d+ of the encoder's weights"),
    ],
    ids=["wider", "shallower", "deeper", "other names"],
)
def test_weights_of_another_backbone_are_refused(
    dropped: str | None,
    added: dict[str, Tensor],
    message: str,
    sam_file: Path,
    sam_weights: dict[str, Tensor],
    build: Build,
) -> None:
    kept = {
        key: value for key, value in sam_weights.items() if dropped is None or dropped not in key
    }
    torch.save(kept | added, sam_file)
    with pytest.raises(UserError, match=message) as caught:
        build()
    assert "sam_tiny.pth" in str(caught.value)


def test_a_network_that_is_complete_without_its_base_needs_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, build: Build
) -> None:
    monkeypatch.setenv("samnet_checkpoints", str(tmp_path))
    build(load_pretrained=False, encoder_tuning="full")
    build(initial_weights="random", encoder_tuning="full")
    for incomplete in (
        {"encoder_tuning": "lora"},
        {"encoder_tuning": "full", "head": "mask_decoder_lora"},
    ):
        with pytest.raises(UserError, match=r"sam_tiny\.pth"):
            build(load_pretrained=False, **incomplete)


def test_a_network_can_start_from_another_base_file(
    tmp_path: Path, sam_file: Path, sam_weights: dict[str, Tensor], build: Build
) -> None:
    key = "neck.0.weight"
    changed = sam_weights[f"image_encoder.{key}"] + 1
    other = tmp_path / "medical.pth"
    torch.save(sam_weights | {f"image_encoder.{key}": changed}, other)
    for load_pretrained in (True, False):
        named = build(load_pretrained=load_pretrained, base_file=other)
        assert torch.equal(named.encoder.get_parameter(key), changed)
    complete = build(load_pretrained=False, base_file=other, encoder_tuning="full")
    assert not torch.equal(complete.encoder.get_parameter(key), changed)


def test_random_weights_depend_on_the_seed_alone(build: Build) -> None:
    states = []
    for _ in range(2):
        torch.manual_seed(7)
        network = build(initial_weights="random", encoder_tuning="full", head="upsampling")
        states.append(network.state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
