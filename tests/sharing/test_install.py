"""Archives by somebody else: damaged ones, and those that are meant to do harm."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import random
import re
import shutil
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from builders.archives import (
    WEIGHTS,
    Contents,
    assert_nothing_installed,
    assert_refused,
    set_keys,
)
from builders.models import DATASET

from samnet.core.errors import SamnetError, UserError
from samnet.core.files import remove_partial_files
from samnet.models.model_folder import ModelFolder, list_models
from samnet.sharing.archive_checks import DEFAULT_LIMITS, UnsafeArchive
from samnet.sharing.export import Member
from samnet.sharing.install import install_model, unpack_member

Change = Callable[..., Path]


def test_unpack_member_stops_a_stream_that_is_longer_than_the_manifest_says(
    tmp_path: Path,
) -> None:
    """zipfile stops at the declared size; this does not rely on it."""
    size = 3 * 2**20
    member = Member(size, hashlib.sha256(bytes(size)).hexdigest())
    with pytest.raises(UnsafeArchive, match=f"{WEIGHTS}' unpacks to more than {size} bytes"):
        unpack_member(BytesIO(bytes(size + 1)), WEIGHTS, member, tmp_path / "longer")
    assert (tmp_path / "longer" / WEIGHTS).stat().st_size <= size
    unpack_member(BytesIO(bytes(size)), WEIGHTS, member, tmp_path / "exact")
    assert (tmp_path / "exact" / WEIGHTS).stat().st_size == size


def test_install_refuses_another_content_than_was_exported(change: Change, results: Path) -> None:
    def alter(contents: Contents) -> None:
        contents[WEIGHTS] = contents[WEIGHTS][:-1] + bytes([contents[WEIGHTS][-1] ^ 1])

    assert_refused(change(alter, agree=False), results, "is not what was exported: its sha256 is")


@pytest.mark.parametrize(
    "content", [b"", b"\x80\x04}.", b"{}", b"\xff" * 100, b"\x10\0\0\0\0\0\0\0{}"]
)
def test_install_refuses_weights_that_are_not_safetensors(
    change: Change, results: Path, content: bytes
) -> None:
    file = change(lambda contents: contents.update({WEIGHTS: content}))
    assert_refused(file, results, "cannot be read as safetensors")


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        (
            "manifest.json",
            {"schema_version": 2},
            "has the version 2, this samnet reads version 1; update samnet",
        ),
        ("manifest.json", {"schema_version": "1"}, "has the version '1'"),
        ("manifest.json", {"author": "me"}, "unknown key 'author'"),
        ("manifest.json", {"base": {"backbone": "vit_b"}}, "'file_name' is missing"),
        ("manifest.json", {"dataset_name": "../../evil"}, "cannot name a folder"),
        ("manifest.json", {"dataset_name": "Evil"}, "is not a data set name"),
        ("manifest.json", {"configuration": ".."}, "cannot name a folder"),
        ("manifest.json", {"configuration": "a/../../evil"}, "cannot name a folder"),
        ("manifest.json", {"configuration": ".hidden"}, "cannot name a folder"),
        ("manifest.json", {"configuration": "lora\n"}, "cannot name a folder"),
        ("manifest.json", {"configuration": ""}, "cannot name a folder"),
        (
            "manifest.json",
            {"configuration": "other"},
            "the plan of fold_0 is of Dataset007_Synthetic, scratch, not what",
        ),
        ("fold_0/plan.json", {"dataset_name": "Dataset008_Liver"}, "the plan of fold_0 is of"),
        ("fold_0/plan.json", {"labels": {"background": 0, "other": 1}}, "the plan of fold_0 is of"),
        (
            "fold_0/plan.json",
            {"schema_version": 99},
            "no plan of schema version .*train the model again",
        ),
        ("fold_0/plan.json", {"command": "rm"}, "unknown key 'command'"),
        ("dataset.json", {"labels": {}}, "labels"),
    ],
)
def test_install_refuses_contents_that_contradict_each_other(
    change: Change, results: Path, name: str, values: dict[str, Any], message: str
) -> None:
    file = change(lambda contents: set_keys(contents, name, **values))
    with pytest.raises(UserError, match=message):
        install_model(file)
    assert_nothing_installed(results)


def test_install_refuses_a_base_that_the_manifest_does_not_name(
    change: Change, results: Path
) -> None:
    base = {"backbone": "vit_b", "file_name": "sam.pth", "sha256": "a" * 64}
    message = "base.json of fold_0 is not what manifest.json says"

    def add_to_the_fold(contents: Contents) -> None:
        contents["fold_0/base.json"] = json.dumps(base).encode()

    assert_refused(change(add_to_the_fold), results, message)
    file = change(lambda contents: set_keys(contents, "manifest.json", base=base))
    assert_refused(file, results, message)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "not valid JSON"),
        (b"{}", "another version of samnet"),
        (b" " * (DEFAULT_LIMITS.text_bytes + 1), "expected at most"),
    ],
)
def test_install_refuses_a_damaged_calibration(
    change: Change, results: Path, content: bytes, message: str
) -> None:
    file = change(lambda contents: contents.update({"confidence.json": content}))
    with pytest.raises(UserError, match=message):
        install_model(file)
    assert_nothing_installed(results)


def test_install_refuses_damaged_postprocessing(change: Change, results: Path) -> None:
    content = b'{"structures": {"spleen": {"fill_holes": true}}}'
    file = change(lambda contents: contents.update({"postprocessing.json": content}))
    with pytest.raises(UserError, match="has rules for 'spleen'"):
        install_model(file)
    assert_nothing_installed(results)


@pytest.mark.parametrize("named", ["/etc/passwd.pth", "weights/a.pth", "C:\\a.pth"])
def test_install_refuses_a_plan_that_names_a_file_of_this_machine(
    change: Change, results: Path, named: str
) -> None:
    def alter(contents: Contents) -> None:
        plan = json.loads(contents["fold_0/plan.json"])
        decisions = plan["configurations"]["scratch"]["decisions"]
        decisions["initial_weights"]["value"] = named
        contents["fold_0/plan.json"] = json.dumps(plan).encode()

    message = f"names the file {re.escape(repr(named))} on this machine"
    assert_refused(change(alter), results, message)


def test_install_refuses_regions_that_are_written_otherwise(change: Change, results: Path) -> None:
    """Predictions hold the labels that the order names."""
    labels = {"background": 0, "left": [1, 2], "right": [3, 4]}

    def alter(contents: Contents) -> None:
        for name, order in (("fold_0/plan.json", [1, 3]), ("dataset.json", [2, 4])):
            set_keys(contents, name, labels=labels, regions_class_order=order)

    assert_refused(change(alter), results, "the plan of fold_0 is of")


def test_install_refuses_what_is_no_archive(tmp_path: Path, results: Path) -> None:
    file = tmp_path / "model.zip"
    with pytest.raises(UserError, match="no such file"):
        install_model(file)
    for content in (b"", b"PK\x03\x04", b"\x80\x04}.", b"PK\x05\x06" + bytes(18)):
        file.write_bytes(content)
        assert_refused(file, results, "damaged|has no manifest.json")


def test_install_refuses_a_cut_file(archive: Path, results: Path) -> None:
    content = archive.read_bytes()
    for length in (10, len(content) // 2, len(content) - 30):
        archive.write_bytes(content[:length])
        assert_refused(archive, results, "damaged")


def test_install_never_crashes_on_damage_and_never_leaves_half_a_model(
    archive: Path, results: Path
) -> None:
    """Bytes are changed at random.

    The archive is refused or, where they mean nothing, installed as what was exported.
    """
    generator = random.Random(0)
    expected = contents_of(install_model(archive)[0])
    num_refused = num_installed = 0
    original = archive.read_bytes()
    file = archive.with_name("damaged.zip")
    # The end holds the directory, the beginning the manifest: what there is to parse.
    places = [*range(600), *range(len(original) - 500, len(original))]
    for _ in range(200):
        content = bytearray(original)
        for _ in range(generator.randint(1, 3)):
            content[generator.choice(places)] = generator.randrange(256)
        file.write_bytes(content)
        try:
            folder, _ = install_model(file, force=True)
        except UserError:
            num_refused += 1
        else:
            num_installed += 1
            assert contents_of(folder) == expected
        assert list(results.rglob(".partial-*")) == []
    assert num_refused > 50
    assert num_installed > 5


def test_install_replaces_a_model_only_on_request(archive: Path, results: Path) -> None:
    folder, _ = install_model(archive)
    (folder / "mine.txt").write_text("notes")
    message = r"is there already; --name NAME installs good\.zip next to it, --force replaces it"
    with pytest.raises(UserError, match=message):
        install_model(archive)
    assert (folder / "mine.txt").is_file()
    named, _ = install_model(archive, name="theirs")
    assert named == results / DATASET / "theirs"
    other, _ = install_model(archive, name="Dataset099_Other/lora")
    assert other == results / "Dataset099_Other" / "lora"
    assert list_models() == [ModelFolder(path) for path in sorted([folder, named, other])]
    replaced, _ = install_model(archive, force=True)
    assert replaced == folder
    assert not (folder / "mine.txt").exists()
    assert list(results.rglob(".partial-*")) == []


@pytest.mark.parametrize(
    "name", ["../evil", "a/b", "a/b/c", "/abs", "", "Dataset001_A/", "Dataset001_A/../x", ".x"]
)
def test_install_refuses_names_that_name_no_folder(archive: Path, results: Path, name: str) -> None:
    with pytest.raises(UserError, match=r"--name|is not a data set name"):
        install_model(archive, name=name)
    assert_nothing_installed(results)


def contents_of(folder: Path) -> dict[str, bytes]:
    files = [file for file in folder.rglob("*") if file.is_file()]
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def test_install_leaves_the_old_model_when_the_new_one_is_refused(
    archive: Path, change: Change, results: Path
) -> None:
    """The new one is unpacked before its plan is found to be that of another data set."""
    install_model(archive)
    before = contents_of(results)
    other = {"dataset_name": "Dataset008_Liver"}
    file = change(lambda contents: set_keys(contents, "fold_0/plan.json", **other))
    with pytest.raises(UserError, match="the plan of fold_0 is of"):
        install_model(file, force=True)
    assert contents_of(results) == before


def test_install_leaves_the_old_model_when_the_disk_fails(
    archive: Path, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_model(archive)
    before = contents_of(results)

    def fail(handle: int) -> None:
        raise OSError("the disk is gone")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="the disk is gone"):
        install_model(archive, force=True)
    assert contents_of(results) == before
    assert list(results.rglob(".partial-*")) == []


def end_before_the_new_model_has_its_place(file: Path, patch: pytest.MonkeyPatch) -> None:
    """Install in a process of its own that ends at once when the old model has been moved away."""
    rename = os.replace

    def end(source: Path, target: Path) -> None:
        if Path(source).parent.name.startswith(".partial-"):
            os._exit(9)
        rename(source, target)

    patch.setattr(os, "replace", end)
    process = multiprocessing.get_context("fork").Process(
        target=install_model, args=(file,), kwargs={"force": True}
    )
    process.start()
    process.join()
    assert process.exitcode == 9
    patch.undo()


def test_install_that_was_killed_keeps_the_replaced_model(
    archive: Path, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = install_model(archive)
    (folder / "mine.txt").write_text("notes")
    with monkeypatch.context() as patch:
        end_before_the_new_model_has_its_place(archive, patch)
    assert not folder.exists()
    assert list_models() == []
    remove_partial_files(folder.parent)
    with pytest.raises(UserError, match="is there already"):
        install_model(archive)
    assert (folder / "mine.txt").read_text() == "notes"
    assert [entry.name for entry in folder.parent.iterdir()] == [folder.name]
    install_model(archive, force=True)
    assert not (folder / "mine.txt").exists()
    assert [entry.name for entry in folder.parent.iterdir()] == [folder.name]


def test_install_puts_the_old_model_back_when_the_new_one_cannot_have_its_place(
    archive: Path, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = install_model(archive)
    before = contents_of(results)
    rename = os.replace

    def fail(source: Path, target: Path) -> None:
        if Path(source).parent.name.startswith(".partial-"):
            raise OSError("the disk is gone")
        rename(source, target)

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="the disk is gone"):
        install_model(archive, force=True)
    assert contents_of(results) == before
    assert [entry.name for entry in folder.parent.iterdir()] == [folder.name]


def test_list_models_leaves_out_a_half_installed_model(archive: Path, results: Path) -> None:
    folder, _ = install_model(archive)
    os.replace(folder, folder.with_name(".partial-12345678-scratch"))
    assert list_models() == []


def test_install_refuses_to_start_on_a_full_disk(
    archive: Path, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(archive.parent)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=100))
    with pytest.raises(SamnetError, match="the model needs"):
        install_model(archive)
    assert_nothing_installed(results)


def test_install_needs_room_for_all_files_together(
    archive: Path, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(archive.parent)
    _, manifest = install_model(archive, name="first")
    needed = sum(member.size for member in manifest.files.values())
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=needed - 1))
    with pytest.raises(SamnetError, match="the model needs"):
        install_model(archive)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=needed))
    install_model(archive)
