"""Archives with files that no model has, which are refused before anything is unpacked."""

from __future__ import annotations

import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from builders.archives import (
    WEIGHTS,
    Contents,
    assert_refused,
    read_archive,
    update_manifest,
    write_archive,
)

from samnet.sharing.archive_checks import DEFAULT_LIMITS, ArchiveLimits
from samnet.sharing.install import install_model

Change = Callable[..., Path]


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
def test_install_refuses_names_that_no_file_of_a_model_has(
    change: Change, results: Path, name: str, agree: bool
) -> None:
    file = change(lambda contents: contents.update({name: b"{}"}), agree=agree)
    assert_refused(file, results, "which is no file of a model|is not of the size|damaged")


def test_install_refuses_a_name_that_continues_after_a_nul_byte(
    archive: Path, results: Path
) -> None:
    """zipfile takes the rest away, so that the name would be that of a file of a model."""
    contents = read_archive(archive)
    contents["dataset.json!evil"] = contents.pop("dataset.json")
    content = write_archive(archive, contents).read_bytes()
    archive.write_bytes(content.replace(b"dataset.json!evil", b"dataset.json\0evil"))
    with zipfile.ZipFile(archive) as source:
        assert "dataset.json" in source.namelist()
    assert_refused(archive, results, r"holds 'dataset\.json\\x00evil', which is no file of a model")


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFDIR, stat.S_IFIFO, stat.S_IFCHR])
def test_install_refuses_links_and_special_files(archive: Path, results: Path, kind: int) -> None:
    contents = read_archive(archive)
    with zipfile.ZipFile(archive, "w") as target:
        for name, content in contents.items():
            entry = zipfile.ZipInfo(name)
            entry.external_attr = (kind if name == WEIGHTS else stat.S_IFREG) << 16
            target.writestr(entry, content)
    assert_refused(archive, results, "is a link or another special file")


def test_install_refuses_an_encrypted_file(archive: Path, results: Path) -> None:
    content = bytearray(archive.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):  # where the flags are
        content[_header_of(content, signature, b"dataset.json") + offset] |= 1
    archive.write_bytes(content)
    assert_refused(archive, results, "'dataset.json' is encrypted")


def _header_of(content: bytearray, signature: bytes, name: bytes) -> int:
    """Return where the header of a file begins: its local one or that in the directory."""
    size = {b"PK\x03\x04": 30, b"PK\x01\x02": 46}[signature]
    start = content.find(signature)
    while content[start + size : start + size + len(name)] != name:
        start = content.index(signature, start + 1)
    return start


def test_install_refuses_a_name_that_occurs_twice(archive: Path, results: Path) -> None:
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(archive, "a") as target:
        target.writestr("fold_0/plan.json", target.read("fold_0/plan.json"))
    assert_refused(archive, results, "each of the files in manifest.json once")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_install_refuses_unusual_compression(archive: Path, results: Path, method: int) -> None:
    contents = read_archive(archive)
    with zipfile.ZipFile(archive, "w") as target:
        for name, content in contents.items():
            target.writestr(name, content, compress_type=method if name == "dataset.json" else None)
    assert_refused(archive, results, "compressed in an unusual way")


def test_install_refuses_text_that_is_too_large(change: Change, results: Path) -> None:
    file = change(lambda contents: contents.update({"dataset.json": b" " * 60_000}))
    message = "'dataset.json' has 60000 bytes, expected at most 50000"
    assert_refused(file, results, message, ArchiveLimits(text_bytes=50_000))


def test_install_refuses_weights_that_are_too_large(archive: Path, results: Path) -> None:
    assert_refused(archive, results, "expected at most 1000", ArchiveLimits(weights_bytes=1000))


def test_install_refuses_too_many_files(archive: Path, results: Path) -> None:
    limits = ArchiveLimits(files=2)
    assert_refused(archive, results, "holds 4 files, expected at most 2", limits)


def test_install_refuses_files_that_are_too_large_together(archive: Path, results: Path) -> None:
    contents = read_archive(archive)
    total = sum(len(content) for name, content in contents.items() if name != "manifest.json")
    message = f"bytes would become {total}"
    assert_refused(archive, results, message, ArchiveLimits(total_bytes=total - 1))
    install_model(archive, limits=ArchiveLimits(total_bytes=total))


def test_install_refuses_an_archive_that_expands_too_much(archive: Path, results: Path) -> None:
    """A megabyte for each kilobyte: every single file is small enough."""
    contents: Contents = {
        "manifest.json": read_archive(archive)["manifest.json"],
        "dataset.json": b"{}",
    }
    for fold in range(8):
        contents[f"fold_{fold}/plan.json"] = b" " * 10**6
        contents[f"fold_{fold}/checkpoint_final.safetensors"] = bytes(10**6)
    update_manifest(contents)
    bomb = archive.with_name("bomb.zip")
    write_archive(bomb, contents, zipfile.ZIP_DEFLATED)
    assert_refused(bomb, results, "bytes would become 16000002")


def test_default_limits_let_the_largest_models_pass() -> None:
    """A fully trained ViT-H has 2.6 GB; a cross-validation has five of them."""
    assert DEFAULT_LIMITS.weights_bytes >= 2.6e9
    assert DEFAULT_LIMITS.total_bytes >= 5 * 2.6e9
    assert DEFAULT_LIMITS.files >= 6 * 3 + 1


def test_install_refuses_a_directory_with_a_false_size(archive: Path, results: Path) -> None:
    """The size in the directory of the archive is smaller than what is there."""
    content = bytearray(archive.read_bytes())
    with zipfile.ZipFile(archive) as source:
        size = source.getinfo(WEIGHTS).file_size
    where = content.rindex(WEIGHTS.encode()) - 46 + 24
    assert content[where : where + 4] == size.to_bytes(4, "little")
    content[where : where + 4] = (size - 8).to_bytes(4, "little")
    archive.write_bytes(content)
    assert_refused(archive, results, "is not of the size that manifest.json says")


@pytest.mark.parametrize("missing", ["manifest.json", "dataset.json", "fold_0/plan.json", WEIGHTS])
@pytest.mark.parametrize("agree", [True, False], ids=["not in the manifest", "in it"])
def test_install_refuses_an_archive_in_which_a_file_is_missing(
    change: Change, results: Path, missing: str, agree: bool
) -> None:
    if missing == "manifest.json":
        agree = False  # there is nothing to agree with
    file = change(lambda contents: contents.pop(missing), agree=agree)
    assert_refused(file, results, "has no manifest.json|lacks|each of the files")


def test_install_refuses_an_archive_without_folds(change: Change, results: Path) -> None:
    def remove_fold(contents: Contents) -> None:
        for name in [name for name in contents if "/" in name]:
            del contents[name]

    assert_refused(change(remove_fold), results, "lacks every fold")
