"""Downloads from a server on this machine, which behaves and misbehaves as servers do."""

from __future__ import annotations

import hashlib
import re
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
    """Serves `content` under every name.

    ranges: whether it understands `Range`. states_length: whether it says how much comes. cut_after: bytes after which
    it closes the connection, one number for each answer (then no more). fail_with: codes of its first answers.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = CONTENT
        self.ranges, self.states_length = True, True
        self.cut_after: list[int] = []
        self.fail_with: list[int] = []
        self.asked: list[str | None] = []
        self.checkpoint = Checkpoint(
            NAME, DIGEST, len(CONTENT), f"http://127.0.0.1:{self.server_port}/"
        )


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server, wanted = self.server, self.headers.get("Range")
        server.asked.append(wanted)
        if server.fail_with:
            self.send_error(server.fail_with.pop(0))
            return
        start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) if wanted and server.ranges else 0
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
    monkeypatch.setattr(download, "_CHUNK", 10_000)
    monkeypatch.setenv("no_proxy", "*")
    with Server() as running:
        thread = threading.Thread(target=partial(running.serve_forever, 0.01))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_a_download_is_checked_and_remembered(server: Server, tmp_path: Path) -> None:
    file = download_checkpoint(server.checkpoint, tmp_path / "new" / "folder")
    assert file == tmp_path / "new" / "folder" / NAME
    assert file.read_bytes() == CONTENT
    assert names(file.parent) == [NAME, f"{NAME}.sha256.json"]
    assert server.asked == [None]


def test_a_file_that_is_there_is_not_fetched_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(CONTENT)
    assert download_checkpoint(server.checkpoint, tmp_path) == tmp_path / NAME
    assert server.asked == []


def test_a_file_of_another_content_is_not_replaced(server: Server, tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(b"MedSAM's")
    with pytest.raises(UserError, match="is not the released file: its sha256 is") as caught:
        download_checkpoint(server.checkpoint, tmp_path)
    assert DIGEST in str(caught.value)
    assert (tmp_path / NAME).read_bytes() == b"MedSAM's"
    assert server.asked == []


def test_an_interrupted_download_goes_on(server: Server, tmp_path: Path) -> None:
    (tmp_path / f".partial-{NAME}").write_bytes(CONTENT[:300_000])
    assert download_checkpoint(server.checkpoint, tmp_path).read_bytes() == CONTENT
    assert server.asked == ["bytes=300000-"]


def test_a_transfer_that_is_cut_off_goes_on_where_it_was(server: Server, tmp_path: Path) -> None:
    server.cut_after = [100_000] * 5  # more often than it may fail without progress
    assert download_checkpoint(server.checkpoint, tmp_path).read_bytes() == CONTENT
    assert server.asked == [
        None,
        *(f"bytes={start}-" for start in (100_000, 200_000, 300_000, 400_000, 500_000)),
    ]


def test_a_server_without_ranges_starts_over(server: Server, tmp_path: Path) -> None:
    server.ranges, server.cut_after = False, [200_000]
    assert download_checkpoint(server.checkpoint, tmp_path).read_bytes() == CONTENT
    assert server.asked == [None, "bytes=200000-"]


def test_a_server_that_does_not_say_how_much_comes(server: Server, tmp_path: Path) -> None:
    server.states_length, server.cut_after = False, [200_000]
    assert download_checkpoint(server.checkpoint, tmp_path).read_bytes() == CONTENT
    assert len(server.asked) == 2


def test_a_transfer_that_always_ends_early_is_given_up_and_kept(
    server: Server, tmp_path: Path
) -> None:
    server.ranges, server.cut_after = False, [50_000] * 9
    with pytest.raises(
        SamnetError,
        match=r"cannot be downloaded \(the transfer ended after 50000 of 512000 bytes\)",
    ):
        download_checkpoint(server.checkpoint, tmp_path)
    assert len(server.asked) == 1 + download.MAX_FRUITLESS_ATTEMPTS
    assert names(tmp_path) == [f".partial-{NAME}"]
    server.ranges, server.cut_after = True, []
    assert download_checkpoint(server.checkpoint, tmp_path).read_bytes() == CONTENT
    assert server.asked[-1] == "bytes=50000-"


def test_a_complete_download_that_was_never_checked(server: Server, tmp_path: Path) -> None:
    (tmp_path / f".partial-{NAME}").write_bytes(CONTENT)
    assert download_checkpoint(server.checkpoint, tmp_path).read_bytes() == CONTENT
    assert server.asked == [f"bytes={len(CONTENT)}-"]


def test_more_than_the_file_starts_over(server: Server, tmp_path: Path) -> None:
    (tmp_path / f".partial-{NAME}").write_bytes(CONTENT + b"and more")
    assert download_checkpoint(server.checkpoint, tmp_path).read_bytes() == CONTENT
    assert server.asked == [f"bytes={len(CONTENT) + 8}-", None]


def test_a_damaged_beginning_is_fetched_anew(server: Server, tmp_path: Path) -> None:
    (tmp_path / f".partial-{NAME}").write_bytes(b"!" * 1000)
    assert download_checkpoint(server.checkpoint, tmp_path).read_bytes() == CONTENT
    assert server.asked == ["bytes=1000-", None]


@pytest.mark.parametrize("size", [None, len(CONTENT)])
def test_another_content_gets_no_name(server: Server, tmp_path: Path, size: int | None) -> None:
    server.content = b"<html>please log in</html>" if size is None else b"x" * size
    checkpoint = Checkpoint(NAME, DIGEST, size, server.checkpoint.folder_url)
    with pytest.raises(SamnetError, match="is not the released file") as caught:
        download_checkpoint(checkpoint, tmp_path)
    assert "log" in str(caught.value)
    assert names(tmp_path) == []


def test_another_size_is_not_even_fetched(server: Server, tmp_path: Path) -> None:
    (tmp_path / f".partial-{NAME}").write_bytes(CONTENT[:1000])
    server.content, server.ranges = b"<html>please log in</html>", False
    with pytest.raises(SamnetError, match="offers 26 bytes, the released file has 512000"):
        download_checkpoint(server.checkpoint, tmp_path)
    assert (tmp_path / f".partial-{NAME}").read_bytes() == CONTENT[:1000]


def test_a_busy_server_is_asked_again_and_a_refusal_is_not(server: Server, tmp_path: Path) -> None:
    server.fail_with = [503, 429]
    assert download_checkpoint(server.checkpoint, tmp_path / "a").read_bytes() == CONTENT
    server.asked, server.fail_with = [], [404]
    with pytest.raises(SamnetError, match="the server answers 404"):
        download_checkpoint(server.checkpoint, tmp_path / "b")
    assert len(server.asked) == 1


def test_without_a_network_the_message_says_what_to_do(
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
    assert names(tmp_path) == []


def test_a_mirror(server: Server, tmp_path: Path) -> None:
    far_away = Checkpoint(NAME, DIGEST, folder_url="http://192.0.2.1/")
    file = download_checkpoint(far_away, tmp_path, mirror=server.checkpoint.folder_url + "below/")
    assert file.read_bytes() == CONTENT
    for wrong in ("file:///etc", "ftp://here", "here", "https:///"):
        with pytest.raises(UserError, match="--mirror"):
            download_checkpoint(far_away, tmp_path / "other", mirror=wrong)


def test_a_full_disk_is_noticed_before(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = download.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(download.shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(SamnetError, match="GiB are free"):
        download_checkpoint(server.checkpoint, tmp_path)
    assert names(tmp_path) == []


def test_two_downloads_at_once_do_not_disturb_each_other(server: Server, tmp_path: Path) -> None:
    found: list[bytes] = []

    def fetch() -> None:
        found.append(download_checkpoint(server.checkpoint, tmp_path).read_bytes())

    threads = [threading.Thread(target=fetch) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [CONTENT] * 4
    assert names(tmp_path) == [NAME, f"{NAME}.sha256.json"]
