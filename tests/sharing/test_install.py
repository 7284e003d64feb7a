"""Archives by somebody else: damaged ones, and those that are meant to do harm."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from builders.models import DATASET, make_model, make_plan
from builders.tiny import add_tiny_backbone

from samnet.core.errors import SamnetError, UserError
from samnet.inference.find_model import list_models
from samnet.sharing import install
from samnet.sharing.export import export_model
from samnet.sharing.install import install_model

Contents = dict[str, bytes]
WEIGHTS = "fold_0/checkpoint_final.safetensors"


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("samnet_results", str(tmp_path / "results"))
    return tmp_path / "results"


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The content of a good archive, of a network that needs no base."""
    folder = tmp_path_factory.mktemp("good")
    with pytest.MonkeyPatch.context() as patch:
        add_tiny_backbone(patch)
        make_model(folder, make_plan("scratch", head="linear", input_size=32))
        export_model(folder, folder / "good.zip")
    return (folder / "good.zip").read_bytes()


@pytest.fixture
def archive(good: bytes, tmp_path: Path, results: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    add_tiny_backbone(monkeypatch)
    (tmp_path / "good.zip").write_bytes(good)
    return tmp_path / "good.zip"


@pytest.fixture
def change(archive: Path) -> Callable[..., Path]:
    """Write the archive anew, changed by a function of its contents, with a manifest that agrees or as it was."""

    def changed(alter: Callable[[Contents], None], *, agree: bool = True) -> Path:
        with zipfile.ZipFile(archive) as source:
            contents = {entry.filename: source.read(entry) for entry in source.infolist()}
        alter(contents)
        if agree:
            _agree(contents)
        file = archive.with_name("changed.zip")
        with zipfile.ZipFile(file, "w") as target:
            for name, content in contents.items():
                target.writestr(name, content)
        return file

    return changed


def _agree(contents: Contents) -> None:
    manifest = json.loads(contents["manifest.json"])
    manifest["files"] = {
        name: {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for name, content in contents.items()
        if name != "manifest.json"
    }
    contents["manifest.json"] = json.dumps(manifest).encode()


def with_json(contents: Contents, name: str, **values: Any) -> None:
    contents[name] = json.dumps(json.loads(contents[name]) | values).encode()


def assert_nothing_installed(results: Path) -> None:
    assert [path for path in results.rglob("*") if path.is_file()] == []


def assert_refused(file: Path, results: Path, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        install_model(file)
    assert str(file) in str(caught.value)
    assert_nothing_installed(results)
    assert (
        sorted(entry.name for entry in results.parent.iterdir() if entry.name.startswith("evil"))
        == []
    )


@pytest.mark.parametrize(
    "name",
    [
        "../evil.json",
        "fold_0/../../evil.json",
        "/tmp/evil.json",
        "C:/evil.json",
        "C:\\evil.json",
        "fold_0\\plan.json",
        "\\\\server\\evil",
        "fold_0/evil.pth",
        "fold_0/plan.json/evil",
        "fold_0/",
        "fold_²/plan.json",
        "fold_00/plan.json",
        "FOLD_1/plan.json",
        "plan.json",
        "./fold_0/base.json",
        "evil.py",
        ".partial-x/plan.json",
        " ",
    ],
)
@pytest.mark.parametrize("agree", [True, False], ids=["in the manifest", "not in it"])
def test_names_that_are_not_a_models(
    change: Callable[..., Path], results: Path, name: str, agree: bool
) -> None:
    file = change(lambda contents: contents.update({name: b"{}"}), agree=agree)
    assert_refused(file, results, "which is no file of a model|is not of the size|damaged")


def test_links_and_special_files(change: Callable[..., Path], results: Path) -> None:
    for kind in (stat.S_IFLNK, stat.S_IFDIR, stat.S_IFIFO, stat.S_IFCHR):
        file = change(lambda contents: None)
        with zipfile.ZipFile(file) as source:
            contents = {entry.filename: source.read(entry) for entry in source.infolist()}
        with zipfile.ZipFile(file, "w") as target:
            for name, content in contents.items():
                entry = zipfile.ZipInfo(name)
                entry.external_attr = (kind if name == WEIGHTS else stat.S_IFREG) << 16
                target.writestr(entry, content)
        assert_refused(file, results, "is a link or another special file")


def test_a_name_twice(archive: Path, results: Path) -> None:
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(archive, "a") as target:
        target.writestr("fold_0/plan.json", target.read("fold_0/plan.json"))
    assert_refused(archive, results, "each of the files in manifest.json once")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_unusual_compression(archive: Path, results: Path, method: int) -> None:
    with zipfile.ZipFile(archive) as source:
        contents = {entry.filename: source.read(entry) for entry in source.infolist()}
    with zipfile.ZipFile(archive, "w") as target:
        for name, content in contents.items():
            target.writestr(name, content, compress_type=method if name == "dataset.json" else None)
    assert_refused(archive, results, "compressed in an unusual way")


def test_an_archive_that_says_it_unpacks_to_too_much(
    change: Callable[..., Path], results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(install, "MAX_TEXT_BYTES", 50_000)
    file = change(lambda contents: contents.update({"dataset.json": b" " * 60_000}))
    assert_refused(file, results, "'dataset.json' has 60000 bytes, expected at most 50000")
    monkeypatch.undo()
    monkeypatch.setenv("samnet_results", str(results))
    monkeypatch.setattr(install, "MAX_WEIGHTS_BYTES", 1000)
    assert_refused(change(lambda contents: None), results, "expected at most 1000")


def test_a_bomb(archive: Path, results: Path) -> None:
    """A megabyte for each kilobyte: every single file is small enough."""
    bomb = archive.with_name("bomb.zip")
    contents: Contents = {"manifest.json": b"", "dataset.json": b"{}"}
    for fold in range(8):
        contents |= {
            f"fold_{fold}/plan.json": b" " * 10**6,
            f"fold_{fold}/checkpoint_final.safetensors": bytes(10**6),
        }
    with zipfile.ZipFile(archive) as source:
        contents["manifest.json"] = source.read("manifest.json")
    _agree(contents)
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as target:
        for name, content in contents.items():
            target.writestr(name, content)
    assert_refused(bomb, results, "bytes would become 16000002")


def test_a_stream_longer_than_it_says(
    archive: Path, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """zipfile stops at the declared size by itself; should it ever not, we do."""

    class Endless:
        def __enter__(self) -> Endless:
            return self

        def __exit__(self, *error: object) -> None:
            pass

        def read(self, size: int) -> bytes:
            return bytes(size)

    opened = zipfile.ZipFile.open

    def open_endless(self: zipfile.ZipFile, entry: Any, *rest: Any) -> Any:
        return Endless() if entry.filename == WEIGHTS else opened(self, entry, *rest)

    monkeypatch.setattr(zipfile.ZipFile, "open", open_endless)
    assert_refused(archive, results, "unpacks to more than")


def test_sizes_that_lie(archive: Path, results: Path) -> None:
    """The size in the directory of the archive is smaller than what is there."""
    content = bytearray(archive.read_bytes())
    with zipfile.ZipFile(archive) as source:
        size = source.getinfo(WEIGHTS).file_size
    where = content.rindex(WEIGHTS.encode()) - 46 + 24
    assert content[where : where + 4] == size.to_bytes(4, "little")
    content[where : where + 4] = (size - 8).to_bytes(4, "little")
    archive.write_bytes(content)
    assert_refused(archive, results, "is not of the size that manifest.json says")


def test_too_many_files(
    change: Callable[..., Path], results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(install, "MAX_FILES", 2)
    assert_refused(change(lambda contents: None), results, "holds 3 files, expected at most 2")


def test_another_content_than_was_exported(change: Callable[..., Path], results: Path) -> None:
    def alter(contents: Contents) -> None:
        contents[WEIGHTS] = contents[WEIGHTS][:-1] + bytes([contents[WEIGHTS][-1] ^ 1])

    assert_refused(change(alter, agree=False), results, "is not what was exported: its sha256 is")


@pytest.mark.parametrize(
    "content", [b"", b"\x80\x04}.", b"{}", b"\xff" * 100, b"\x10\0\0\0\0\0\0\0{}"]
)
def test_weights_that_are_none(change: Callable[..., Path], results: Path, content: bytes) -> None:
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
def test_contents_that_contradict_each_other(
    change: Callable[..., Path], results: Path, name: str, values: dict[str, Any], message: str
) -> None:
    file = change(lambda contents: with_json(contents, name, **values))
    with pytest.raises(UserError, match=message):
        install_model(file)
    assert_nothing_installed(results)


def test_a_base_that_is_not_the_manifests(change: Callable[..., Path], results: Path) -> None:
    base = {"backbone": "vit_b", "file_name": "sam.pth", "sha256": "a" * 64}

    def only_in_the_fold(contents: Contents) -> None:
        contents["fold_0/base.json"] = json.dumps(base).encode()

    assert_refused(
        change(only_in_the_fold), results, "base.json of fold_0 is not what manifest.json says"
    )
    file = change(lambda contents: with_json(contents, "manifest.json", base=base))
    assert_refused(file, results, "base.json of fold_0 is not what manifest.json says")


def test_a_plan_that_names_a_file_of_this_machine(
    change: Callable[..., Path], results: Path
) -> None:
    def alter(contents: Contents) -> None:
        plan = json.loads(contents["fold_0/plan.json"])
        plan["configurations"]["scratch"]["decisions"]["initial_weights"]["value"] = (
            "/etc/passwd.pth"
        )
        contents["fold_0/plan.json"] = json.dumps(plan).encode()

    assert_refused(change(alter), results, "names the file '/etc/passwd.pth' on this machine")


@pytest.mark.parametrize("missing", ["manifest.json", "dataset.json", "fold_0/plan.json", WEIGHTS])
def test_something_is_missing(change: Callable[..., Path], results: Path, missing: str) -> None:
    for agree in (True, False):
        if not (agree and missing == "manifest.json"):
            file = change(lambda contents: contents.pop(missing), agree=agree)
            assert_refused(file, results, "has no manifest.json|lacks|each of the files")


def test_what_is_no_archive(tmp_path: Path, results: Path) -> None:
    file = tmp_path / "model.zip"
    with pytest.raises(UserError, match="no such file"):
        install_model(file)
    for content in (b"", b"PK\x03\x04", b"\x80\x04}.", b"PK\x05\x06" + bytes(18)):
        file.write_bytes(content)
        assert_refused(file, tmp_path / "results", "damaged|has no manifest.json")


def test_damage_anywhere_is_a_users_error(archive: Path, results: Path) -> None:
    """Bytes changed at random: refused or, where they mean nothing, installed; never a crash, never half a model."""
    generator = random.Random(0)
    original = archive.read_bytes()
    file = archive.with_name("damaged.zip")
    # The end holds the directory, the beginning the manifest: what there is to parse.
    places = [*range(600), *range(len(original) - 500, len(original))]
    for _ in range(200):
        content = bytearray(original)
        for _ in range(generator.randint(1, 3)):
            content[generator.choice(places)] = generator.randrange(256)
        file.write_bytes(content)
        with contextlib.suppress(UserError):
            install_model(file, force=True)
        assert not results.exists() or list(results.rglob(".partial-*")) == []


def test_a_cut_file(archive: Path, results: Path) -> None:
    content = archive.read_bytes()
    for length in (10, len(content) // 2, len(content) - 30):
        archive.write_bytes(content[:length])
        assert_refused(archive, results, "damaged")


def test_what_is_there_is_not_replaced_without_being_asked(archive: Path, results: Path) -> None:
    folder, _ = install_model(archive)
    (folder / "mine.txt").write_text("notes")
    with pytest.raises(
        UserError, match=r"is there already; --name NAME installs good\.zip beside it"
    ):
        install_model(archive)
    assert (folder / "mine.txt").is_file()
    beside, _ = install_model(archive, name="theirs")
    assert beside == results / DATASET / "theirs"
    other, _ = install_model(archive, name="Dataset099_Other/lora")
    assert other == results / "Dataset099_Other" / "lora"
    assert sorted(list_models()) == sorted([folder, beside, other])
    replaced, _ = install_model(archive, force=True)
    assert replaced == folder
    assert not (folder / "mine.txt").exists()
    assert list(results.rglob(".partial-*")) == []


@pytest.mark.parametrize(
    "name", ["../evil", "a/b", "a/b/c", "/abs", "", "Dataset001_A/", "Dataset001_A/../x", ".x"]
)
def test_names_that_name_no_folder(archive: Path, results: Path, name: str) -> None:
    with pytest.raises(UserError, match=r"--name|is not a data set name"):
        install_model(archive, name=name)
    assert_nothing_installed(results)


def test_a_failure_in_between_leaves_the_old_model(
    archive: Path, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = install_model(archive)

    def fail(*values: Any) -> None:
        raise OSError("the disk is gone")

    monkeypatch.setattr(install, "_check_content", fail)
    with pytest.raises(OSError, match="the disk is gone"):
        install_model(archive, force=True)
    assert (folder / "fold_0" / "plan.json").is_file()
    assert list(results.rglob(".partial-*")) == []


def test_a_half_installed_model_is_not_found(archive: Path, results: Path) -> None:
    folder, _ = install_model(archive)
    os.replace(folder, folder.with_name(".partial-12345678-scratch"))
    assert list_models() == []


def test_a_full_disk_is_noticed_before(
    archive: Path, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = install.shutil.disk_usage(archive.parent)
    monkeypatch.setattr(install.shutil, "disk_usage", lambda path: usage._replace(free=100))
    with pytest.raises(SamnetError, match="the model needs"):
        install_model(archive)
    assert_nothing_installed(results)
