"""Downloads from a local server that behaves and misbehaves as real servers do."""

from __future__ import annotations

import hashlib
import re
import shutil
import socket
import threading
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from samnet.core.errors import SamnetError, UserError
from samnet.models import download
from samnet.models.download import download_checkpoint
from samnet.models.registry import Checkpoint

CONTENT = bytes(range(256)) * 2000
NAME = "sam_tiny.pth"
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """A server of one content under every name.

    Attributes:
        content: The served bytes.
        ranges: Whether it supports the header `Range`.
        states_length: Whether it states the length of its answers.
        cut_after: Number of bytes after which it closes the connection, for each of its first
            answers; later answers are complete.
        fail_with: Status codes of its first answers.
        requested_ranges: The header `Range` of every request so far; None for one without.
        checkpoint: A checkpoint with the address of this server.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = CONTENT
        self.ranges, self.states_length = True, True
        self.cut_after: list[int] = []
        self.fail_with: list[int] = []
        self.requested_ranges: list[str | None] = []
        self.checkpoint = Checkpoint(
            NAME, DIGEST, len(CONTENT), f"http://127.0.0.1:{self.server_port}/"
        )


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server, requested = self.server, self.headers.get("Range")
        server.requested_ranges.append(requested)
        if server.fail_with:
            self.send_error(server.fail_with.pop(0))
            return
        start = 0
        if requested and server.ranges:
            start = int(re.fullmatch(r"bytes=(\d+)-", requested)[1])
        if start and start >= len(server.content):
            self.send_error(416)
            return
        body = server.content[start:]
        self.send_response(206 if start else 200)
        if start:
            end = f"{len(server.content) - 1}/{len(server.content)}"
            self.send_header("Content-Range", f"bytes {start}-{end}")
        if server.states_length:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: server.cut_after.pop(0)] if server.cut_after else body)

    def log_message(self, format: str, *values: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(download, "FIRST_WAIT_SECONDS", 0.0)
    monkeypatch.setattr(download, "CHUNK_BYTES", 10_000)
    monkeypatch.setenv("no_proxy", "*")
    with Server() as running:
        thread = threading.Thread(target=partial(running.serve_forever, 0.01))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def file_names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_download_is_verified_and_its_hash_remembered(server: Server, tmp_path: Path) -> None:
    file = download_checkpoint(server.checkpoint, tmp_path / "new" / "folder")
    assert file == tmp_path / "new" / "folder" / NAME
    assert file.read_bytes() == CONTENT
    assert file_names(file.parent) == [NAME, f"{NAME}.sha256.json"]
    assert server.requested_ranges == [None]


def test_download_skips_a_file_that_is_there(server: Server, tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(CONTENT)
    assert download_checkpoint(server.checkpoint, tmp_path) == tmp_path / NAME
    assert server.requested_ranges == []


def test_download_does_not_replace_a_file_of_other_content(server: Server, tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(b"MedSAM's")
    with pytest.raises(UserError, match="is not the released file: its sha256 is") as caught:
        download_checkpoint(server.checkpoint, tmp_path)
    assert DIGEST in str(caught.value)
    assert (tmp_path / NAME).read_bytes() == b"MedSAM's"
    assert server.requested_ranges == []


def test_download_resumes_from_a_partial_file(server: Server, tmp_path: Path) -> None:
    (tmp_path / f".partial-{NAME}").write_bytes(CONTENT[:300_000])
    assert download_checkpoint(server.checkpoint, tmp_path).read_bytes() == CONTENT
    assert server.requested_ranges == ["bytes=300000-"]


def test_download_resumes_after_each_lost_connection(server: Server, tmp_path: Path) -> None:
    server.cut_after = [100_000] * 5  # more often than it may fail without progress
    assert download_checkpoint(server.checkpoint, tmp_path).read_bytes() == CONTENT
    assert server.requested_ranges == [
        None,
        *(f"bytes={start}-" for start in (100_000, 200_000, 300_000, 400_000, 500_000)),
    ]


def test_download_starts_over_where_the_server_ignores_ranges(
    server: Server, tmp_path: Path
) -> None:
    server.ranges, server.cut_after = False, [200_000]
    assert download_checkpoint(server.checkpoint, tmp_path).read_bytes() == CONTENT
    assert server.requested_ranges == [None, "bytes=200000-"]


def test_download_from_a_server_that_states_no_length(server: Server, tmp_path: Path) -> None:
    server.states_length, server.cut_after = False, [200_000]
    assert download_checkpoint(server.checkpoint, tmp_path).read_bytes() == CONTENT
    assert len(server.requested_ranges) == 2


def test_download_stops_after_fruitless_attempts_and_keeps_what_arrived(
    server: Server, tmp_path: Path
) -> None:
    server.ranges, server.cut_after = False, [50_000] * 9
    with pytest.raises(
        SamnetError,
        match=r"cannot be downloaded \(the transfer ended after 50000 of 512000 bytes\)",
    ) as caught:
        download_checkpoint(server.checkpoint, tmp_path)
    assert "Running this again resumes the download" in str(caught.value)
    assert len(server.requested_ranges) == 1 + download.MAX_FRUITLESS_ATTEMPTS
    assert file_names(tmp_path) == [f".partial-{NAME}"]
    server.ranges, server.cut_after = True, []
    assert download_checkpoint(server.checkpoint, tmp_path).read_bytes() == CONTENT
    assert server.requested_ranges[-1] == "bytes=50000-"


def test_download_accepts_a_complete_partial_file(server: Server, tmp_path: Path) -> None:
    (tmp_path / f".partial-{NAME}").write_bytes(CONTENT)
    assert download_checkpoint(server.checkpoint, tmp_path).read_bytes() == CONTENT
    assert server.requested_ranges == [f"bytes={len(CONTENT)}-"]


def test_download_starts_over_where_the_partial_file_is_too_long(
    server: Server, tmp_path: Path
) -> None:
    (tmp_path / f".partial-{NAME}").write_bytes(CONTENT + b"and more")
    assert download_checkpoint(server.checkpoint, tmp_path).read_bytes() == CONTENT
    assert server.requested_ranges == [f"bytes={len(CONTENT) + 8}-", None]


def test_download_starts_over_where_the_partial_file_is_damaged(
    server: Server, tmp_path: Path
) -> None:
    (tmp_path / f".partial-{NAME}").write_bytes(b"!" * 1000)
    assert download_checkpoint(server.checkpoint, tmp_path).read_bytes() == CONTENT
    assert server.requested_ranges == ["bytes=1000-", None]


@pytest.mark.parametrize("size", [None, len(CONTENT)])
def test_download_deletes_other_content(server: Server, tmp_path: Path, size: int | None) -> None:
    server.content = b"<html>please log in</html>" if size is None else b"x" * size
    checkpoint = Checkpoint(NAME, DIGEST, size, server.checkpoint.folder_url)
    with pytest.raises(SamnetError, match="is not the released file") as caught:
        download_checkpoint(checkpoint, tmp_path)
    assert "log" in str(caught.value)
    assert file_names(tmp_path) == []


def test_download_rejects_another_size_before_the_transfer(server: Server, tmp_path: Path) -> None:
    (tmp_path / f".partial-{NAME}").write_bytes(CONTENT[:1000])
    server.content, server.ranges = b"<html>please log in</html>", False
    with pytest.raises(SamnetError, match="offers 26 bytes, the released file has 512000"):
        download_checkpoint(server.checkpoint, tmp_path)
    assert (tmp_path / f".partial-{NAME}").read_bytes() == CONTENT[:1000]


def test_download_retries_a_busy_server_but_not_a_missing_file(
    server: Server, tmp_path: Path
) -> None:
    server.fail_with = [503, 429]
    assert download_checkpoint(server.checkpoint, tmp_path / "a").read_bytes() == CONTENT
    server.requested_ranges, server.fail_with = [], [404]
    with pytest.raises(SamnetError, match="the server answers 404"):
        download_checkpoint(server.checkpoint, tmp_path / "b")
    assert len(server.requested_ranges) == 1


def test_download_without_a_network_names_the_manual_steps(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(download, "FIRST_WAIT_SECONDS", 0.0)
    monkeypatch.setenv("no_proxy", "*")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{unused.getsockname()[1]}/"
        with pytest.raises(SamnetError) as caught:
            download_checkpoint(Checkpoint(NAME, DIGEST, folder_url=address), tmp_path)
    for part in (address + NAME, "refused", "another machine", str(tmp_path), DIGEST):
        assert part in str(caught.value)
    assert caught.value.exit_code == 1
    assert file_names(tmp_path) == []


def test_download_from_a_mirror(server: Server, tmp_path: Path) -> None:
    far_away = Checkpoint(NAME, DIGEST, folder_url="http://192.0.2.1/")
    file = download_checkpoint(far_away, tmp_path, mirror=server.checkpoint.folder_url + "below/")
    assert file.read_bytes() == CONTENT
    for wrong in ("file:///etc", "ftp://here", "here", "https:///"):
        with pytest.raises(UserError, match="--mirror"):
            download_checkpoint(far_away, tmp_path / "other", mirror=wrong)


def test_download_requires_disk_space_before_the_transfer(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    almost_full = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: almost_full)
    with pytest.raises(SamnetError, match="GiB are free"):
        download_checkpoint(server.checkpoint, tmp_path)
    assert file_names(tmp_path) == []


def test_simultaneous_downloads_of_one_file_all_succeed(server: Server, tmp_path: Path) -> None:
    found: list[bytes] = []

    def fetch() -> None:
        found.append(download_checkpoint(server.checkpoint, tmp_path).read_bytes())

    threads = [threading.Thread(target=fetch) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [CONTENT] * 4
    assert file_names(tmp_path) == [NAME, f"{NAME}.sha256.json"]
