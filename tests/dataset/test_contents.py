from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from samnet.dataset.cases import RawDataset
from samnet.dataset.contents import (
    UNREADABLE,
    case_key,
    content_keys,
    hash_files,
    known_of,
    load_hashes,
)

MEMORY_OF_THE_PROCESS = Path("/proc/self/mem")  # a regular file; reading it from 0 is an I/O error


@pytest.fixture
def dataset(make_dataset: Callable[..., Path], folders: dict[str, Path]) -> RawDataset:
    make_dataset(folders["raw"], num_cases=2)
    return RawDataset.load(501)


def keys_of(dataset: RawDataset) -> dict[str, str]:
    return content_keys(dataset, dataset.cases, processes=0)


def replace_content(file: Path, keep_date: bool) -> None:
    """Replace a file by another one of the same size.

    Where its date is kept as well, only reading the file can tell that it is another one.
    """
    before = file.stat()
    file.write_bytes(bytes(before.st_size))
    date = before.st_mtime_ns if keep_date else before.st_mtime_ns - 1
    os.utime(file, ns=(date, date))


def test_content_keys_reads_no_known_file_again(dataset: RawDataset) -> None:
    keys = keys_of(dataset)
    remembered = dataset.folder.hashes_file.read_bytes()
    assert len(load_hashes(dataset)) == 4
    for case in dataset.cases:
        for file in case.raw_files():
            replace_content(file, keep_date=True)
    assert keys_of(dataset) == keys
    assert dataset.folder.hashes_file.read_bytes() == remembered
    dataset.folder.hashes_file.unlink()
    assert not set(keys_of(dataset).values()) & set(keys.values())


def test_content_keys_reads_a_file_of_another_date_once(dataset: RawDataset) -> None:
    keys = keys_of(dataset)
    touched = dataset.folder.training_images / "case_01_0000.nii.gz"
    os.utime(touched, ns=(1, 1))
    # Any other file, were it read, would change the key of a case.
    for other in (
        "case_00_0000.nii.gz",
        "../labelsTr/case_00.nii.gz",
        "../labelsTr/case_01.nii.gz",
    ):
        replace_content(dataset.folder.training_images / other, keep_date=True)
    assert keys_of(dataset) == keys
    assert load_hashes(dataset)["imagesTr/case_01_0000.nii.gz"].mtime_ns == 1
    replace_content(touched, keep_date=True)
    assert keys_of(dataset) == keys


def test_content_keys_finds_another_content_of_the_same_size(dataset: RawDataset) -> None:
    keys = keys_of(dataset)
    replace_content(dataset.folder.training_labels / "case_01.nii.gz", keep_date=False)
    changed = keys_of(dataset)
    assert changed["case_00"] == keys["case_00"]
    assert changed["case_01"] != keys["case_01"]


def test_content_keys_finds_another_size_of_the_same_date(dataset: RawDataset) -> None:
    keys = keys_of(dataset)
    file = dataset.folder.training_labels / "case_01.nii.gz"
    date = file.stat().st_mtime_ns
    file.write_bytes(file.read_bytes() + b"\0")
    os.utime(file, ns=(date, date))
    assert keys_of(dataset)["case_01"] != keys["case_01"]


def test_content_keys_are_the_same_from_worker_processes(dataset: RawDataset) -> None:
    keys = keys_of(dataset)
    dataset.folder.hashes_file.unlink()
    assert content_keys(dataset, dataset.cases, processes=1) == keys


@pytest.mark.parametrize(
    "content", ["", "[]", '{"files": []}', '{"files": {"a": {"size": "large"}}}', '{"other": 1}']
)
def test_content_keys_computes_damaged_hashes_again(dataset: RawDataset, content: str) -> None:
    keys = keys_of(dataset)
    dataset.folder.hashes_file.write_text(content)
    assert load_hashes(dataset) == {}
    assert keys_of(dataset) == keys
    assert len(json.loads(dataset.folder.hashes_file.read_text())["files"]) == 4


def test_remember_hashes_adds_to_those_of_other_cases(dataset: RawDataset) -> None:
    for case in dataset.cases:
        content_keys(dataset, [case], processes=0)
    assert len(load_hashes(dataset)) == 4


def test_what_is_read_otherwise_is_looked_at_again_in_another_version(dataset: RawDataset) -> None:
    """The hashes are kept: the files are not read again as a whole."""
    keys = keys_of(dataset)
    before = load_hashes(dataset)
    file = dataset.folder.hashes_file
    content = json.loads(file.read_text())
    for entry in content["files"].values():
        entry["reading_changes"] = "of another version"
    file.write_text(json.dumps(content | {"reading_version": content["reading_version"] - 1}))
    assert {entry.reading_changes for entry in load_hashes(dataset).values()} == {None}
    assert keys_of(dataset) == keys
    assert load_hashes(dataset) == before


def test_known_of_selects_the_files_of_one_case(dataset: RawDataset) -> None:
    keys_of(dataset)
    known = known_of(dataset.cases[1], dataset.folder.raw, load_hashes(dataset))
    assert set(known) == {"imagesTr/case_01_0000.nii.gz", "labelsTr/case_01.nii.gz"}


def header_without_voxels(image: Path) -> None:
    image.unlink()
    image.with_suffix(".mhd").write_text("NDims = 3\n")


def unreadable(image: Path) -> None:
    if not MEMORY_OF_THE_PROCESS.is_file():
        pytest.skip("this operating system has no file that cannot be read")
    image.unlink()
    image.symlink_to(MEMORY_OF_THE_PROCESS)


@pytest.mark.parametrize("spoil", [header_without_voxels, unreadable])
def test_content_keys_has_no_key_for_an_unreadable_file_and_all_others(
    make_dataset: Callable[..., Path], folders: dict[str, Path], spoil: Callable[[Path], None]
) -> None:
    folder = make_dataset(folders["raw"], num_cases=2, file_ending=".mha")
    whole = keys_of(RawDataset.load(501))
    spoil(folder / "imagesTr" / "case_00_0000.mha")
    keys = keys_of(RawDataset.load(501))
    assert keys == {"case_00": UNREADABLE, "case_01": whole["case_01"]}


def test_content_keys_needs_no_folder_to_remember_hashes_in(
    dataset: RawDataset, folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = keys_of(dataset)
    preprocessed = folders["raw"].parent / "elsewhere"
    preprocessed.mkdir()
    no_folder = preprocessed / dataset.folder.raw.name
    no_folder.write_text("no folder")
    monkeypatch.setenv("samnet_preprocessed", str(preprocessed))
    reloaded = RawDataset.load(501)
    assert no_folder in reloaded.folder.hashes_file.parents
    assert keys_of(reloaded) == keys


def test_case_key_depends_on_names_and_contents_but_not_on_the_folder(
    dataset: RawDataset, tmp_path: Path
) -> None:
    case = dataset.cases[0]
    key = case_key(hash_files(case, dataset.folder.raw, {}))
    assert case_key(hash_files(case, tmp_path / "elsewhere", {})) == key
    assert case_key(hash_files(dataset.cases[1], dataset.folder.raw, {})) != key
