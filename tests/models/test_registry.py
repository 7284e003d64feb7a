"""The registry of released weights."""

from __future__ import annotations

from pathlib import Path

import pytest

from samnet.core.errors import UserError
from samnet.core.hashing import file_sha256, is_sha256
from samnet.models.registry import (
    CHECKPOINTS,
    PACKAGED,
    PIXEL_MEAN,
    PIXEL_STD,
    Checkpoint,
    checkpoints_folder,
    find_checkpoint,
    find_released,
)
from samnet.plan.backbones import BACKBONES


def test_registry_has_weights_of_every_released_backbone() -> None:
    released = {name for name, backbone in BACKBONES.items() if backbone.has_weights}
    assert {"small", "vit_b", "vit_l", "vit_h"} <= released <= {*CHECKPOINTS, *PACKAGED}


@pytest.mark.parametrize("name", PACKAGED)
def test_packaged_weights_are_small_and_have_the_registered_hash(name: str) -> None:
    file = find_checkpoint(BACKBONES[name])
    assert file_sha256(file) == PACKAGED[name].sha256
    assert file.stat().st_size <= 12_000_000
    assert find_released(PACKAGED[name].sha256) == name


def test_find_checkpoint_reports_missing_packaged_weights(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("samnet.models.registry.PACKAGED_FOLDER", tmp_path)
    with pytest.raises(
        UserError, match=r"small_v1\.safetensors: no such file.*install samnet again"
    ):
        find_checkpoint(BACKBONES["small"])


@pytest.mark.parametrize("name", ["vit_b", "vit_l", "vit_h"])
def test_checkpoint_entry_of_sam_is_complete(name: str) -> None:
    checkpoint = CHECKPOINTS[name]
    assert is_sha256(checkpoint.sha256)
    assert checkpoint.file_name.startswith(f"sam_{name}_")
    assert (
        checkpoint.url == f"https://dl.fbaipublicfiles.com/segment_anything/{checkpoint.file_name}"
    )
    assert checkpoint.licence == "Apache-2.0"
    assert (checkpoint.pixel_mean, checkpoint.pixel_std) == (PIXEL_MEAN, PIXEL_STD)
    assert find_released(checkpoint.sha256) == name


def test_checkpoints_folder_follows_the_environment_variable(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("samnet_checkpoints", str(tmp_path))
    assert checkpoints_folder() == tmp_path
    monkeypatch.delenv("samnet_checkpoints")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert checkpoints_folder() == tmp_path / ".cache" / "samnet" / "checkpoints"


def test_find_checkpoint_prefers_the_released_file_to_safetensors(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("samnet_checkpoints", str(tmp_path))
    backbone, checkpoint = BACKBONES["vit_b"], CHECKPOINTS["vit_b"]
    with pytest.raises(UserError) as caught:
        find_checkpoint(backbone)
    for part in (
        "samnet_download_checkpoint vit_b",
        checkpoint.url,
        checkpoint.sha256,
        str(tmp_path),
    ):
        assert part in str(caught.value)
    converted = tmp_path / "sam_vit_b_01ec64.safetensors"
    converted.touch()
    assert find_checkpoint(backbone) == converted
    released = tmp_path / checkpoint.file_name
    released.touch()
    assert find_checkpoint(backbone) == released


def test_find_released_returns_none_for_an_unknown_hash() -> None:
    assert find_released("0" * 63 + "1") is None


def test_checkpoint_url_joins_folder_and_file_name() -> None:
    assert Checkpoint("a.pth", "0" * 64, folder_url="http://here/").url == "http://here/a.pth"
