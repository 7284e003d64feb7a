"""Whether raw files have changed, by what they hold."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

import samnet.dataset.contents as module
from samnet.dataset.cases import RawDataset
from samnet.dataset.contents import (
    LEDGER,
    UNREADABLE,
    case_key,
    content_keys,
    hash_files,
    load_hashes,
)


@pytest.fixture
def dataset(make_dataset: Callable[..., Path], folders: dict[str, Path]) -> RawDataset:
    make_dataset(folders["raw"], num_cases=2)
    return RawDataset.load(501)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are read from here on."""
    names: list[str] = []
    sha256 = module.file_sha256

    def spy(file: Path) -> str:
        names.append(file.name)
        return sha256(file)

    monkeypatch.setattr(module, "file_sha256", spy)
    return names


def ledger(folders: dict[str, Path]) -> Path:
    return folders["preprocessed"] / "Dataset501_Tiny" / LEDGER


def test_files_are_read_once(
    dataset: RawDataset, read: list[str], folders: dict[str, Path]
) -> None:
    keys = content_keys(dataset, dataset.cases, 0)
    assert len(read) == 4
    written = ledger(folders).read_bytes()
    assert content_keys(dataset, dataset.cases, 0) == keys
    assert len(read) == 4
    assert ledger(folders).read_bytes() == written


def test_another_date_is_reason_to_read_and_no_more(dataset: RawDataset, read: list[str]) -> None:
    keys = content_keys(dataset, dataset.cases, 0)
    read.clear()
    os.utime(dataset.folder.training_images / "case_01_0000.nii.gz", ns=(1, 1))
    for _ in range(2):
        assert content_keys(dataset, dataset.cases, 0) == keys
    assert read == ["case_01_0000.nii.gz"]


def test_another_content_of_the_same_length_changes_the_key_of_its_case(
    dataset: RawDataset,
) -> None:
    keys = content_keys(dataset, dataset.cases, 0)
    file = dataset.folder.training_labels / "case_01.nii.gz"
    file.write_bytes(bytes(len(file.read_bytes())))
    os.utime(file, ns=(1, 1))
    changed = content_keys(dataset, dataset.cases, 0)
    assert changed["case_00"] == keys["case_00"]
    assert changed["case_01"] != keys["case_01"]


def test_worker_processes_find_the_same(dataset: RawDataset, folders: dict[str, Path]) -> None:
    keys = content_keys(dataset, dataset.cases, 0)
    ledger(folders).unlink()
    assert content_keys(dataset, dataset.cases, 1) == keys


@pytest.mark.parametrize(
    "content", ["", "[]", '{"files": []}', '{"files": {"a": {"size": "large"}}}', '{"other": 1}']
)
def test_a_damaged_memory_is_no_loss(
    dataset: RawDataset, folders: dict[str, Path], content: str
) -> None:
    keys = content_keys(dataset, dataset.cases, 0)
    ledger(folders).write_text(content)
    assert load_hashes(dataset) == {}
    assert content_keys(dataset, dataset.cases, 0) == keys
    assert len(json.loads(ledger(folders).read_text())["files"]) == 4


def test_parts_of_the_cases_add_to_what_is_remembered(dataset: RawDataset) -> None:
    for case in dataset.cases:
        content_keys(dataset, [case], 0)
    assert len(load_hashes(dataset)) == 4


def test_a_file_that_cannot_be_read_has_no_key_and_stops_no_other(
    dataset: RawDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(file: Path) -> str:
        if "case_00" in file.name:
            raise OSError(5, "Input/output error", str(file))
        return "0" * 64

    monkeypatch.setattr(module, "file_sha256", fail)
    keys = content_keys(dataset, dataset.cases, 0)
    assert keys["case_00"] == UNREADABLE != keys["case_01"]


def test_without_a_place_to_remember_nothing_fails(
    dataset: RawDataset, folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = content_keys(dataset, dataset.cases, 0)
    (folders["raw"].parent / "file").write_text("no folder")
    monkeypatch.setenv("samnet_preprocessed", str(folders["raw"].parent / "file"))
    assert content_keys(dataset, dataset.cases, 0) == keys


def test_the_key_is_of_names_and_contents_not_of_places(
    dataset: RawDataset, tmp_path: Path
) -> None:
    case = dataset.cases[0]
    key = case_key(hash_files(case, dataset.folder.raw, {}))
    assert case_key(hash_files(case, tmp_path / "elsewhere", {})) == key
    assert case_key(hash_files(dataset.cases[1], dataset.folder.raw, {})) != key
