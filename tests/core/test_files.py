"""Atomic writing of files and folders, removal of temporary files, and JSON files."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import samnet
from samnet.core.errors import UserError
from samnet.core.files import (
    TEMPORARY_PREFIX,
    atomic_path,
    read_json,
    remove_partial_file,
    remove_partial_files,
    require_readable,
    write_json,
    write_json_rows,
    write_text,
)


def test_atomic_path_shows_the_final_name_when_the_block_is_done(tmp_path: Path) -> None:
    file = tmp_path / "new folder" / "größe.nii.gz"
    with atomic_path(file) as temporary:
        temporary.write_text("whole")
        assert temporary.name.endswith(file.name)
        assert not file.exists()
    assert file.read_text() == "whole"
    assert os.listdir(file.parent) == [file.name]


def test_atomic_path_can_write_a_folder(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "model") as temporary:
        temporary.mkdir()
        (temporary / "part").write_text("x")
    assert (tmp_path / "model" / "part").is_file()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask for files")
@pytest.mark.parametrize(
    ("umask", "file_mode", "folder_mode"), [(0o022, 0o644, 0o755), (0o027, 0o640, 0o750)]
)
def test_atomic_path_gives_the_mode_of_the_umask(
    tmp_path: Path, umask: int, file_mode: int, folder_mode: int
) -> None:
    before = os.umask(umask)
    try:
        for path in (tmp_path / "file", tmp_path / "folder" / "part"):
            with atomic_path(tmp_path / path.relative_to(tmp_path).parts[0]) as temporary:
                if path.name == "part":
                    temporary.mkdir(mode=0o700)
                    temporary /= "part"
                temporary.touch(mode=0o600)
            assert stat.S_IMODE(path.stat().st_mode) == file_mode
        assert stat.S_IMODE((tmp_path / "folder").stat().st_mode) == folder_mode
    finally:
        os.umask(before)
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]


def test_atomic_path_removes_other_files_of_a_writer(tmp_path: Path) -> None:
    with atomic_path(tmp_path / "weights") as temporary:
        temporary.write_text("whole")
        (temporary.parent / ".tmp1").write_text("half")
    assert os.listdir(tmp_path) == ["weights"]


def write_half(path: Path, error: BaseException) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text("half")
        raise error


def write_half_a_folder(path: Path, error: BaseException) -> None:
    with atomic_path(path) as temporary:
        temporary.mkdir()
        (temporary / "part").write_text("whole")
        raise error


@pytest.mark.parametrize("write", [write_half, write_half_a_folder])
@pytest.mark.parametrize(
    "error", [ValueError("stop"), KeyboardInterrupt("stop"), SystemExit("stop")]
)
def test_atomic_path_keeps_the_old_file_after_a_failure(
    tmp_path: Path, write: Callable[[Path, BaseException], None], error: BaseException
) -> None:
    file = tmp_path / "result"
    file.write_text("old")
    with pytest.raises(type(error), match="stop"):
        write(file, error)
    assert file.read_text() == "old"
    assert os.listdir(tmp_path) == ["result"]


def test_atomic_path_leaves_no_final_file_after_a_kill(tmp_path: Path) -> None:
    program = (
        "import os, sys\nfrom pathlib import Path\nfrom samnet.core.files import atomic_path\n"
        "with atomic_path(Path(sys.argv[1])) as temporary:\n"
        "    temporary.write_text('half')\n    os.kill(os.getpid(), 9)\n"
    )
    repository = Path(samnet.__file__).parents[1]
    process = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "result")], cwd=repository, check=False
    )
    assert process.returncode == -9
    (leftover,) = tmp_path.iterdir()
    assert leftover.name.startswith(TEMPORARY_PREFIX)
    remove_partial_files(tmp_path)
    assert os.listdir(tmp_path) == []


def test_remove_partial_files_deletes_only_temporary_files_and_folders(tmp_path: Path) -> None:
    (tmp_path / f"{TEMPORARY_PREFIX}folder").mkdir()
    (tmp_path / f"{TEMPORARY_PREFIX}folder" / "file").touch()
    (tmp_path / f"{TEMPORARY_PREFIX}file").touch()
    (tmp_path / "result").touch()
    remove_partial_files(tmp_path)
    remove_partial_files(tmp_path / "not there")
    assert os.listdir(tmp_path) == ["result"]


def test_remove_partial_file_accepts_that_another_process_was_faster(tmp_path: Path) -> None:
    remove_partial_file(tmp_path / "not there")
    assert os.listdir(tmp_path) == []


def test_require_readable_accepts_a_file_and_refuses_what_cannot_be_opened(tmp_path: Path) -> None:
    (tmp_path / "a.txt").touch()
    require_readable(tmp_path / "a.txt")
    for missing in (tmp_path / "b.txt", tmp_path / "a.txt" / "c.txt"):
        with pytest.raises(UserError, match="no such file"):
            require_readable(missing)
    with pytest.raises(UserError, match="cannot be read"):
        require_readable(tmp_path)


def test_write_json_indents_by_two_spaces(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"größe": [1]})
    text = (tmp_path / "a.json").read_bytes().decode("utf-8")
    assert text == '{\n  "größe": [\n    1\n  ]\n}\n'


def test_json_file_keeps_letters_beyond_ascii(tmp_path: Path) -> None:
    content = {"größe": [1, 2.5, None, "脾"]}
    write_json(tmp_path / "a.json", content)
    assert read_json(tmp_path / "a.json") == content
    assert "größe" in (tmp_path / "a.json").read_text(encoding="utf-8")


def test_write_json_rows_writes_one_record_a_line(tmp_path: Path) -> None:
    content = {"version": 1, "cases": {"ä": {"size": [1, 2]}, "b": {"size": [3, 4]}}, "empty": {}}
    write_json_rows(tmp_path / "a.json", content)
    assert read_json(tmp_path / "a.json") == content
    assert (tmp_path / "a.json").read_text(encoding="utf-8").splitlines() == [
        "{",
        '  "version": 1,',
        '  "cases": {',
        '    "ä": {"size": [1, 2]},',
        '    "b": {"size": [3, 4]}',
        "  },",
        '  "empty": {}',
        "}",
    ]


def test_write_json_keeps_the_old_file_when_the_content_is_not_json(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", 1)
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", {"path": tmp_path})
    assert read_json(tmp_path / "a.json") == 1


def test_read_json_accepts_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"a": 1}', encoding="utf-8-sig")
    assert read_json(tmp_path / "a.json") == {"a": 1}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "no such file"),
        (b"", "not valid JSON"),
        (b'{"a": 1,\n "b" 2}', "line 2, column 6"),
        (b"\xff\xfe\x00", "cannot be read"),
    ],
)
def test_read_json_names_a_bad_file_and_the_reason(
    tmp_path: Path, content: bytes | None, reason: str
) -> None:
    file = tmp_path / "a.json"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UserError, match=reason) as caught:
        read_json(file)
    assert str(file) in str(caught.value)


def test_read_json_refuses_a_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        read_json(tmp_path)


def test_write_text_replaces_the_whole_file(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "a longer text")
    write_text(tmp_path / "a.txt", "short")
    assert (tmp_path / "a.txt").read_text() == "short"
