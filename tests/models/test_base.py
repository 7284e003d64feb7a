"""The weights that an adapter was trained on: found, recorded and checked."""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path
from typing import Any

import pytest
from builders.tiny_sam import VALUES

from samnet.core.errors import UserError
from samnet.models.base import (
    Base,
    advice,
    base_sha256,
    find_base_file,
    find_model_base,
    load_base,
    locate,
    needs_base,
    record_base,
    save_base,
)
from samnet.models.model_folder import BASE_FILE, RunFolder
from samnet.models.registry import CHECKPOINTS, Checkpoint
from samnet.plan.configuration import Configuration

RELEASED, OTHER = b"the released weights", b"MedSAM's weights"


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def configuration(**changes: Any) -> Configuration:
    return Configuration(**(VALUES | changes))


@pytest.fixture
def checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The checkpoints folder, empty; `sam_tiny.pth` is released as `RELEASED`."""
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    monkeypatch.setenv("samnet_checkpoints", str(folder))
    monkeypatch.setitem(CHECKPOINTS, "tiny", Checkpoint("sam_tiny.pth", digest(RELEASED)))
    monkeypatch.chdir(tmp_path)
    return folder


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """The folder of a run, empty."""
    folder = tmp_path / "fold_0"
    folder.mkdir()
    return RunFolder(folder)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, True),
        ({"encoder_tuning": "frozen"}, True),
        ({"encoder_tuning": "full"}, False),
        ({"encoder_tuning": "full", "head": "mask_decoder_lora"}, True),
        ({"initial_weights": "random"}, False),
        ({"initial_weights": "/data/medsam.pth"}, True),
    ],
)
def test_needs_base_of_models_that_keep_weights_of_it(
    changes: dict[str, Any], expected: bool
) -> None:
    assert needs_base(configuration(**changes)) is expected


def test_find_base_file_of_random_weights_is_none() -> None:
    assert find_base_file(configuration(initial_weights="random")) is None


def test_find_base_file_finds_the_released_file(checkpoints: Path) -> None:
    with pytest.raises(UserError, match="samnet_download_checkpoint tiny"):
        find_base_file(configuration())
    (checkpoints / "sam_tiny.pth").write_bytes(RELEASED)
    assert find_base_file(configuration()) == checkpoints / "sam_tiny.pth"


def test_find_base_file_looks_at_the_path_before_the_checkpoints_folder(
    checkpoints: Path, tmp_path: Path
) -> None:
    by_name = configuration(initial_weights="medsam.pth")
    message = r"is .medsam.pth., and there is no medsam.pth or .*checkpoints"
    with pytest.raises(UserError, match=message):
        find_base_file(by_name)
    (checkpoints / "medsam.pth").write_bytes(OTHER)
    assert find_base_file(by_name) == checkpoints / "medsam.pth"
    (tmp_path / "medsam.pth").write_bytes(OTHER)
    assert find_base_file(by_name) == Path("medsam.pth")
    absolute = tmp_path / "medsam.pth"
    assert find_base_file(configuration(initial_weights=str(absolute))) == absolute


def test_find_base_file_knows_the_users_home(
    checkpoints: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    file = tmp_path / "home" / "medsam.pth"
    file.write_bytes(OTHER)
    assert find_base_file(configuration(initial_weights="~/medsam.pth")) == file


def test_record_base_writes_the_base_of_a_run(
    checkpoints: Path, run: RunFolder, caplog: pytest.LogCaptureFixture
) -> None:
    file = checkpoints / "sam_tiny.pth"
    file.write_bytes(RELEASED)
    record_base(configuration(), run, file)
    assert load_base(run.base_file) == Base("tiny", "sam_tiny.pth", digest(RELEASED))
    assert not caplog.records
    assert find_model_base(configuration(), run) == file
    record_base(configuration(initial_weights="random"), run, None)
    assert not run.base_file.exists()


def test_record_base_warns_of_other_weights_under_the_released_name(
    checkpoints: Path, run: RunFolder, caplog: pytest.LogCaptureFixture
) -> None:
    (checkpoints / "sam_tiny.pth").write_bytes(OTHER)
    with caplog.at_level(logging.WARNING):
        record_base(configuration(), run, checkpoints / "sam_tiny.pth")
    assert "is not the released file" in caplog.text
    assert load_base(run.base_file).sha256 == digest(OTHER)


def test_record_base_warns_of_the_released_weights_of_another_backbone(
    checkpoints: Path,
    run: RunFolder,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setitem(CHECKPOINTS, "other", Checkpoint("sam_other.pth", digest(OTHER)))
    (checkpoints / "sam_tiny.pth").write_bytes(OTHER)
    record_base(configuration(), run, checkpoints / "sam_tiny.pth")
    assert "sam_tiny.pth is not the released file" in caplog.text


def test_find_model_base_takes_no_other_weights_for_the_released_ones(
    checkpoints: Path, run: RunFolder
) -> None:
    save_base(Base("tiny", "sam_tiny.pth", digest(RELEASED)), run)
    with pytest.raises(UserError) as caught:
        find_model_base(configuration(), run)
    assert "the released tiny" in str(caught.value)
    assert "samnet_download_checkpoint tiny" in str(caught.value)
    (checkpoints / "sam_tiny.pth").write_bytes(OTHER)
    with pytest.raises(UserError) as caught:
        find_model_base(configuration(), run)
    for part in (
        str(run),
        digest(RELEASED),
        f"{checkpoints / 'sam_tiny.pth'} has another content",
        digest(OTHER),
    ):
        assert part in str(caught.value)


def test_find_model_base_takes_no_released_weights_for_others(
    checkpoints: Path, run: RunFolder
) -> None:
    (checkpoints / "sam_tiny.pth").write_bytes(RELEASED)
    save_base(Base("tiny", "medsam.pth", digest(OTHER)), run)
    given = configuration(initial_weights="/no/such/folder/medsam.pth")
    with pytest.raises(UserError) as caught:
        find_model_base(given, run)
    for part in (
        "medsam.pth (none of the released files",
        "the released tiny",
        f"put it into {checkpoints}",
    ):
        assert part in str(caught.value)
    (checkpoints / "medsam.pth").write_bytes(OTHER)
    assert find_model_base(given, run) == checkpoints / "medsam.pth"


def test_find_model_base_looks_first_where_the_training_run_found_it(
    checkpoints: Path, run: RunFolder, tmp_path: Path
) -> None:
    for folder in (checkpoints, tmp_path):
        (folder / "medsam.pth").write_bytes(OTHER)
    save_base(Base("tiny", "medsam.pth", digest(OTHER)), run)
    file = tmp_path / "medsam.pth"
    assert find_model_base(configuration(initial_weights=str(file)), run) == file
    assert find_model_base(configuration(initial_weights="random"), run) is None


def test_find_model_base_warns_of_a_run_without_a_record(
    checkpoints: Path, run: RunFolder, caplog: pytest.LogCaptureFixture
) -> None:
    (checkpoints / "sam_tiny.pth").write_bytes(OTHER)
    with caplog.at_level(logging.WARNING):
        assert find_model_base(configuration(), run) == checkpoints / "sam_tiny.pth"
    assert "is unknown" in caplog.text


def test_locate_finds_a_base_by_its_content(checkpoints: Path) -> None:
    base = Base("tiny", "medsam.pth", digest(OTHER))
    assert locate(base) == (None, [])
    (checkpoints / "sam_tiny.pth").write_bytes(RELEASED)
    assert locate(base) == (None, [checkpoints / "sam_tiny.pth"])
    (checkpoints / "sam_tiny.pth").write_bytes(OTHER)
    assert locate(base) == (checkpoints / "sam_tiny.pth", [])
    assert "as medsam.pth" in advice(base)


@pytest.mark.parametrize(
    "content",
    [
        {"backbone": "tiny", "file_name": "../sam.pth", "sha256": "a" * 64},
        {"backbone": "tiny", "file_name": "c:\\sam.pth", "sha256": "a" * 64},
        {"backbone": "tiny", "file_name": "sam.pth", "sha256": "a"},
        {"backbone": "tiny", "file_name": "sam.pth"},
        {"backbone": "tiny", "file_name": "sam.pth", "sha256": "a" * 64, "url": "http://"},
        [],
    ],
)
def test_load_base_refuses_a_damaged_record(run: RunFolder, content: Any) -> None:
    run.base_file.write_text(json.dumps(content))
    with pytest.raises(UserError, match=BASE_FILE):
        load_base(run.base_file)


def test_base_sha256_names_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        base_sha256(tmp_path)


def test_base_sha256_leaves_no_note_in_the_installed_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("samnet.models.base.PACKAGED_FOLDER", tmp_path / "weights")
    for folder, num_files in (("weights", 1), ("checkpoints", 2)):
        file = tmp_path / folder / "small_v1.safetensors"
        file.parent.mkdir()
        file.write_bytes(RELEASED)
        assert base_sha256(file) == digest(RELEASED)
        assert len(list(file.parent.iterdir())) == num_files
