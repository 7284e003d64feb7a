from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from builders.tiny_sam import TINY, Build, sam_encoder
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from samnet.core.errors import UserError
from samnet.models.checkpoints import load_checkpoint
from samnet.models.registry import find_checkpoint

ANEW = {
    "mask_decoder": ("mask_tokens", "output_hypernetworks_mlps", "iou_prediction_head"),
    "vit": ("iou_token", "mask_tokens", "iou_prediction_head"),
    "linear": (),
}


def write_wrapped(key: str) -> Callable[[dict[str, Tensor], Path], None]:
    return lambda weights, file: torch.save({key: weights, "epoch": 3}, file)


FORMS: dict[str, tuple[str, Callable[[dict[str, Tensor], Path], None]]] = {
    "official": (".pth", torch.save),
    "safetensors": (".safetensors", save_file),
    "in model": (".pth", write_wrapped("model")),
    "in state_dict": (".pth", write_wrapped("state_dict")),
    "parallel": (
        ".pth",
        lambda weights, file: torch.save({f"module.{key}": weights[key] for key in weights}, file),
    ),
    "half": (
        ".pth",
        lambda weights, file: torch.save({key: weights[key].half() for key in weights}, file),
    ),
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
    assert all(torch.allclose(loaded[key].float(), sam_weights[key], atol=2e-3) for key in loaded)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_network_starts_from_the_file_in_the_users_folder(
    suffix: str, sam_file: Path, sam_weights: dict[str, Tensor], build: Build
) -> None:
    if suffix == ".safetensors":
        sam_file.unlink()
        save_file(sam_weights, sam_file.with_suffix(suffix))
    assert find_checkpoint(TINY) == sam_file.with_suffix(suffix)
    encoder = build(encoder_tuning="full").encoder
    original = sam_encoder(TINY, 224)
    own = {
        key.removeprefix("image_encoder."): value
        for key, value in sam_weights.items()
        if "image_encoder" in key
    }
    own["pos_embed"] = functional.interpolate(
        own["pos_embed"].permute(0, 3, 1, 2), (14, 14), mode="bilinear"
    )
    own["pos_embed"] = own["pos_embed"].permute(0, 2, 3, 1)
    for axis in "hw":
        key = f"blocks.1.attn.rel_pos_{axis}"  # of the global block; SAMed resizes it as an image of one channel
        own[key] = functional.interpolate(own[key][None, None], (27, 24), mode="bilinear")[0, 0]
        assert own[f"blocks.0.attn.rel_pos_{axis}"].shape == (27, 24)
    original.load_state_dict(own)
    images = torch.randn(1, 3, 224, 224)
    with torch.inference_mode():
        assert torch.allclose(encoder(images), original(images), atol=1e-5)


@pytest.mark.parametrize("head", ANEW)
def test_heads_take_over_sams_parts_and_start_their_own_anew(
    head: str, sam_file: Path, sam_weights: dict[str, Tensor], build: Build
) -> None:
    state = build(head=head).head.state_dict()
    for key, value in state.items():
        anew = not key.startswith(("mask_decoder", "prompt_encoder")) or any(
            part in key for part in ANEW[head]
        )
        same = key in sam_weights and torch.equal(value, sam_weights[key]) if not anew else None
        assert anew or same, key
    for key in set(state) & set(sam_weights):
        if any(part in key for part in ANEW[head]):
            assert state[key].shape != sam_weights[key].shape or not torch.equal(
                state[key], sam_weights[key]
            )


def test_what_a_file_lacks_of_the_decoder_is_said(
    sam_file: Path, sam_weights: dict[str, Tensor], build: Build, caplog: pytest.LogCaptureFixture
) -> None:
    torch.save(
        {key: value for key, value in sam_weights.items() if key.startswith("image_encoder")},
        sam_file,
    )
    with caplog.at_level(logging.WARNING):
        build(head="cnn_slim")
    assert not caplog.records
    with caplog.at_level(logging.WARNING):
        build(head="mask_decoder")
    assert "sam_tiny.pth" in caplog.text
    assert "mask_decoder.iou_token.weight" in caplog.text


def test_a_missing_file_is_named_with_its_address_and_folder(
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
    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return exec, ("raise SystemExit('code of a checkpoint was run')",)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_pickle_is_never_run(zipped: bool, tmp_path: Path) -> None:
    file = tmp_path / "harmful.pth"
    torch.save({"image_encoder.pos_embed": Harmful()}, file, _use_new_zipfile_serialization=zipped)
    with pytest.raises(
        UserError, match=r"harmful\.pth: holds more than weights \(.*exec\)"
    ) as caught:
        load_checkpoint(file)
    assert "weights_only" not in str(caught.value)


def test_damaged_files_are_named(tmp_path: Path, sam_weights: dict[str, Tensor]) -> None:
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


def test_a_file_of_another_backbone_is_named(
    sam_file: Path, sam_weights: dict[str, Tensor], build: Build
) -> None:
    def refused(weights: dict[str, Tensor], message: str) -> None:
        torch.save(weights, sam_file)
        with pytest.raises(UserError, match=message) as caught:
            build()
        assert "sam_tiny.pth" in str(caught.value)

    wider = dict(sam_weights)
    wider["image_encoder.patch_embed.proj.weight"] = torch.zeros(64, 3, 16, 16)
    refused(
        wider, r"patch_embed\.proj\.weight has shape \(64, 3, 16, 16\), expected \(48, 3, 16, 16\)"
    )
    shallower = {key: value for key, value in sam_weights.items() if "blocks.1." not in key}
    refused(shallower, r"lacks \d+ of the encoder's weights, such as image_encoder\.blocks\.1\.")
    deeper = sam_weights | {"image_encoder.blocks.2.norm1.weight": torch.zeros(48)}
    refused(
        deeper, r"1 weights more than the encoder, such as image_encoder\.blocks\.2\.norm1\.weight"
    )
    refused({"vision_encoder.pos_embed": torch.zeros(3)}, r"lacks \d+ of the encoder's weights")


def test_a_network_without_its_base_needs_no_file(
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


def test_another_base_can_be_named(
    tmp_path: Path, sam_file: Path, sam_weights: dict[str, Tensor], build: Build
) -> None:
    key = "neck.0.weight"
    other = tmp_path / "medical.pth"
    torch.save(
        sam_weights | {f"image_encoder.{key}": sam_weights[f"image_encoder.{key}"] + 1}, other
    )
    for load_pretrained in (True, False):
        named = build(load_pretrained=load_pretrained, base_file=other)
        assert torch.equal(
            named.encoder.get_parameter(key), sam_weights[f"image_encoder.{key}"] + 1
        )
    complete = build(load_pretrained=False, base_file=other, encoder_tuning="full")
    assert not torch.equal(
        complete.encoder.get_parameter(key), sam_weights[f"image_encoder.{key}"] + 1
    )


def test_random_weights_depend_on_the_seed_alone(build: Build) -> None:
    states = []
    for _ in range(2):
        torch.manual_seed(7)
        states.append(
            build(initial_weights="random", encoder_tuning="full", head="upsampling").state_dict()
        )
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
