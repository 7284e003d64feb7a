"""Models from an address: servers that behave, and servers that do not."""

from __future__ import annotations

import hashlib
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from builders.models import DATASET
from builders.web_server import Answer, WebRequest, WebServer, make_certificate, serve

from samnet.cli.install_model import main
from samnet.core.errors import UserError
from samnet.sharing import download
from samnet.sharing.web_address import check_redirect, read_address


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def server(archive: Path) -> Iterator[WebServer]:
    """A server of the good archive under every name."""
    content = archive.read_bytes()
    with serve(lambda request: request.send(content)) as running:
        yield running


@pytest.fixture
def digest(archive: Path) -> str:
    return hashlib.sha256(archive.read_bytes()).hexdigest()


def refuse(
    url: str,
    words: list[str],
    code: int,
    message: str,
    results: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Fail unless a message that names the address ends an installation, which leaves nothing."""
    assert main([url, *words]) == code
    printed = capsys.readouterr()
    assert message in printed.err
    assert f"samnet_install_model: error: {url.split('?')[0]}" in printed.err
    assert "Traceback" not in printed.err
    assert printed.out == ""
    assert not results.exists() or list(results.iterdir()) == []


def test_model_is_installed_from_an_address(
    server: WebServer, results: Path, digest: str, capsys: pytest.CaptureFixture[str]
) -> None:
    url = f"{server.url}/models/liver.zip"
    assert main([url]) == 0
    printed = capsys.readouterr().out
    assert f"installed: {results / DATASET / 'scratch'} (fold_0)" in printed
    assert f"from: {url}\n" in printed
    assert f"sha256: {digest} (--sha256 with it installs only this file again)" in printed
    assert [entry.name for entry in results.iterdir()] == [DATASET]
    assert main([url, "--name", "again", "--sha256", digest.upper()]) == 0
    assert f"sha256: {digest} (as expected)" in capsys.readouterr().out
    assert main([url]) == 2
    assert "--name NAME installs liver.zip next to it" in capsys.readouterr().err


def test_hash_of_a_file_is_checked(
    archive: Path, results: Path, digest: str, capsys: pytest.CaptureFixture[str]
) -> None:
    refuse(str(archive), ["--sha256", "0" * 64], 2, f"has the sha256 {digest}", results, capsys)
    assert main([str(archive), "--sha256", "abc"]) == 2
    assert "expected 64 hexadecimal digits" in capsys.readouterr().err
    assert main([str(archive), "--sha256", digest]) == 0


def test_another_hash_is_refused(
    server: WebServer, results: Path, digest: str, capsys: pytest.CaptureFixture[str]
) -> None:
    message = f"what arrived has the sha256 {digest}, expected {'0' * 64}; it was deleted"
    refuse(f"{server.url}/a.zip", ["--sha256", "0" * 64], 2, message, results, capsys)


def send_without_end(request: WebRequest) -> None:
    request.send(b"PK", Content_Length="")
    while True:
        request.wfile.write(bytes(2**16))


def send_chunks_without_end(request: WebRequest) -> None:
    request.protocol_version = "HTTP/1.1"
    request.send(b"", Content_Length="", Transfer_Encoding="chunked")
    while True:
        request.wfile.write(b"8000\r\nPK" + bytes(0x8000 - 2) + b"\r\n")


def redirect_without_end(request: WebRequest) -> None:
    """Redirect with a page that never ends."""
    request.send(b"", 302, Location="/again", Content_Length="")
    while True:
        request.wfile.write(bytes(2**16))


def redirect(target: str) -> Answer:
    return lambda request: request.send(b"", 302, Location=target)


@pytest.mark.parametrize(
    ("answer", "code", "message"),
    [
        (lambda request: request.send(b"", 404), 2, "the server answers 404 Not Found; check"),
        (lambda request: request.send(b"", 403), 2, "403 Forbidden; the file is not public: downl"),
        (lambda request: request.send(b"", 503), 1, "503 Service Unavailable; nothing was inst"),
        (redirect("file:///etc/passwd"), 2, "redirects to 'file:///etc/passwd', which samnet"),
        (redirect("ftp://127.0.0.1/a.zip"), 2, "redirects to 'ftp://127.0.0.1/a.zip', which"),
        (redirect("data:application/zip,PK"), 2, "redirects to 'data:application/zip,PK'"),
        (redirect("http://192.0.2.1/a.zip?key=s3cret"), 2, "to 'http://192.0.2.1/a.zip', which"),
        (redirect_without_end, 2, "redirects without an end, or to nowhere (302)"),
        (redirect("/again"), 2, "redirects without an end, or to nowhere (302)"),
        (lambda request: request.send(b"", 302), 2, "redirects without an end, or to nowhere"),
        (send_without_end, 2, "has more than 0.001 GiB; nothing was installed"),
        (send_chunks_without_end, 2, "has more than 0.001 GiB; nothing was installed"),
        (
            lambda request: request.send(b"PK", Content_Length=str(10**9)),
            2,
            "has more than 0.001 GiB; nothing was installed. If the model is that large, allow it "
            "with --max-size GIB",
        ),
        (
            lambda request: request.send(b"PK\x03\x04" * 10, Content_Length="1000"),
            1,
            "the transfer ended after 40 of 1000 bytes; nothing was installed",
        ),
        (lambda request: request.send(b"", Content_Length=""), 1, "the transfer ended after 0"),
        (
            lambda request: request.send(b"<html>log in</html>", Content_Type="text/html"),
            2,
            "is no zip file (text/html); nothing was installed. It may be a page about the file",
        ),
        (
            lambda request: request.send(b"PK", Content_Encoding="gzip"),
            2,
            "the server sends the file as 'gzip'",
        ),
        (lambda request: request.send(b"PK\x03\x04" * 10), 2, "no archive of a model, or damaged"),
        (lambda request: request.wfile.write(b"rubbish\r\n\r\n"), 1, "cannot be downloaded"),
        (lambda request: None, 1, "cannot be downloaded"),
    ],
)
def test_servers_that_misbehave(
    answer: Answer, code: int, message: str, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with serve(answer) as server:
        url = f"{server.url}/a.zip?key=s3cret"
        began = time.monotonic()
        assert main([url, "--max-size", "0.001"]) == code
        assert time.monotonic() - began < 20
    printed = capsys.readouterr()
    assert message in printed.err
    assert f"error: {server.url}/a.zip?...: " in printed.err
    assert "s3cret" not in printed.err
    assert "Traceback" not in printed.err
    assert not results.exists() or list(results.iterdir()) == []


@pytest.mark.parametrize("cut", [100, -1])
def test_length_that_is_too_small_is_refused(
    archive: Path, cut: int, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A client reads as many bytes as the server states, and leaves the rest."""
    content = archive.read_bytes()
    length = str(len(content[:cut]))
    with serve(lambda request: request.send(content, Content_Length=length)) as server:
        message = "no archive of a model, or damaged"
        refuse(f"{server.url}/a.zip", [], 2, message, results, capsys)


def test_connection_that_breaks_off_within_a_chunk(
    archive: Path, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def answer(request: WebRequest) -> None:
        request.protocol_version = "HTTP/1.1"
        request.send(b"100\r\nPK", Content_Length="", Transfer_Encoding="chunked")
        request.close_connection = True

    with serve(answer) as server:
        refuse(f"{server.url}/a.zip", [], 1, "cannot be downloaded (", results, capsys)


def test_server_that_falls_silent(
    results: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "TIMEOUT_SECONDS", 0.2)

    def answer(request: WebRequest) -> None:
        request.send(b"PK", Content_Length="1000")
        time.sleep(1.0)

    with serve(answer) as server:
        message = "cannot be downloaded (no answer for 0.2 s); nothing was installed"
        refuse(f"{server.url}/a.zip", [], 1, message, results, capsys)


def test_server_that_hardly_sends_anything(
    results: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "SLOW_SECONDS", 0.2)

    def answer(request: WebRequest) -> None:
        request.send(b"PK", Content_Length="1000")
        while True:
            request.wfile.write(b".")
            time.sleep(0.02)

    with serve(answer) as server:
        refuse(f"{server.url}/a.zip", [], 1, "bytes arrived in 0 s", results, capsys)


def test_machine_without_a_server(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/a.zip"
        refuse(url, [], 1, "refused); nothing was installed", results, capsys)


def test_download_that_fails_deletes_its_file(server: WebServer, tmp_path: Path) -> None:
    target = tmp_path / "file.zip"
    with pytest.raises(UserError, match="what arrived has the sha256"):
        download.download_archive(server.url, target, download.DownloadRules("0" * 64))
    assert not target.exists()


def test_full_disk_is_noticed_before_the_transfer(
    server: WebServer,
    results: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    usage = shutil.disk_usage(results.parent)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=100))
    assert main([f"{server.url}/a.zip"]) == 1
    assert "the download needs" in capsys.readouterr().err
    assert list(results.iterdir()) == []


def test_interrupted_download_leaves_nothing(
    server: WebServer, results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(shutil, "disk_usage", interrupt)  # when the file has been begun
    assert main([f"{server.url}/a.zip"]) == 130
    assert list(results.iterdir()) == []


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://example.org/a.zip", "give the address with https://, or accept that with --allow"),
        ("http://localhost.example.org/a.zip", "http can be read and changed on its way"),
        ("file:///etc/passwd", "not from file://"),
        ("ftp://example.org/a.zip", "not from ftp://"),
        ("HTTPS://", "is no address"),
        ("https://example.org:port/a.zip", "is no address"),
        ("https://exa mple.org/a.zip", "is no address"),
        ("https://example.org/a.zip\r\nX: y", "is no address"),
        ("https://example.org/modèle.zip", "with other letters as %XX"),
        ("https://me:s3cret@example.org/a.zip", "has a user name or password in it"),
    ],
)
def test_addresses_that_are_refused(
    url: str, message: str, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([url]) == 2
    printed = capsys.readouterr().err
    assert message in printed
    assert "s3cret" not in printed
    assert not results.exists()


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.8.8", "[::1]"])
def test_http_to_this_machine_is_allowed(host: str) -> None:
    assert read_address(f"http://{host}:8000/a.zip", allow_http=False).is_local


def test_https_never_becomes_http() -> None:
    secure = read_address("https://example.org/a.zip", allow_http=True)
    for target in ("http://example.org/a.zip", "http://127.0.0.1/a.zip", "file:///a.zip"):
        with pytest.raises(
            UserError, match=r"https://example\.org/a\.zip: the server redirects to"
        ):
            check_redirect(secure, target, allow_http=True)
    assert check_redirect(secure, "https://other.org/a.zip", allow_http=False).host == "other.org"
    plain = read_address("http://example.org/a.zip", allow_http=True)
    assert check_redirect(plain, "http://other.org/a.zip", allow_http=True).host == "other.org"
    with pytest.raises(UserError, match="which samnet does not follow"):
        check_redirect(plain, "http://other.org/a.zip", allow_http=False)


def test_https(
    archive: Path,
    tmp_path: Path,
    results: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A server has to prove who it is, and may not hand a request on to http."""
    content = archive.read_bytes()
    certificate = make_certificate(tmp_path / "certificate.pem")
    with (
        serve(lambda request: request.send(content)) as plain,
        serve(lambda request: request.send(content), certificate) as secure,
        serve(redirect(f"{plain.url}/a.zip"), certificate) as downgrading,
        serve(redirect(f"{secure.url}/b.zip"), certificate) as moved,
    ):
        message = "the server cannot prove that it is 127.0.0.1"
        refuse(f"{secure.url}/a.zip", ["--allow-http"], 2, message, results, capsys)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        message = f"the server redirects to '{plain.url}/a.zip', which samnet does not follow"
        refuse(f"{downgrading.url}/a.zip", ["--allow-http"], 2, message, results, capsys)
        assert main([f"{moved.url}/a.zip"]) == 0
    assert plain.requests == []
    assert [path for _, path, _ in secure.requests] == ["/b.zip"]


def test_keys_reach_only_the_server_that_they_are_for(archive: Path, tmp_path: Path) -> None:
    """A model hub hands its files on to another server."""
    content = archive.read_bytes()
    rules = download.DownloadRules(headers={"authorization": "Bearer s3cret"})
    with serve(lambda request: request.send(content)) as other:

        def answer(request: WebRequest) -> None:
            moved = "/b.zip" if request.path == "/a.zip" else f"{other.url}/c.zip"
            request.send(b"", 307, Location=moved)

        with serve(answer) as first:
            download.download_archive(f"{first.url}/a.zip", tmp_path / "file.zip", rules)
    keys = [headers.get("Authorization") for _, _, headers in first.requests]
    assert keys == ["Bearer s3cret", "Bearer s3cret"]
    [(_, path, headers)] = other.requests
    assert path == "/c.zip"
    assert "s3cret" not in str(headers)
    assert "s3cret" not in repr(rules)
    assert (tmp_path / "file.zip").read_bytes() == content
