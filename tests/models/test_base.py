"""The base of an adapter: found, recorded and checked."""

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
    BASE_FILE,
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
def run(tmp_path: Path) -> Path:
    """The folder of a run."""
    folder = tmp_path / "fold_0"
    folder.mkdir()
    return folder


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
def test_what_is_complete_only_with_its_base(changes: dict[str, Any], expected: bool) -> None:
    assert needs_base(configuration(**changes)) is expected


def test_where_a_training_starts_from(checkpoints: Path, tmp_path: Path) -> None:
    assert find_base_file(configuration(initial_weights="random")) is None
    with pytest.raises(UserError, match="samnet_download_checkpoint tiny"):
        find_base_file(configuration())
    (checkpoints / "sam_tiny.pth").write_bytes(RELEASED)
    assert find_base_file(configuration()) == checkpoints / "sam_tiny.pth"

    with pytest.raises(
        UserError, match=r"is .medsam.pth., and there is no medsam.pth or .*checkpoints"
    ):
        find_base_file(configuration(initial_weights="medsam.pth"))
    (checkpoints / "medsam.pth").write_bytes(OTHER)
    assert find_base_file(configuration(initial_weights="medsam.pth")) == checkpoints / "medsam.pth"
    (tmp_path / "medsam.pth").write_bytes(OTHER)
    assert find_base_file(configuration(initial_weights="medsam.pth")) == Path("medsam.pth")
    absolute = str(tmp_path / "medsam.pth")
    assert find_base_file(configuration(initial_weights=absolute)) == tmp_path / "medsam.pth"


def test_a_run_notes_its_base(
    checkpoints: Path, run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = checkpoints / "sam_tiny.pth"
    file.write_bytes(RELEASED)
    record_base(configuration(), run, file)
    assert load_base(run / BASE_FILE) == Base("tiny", "sam_tiny.pth", digest(RELEASED))
    assert not caplog.records
    assert find_model_base(configuration(), run) == file
    record_base(configuration(initial_weights="random"), run, None)
    assert not (run / BASE_FILE).exists()


def test_other_weights_under_the_released_name_are_mentioned(
    checkpoints: Path, run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (checkpoints / "sam_tiny.pth").write_bytes(OTHER)
    with caplog.at_level(logging.WARNING):
        record_base(configuration(), run, checkpoints / "sam_tiny.pth")
    assert "is not the released file" in caplog.text
    assert load_base(run / BASE_FILE).sha256 == digest(OTHER)


def test_a_model_on_the_released_weights_does_not_take_others(checkpoints: Path, run: Path) -> None:
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


def test_a_model_on_other_weights_does_not_take_the_released_ones(
    checkpoints: Path, run: Path
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


def test_the_place_of_the_training_comes_first(
    checkpoints: Path, run: Path, tmp_path: Path
) -> None:
    for folder in (checkpoints, tmp_path):
        (folder / "medsam.pth").write_bytes(OTHER)
    save_base(Base("tiny", "medsam.pth", digest(OTHER)), run)
    assert (
        find_model_base(configuration(initial_weights=str(tmp_path / "medsam.pth")), run)
        == tmp_path / "medsam.pth"
    )
    assert find_model_base(configuration(initial_weights="random"), run) is None


def test_a_model_without_a_note_is_taken_with_a_warning(
    checkpoints: Path, run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (checkpoints / "sam_tiny.pth").write_bytes(OTHER)
    with caplog.at_level(logging.WARNING):
        assert find_model_base(configuration(), run) == checkpoints / "sam_tiny.pth"
    assert "is unknown" in caplog.text


def test_looking_for_a_base(checkpoints: Path) -> None:
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
def test_a_damaged_note_is_an_error(run: Path, content: Any) -> None:
    (run / BASE_FILE).write_text(json.dumps(content))
    with pytest.raises(UserError, match=BASE_FILE):
        load_base(run / BASE_FILE)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        base_sha256(tmp_path)
