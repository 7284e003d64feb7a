"""What is written survives a power cut: it is on the disk before it gets its final name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from builders.disk import fill_disk, record_disk
from builders.tiny import make_case

from samnet.core.files import atomic_path, read_json, write_json
from samnet.training.history import History


def test_file_is_on_the_disk_before_its_final_name_and_the_name_is_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = record_disk(monkeypatch)
    write_json(tmp_path / "plan.json", {"a": 1})
    renamed = recorder.order("rename", tmp_path / "plan.json")
    assert recorder.order("flush", tmp_path / "plan.json") < renamed
    assert renamed < recorder.order("flush", tmp_path)


def test_every_file_of_a_folder_is_on_the_disk_before_its_final_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = record_disk(monkeypatch)
    with atomic_path(tmp_path / "model") as temporary:
        (temporary / "fold_0").mkdir(parents=True)
        (temporary / "fold_0" / "plan.json").write_text("{}")
        (temporary / "dataset.json").write_text("{}")
        (temporary / "link").symlink_to("dataset.json")
    model = tmp_path / "model"
    renamed = recorder.order("rename", model)
    for path in (model, model / "fold_0", model / "fold_0" / "plan.json", model / "dataset.json"):
        assert recorder.order("flush", path) < renamed, path
    assert renamed < recorder.order("flush", tmp_path)


def test_file_that_cannot_be_flushed_does_not_replace_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_json(tmp_path / "plan.json", {"a": 1})
    fill_disk(monkeypatch)
    with pytest.raises(OSError, match="No space left"):
        write_json(tmp_path / "plan.json", {"a": 2})
    assert read_json(tmp_path / "plan.json") == {"a": 1}
    assert [entry.name for entry in tmp_path.iterdir()] == ["plan.json"]


def test_prepared_case_has_its_record_when_all_its_arrays_are_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = record_disk(monkeypatch)
    labels = np.ones((3, 8, 8), dtype=np.uint8)
    make_case(tmp_path, labels[None], labels, views=(0, 1))
    [record] = tmp_path.glob("*.json")
    arrays = list(tmp_path.glob("*.b2nd"))
    assert len(arrays) == 4
    for file in arrays:
        assert recorder.order("flush", file) < recorder.order("rename", file)
        assert recorder.order("rename", file) < recorder.order("rename", record)


def test_row_of_an_epoch_is_on_the_disk_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = record_disk(monkeypatch)
    history = History(tmp_path, 0)
    history.add({"epoch": 1})
    first = recorder.order("flush", history.file)
    history.add({"epoch": 2})
    assert recorder.order("flush", history.file) > first
