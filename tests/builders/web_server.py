"""A server on this machine that answers as a test says."""

from __future__ import annotations

import shutil
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from builders.skips import NO_OPENSSL


class WebRequest(BaseHTTPRequestHandler):
    """A request that a test answers."""

    server: WebServer

    def answer(self) -> None:
        """Note the request, and answer it as the test says."""
        self.server.requests.append((self.command, self.path, dict(self.headers)))
        try:
            self.server.answer(self)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True  # the client has heard enough

    do_GET = do_HEAD = do_POST = do_PUT = answer  # noqa: N815 (names that http.server gives)

    def send(self, body: bytes, status: int = 200, **headers: str) -> None:
        """Send a whole answer.

        Args:
            body: Its content.
            status: Its code.
            headers: Its headers, with underscores in place of hyphens. The length is stated unless
                it is given; an empty one leaves it out.
        """
        self.send_response(status)
        for name, value in {"Content_Length": str(len(body)), **headers}.items():
            if value:
                self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def body(self) -> bytes:
        """Read the content of the request."""
        if self.headers.get("Transfer-Encoding") == "chunked":
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def log_message(self, format: str, *values: object) -> None:
        """Print nothing."""


Answer = Callable[[WebRequest], None]


class WebServer(ThreadingHTTPServer):
    """A server whose answers are those of one function.

    Attributes:
        answer: Answers a request.
        requests: Method, path and headers of every request so far.
        scheme: `http`, or `https` with a certificate.
    """

    daemon_threads = True

    def __init__(self, answer: Answer, certificate: Path | None = None) -> None:
        super().__init__(("127.0.0.1", 0), WebRequest)
        self.answer = answer
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.scheme = "http"
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            # The handshake takes place in the thread of the request.
            self.socket = context.wrap_socket(
                self.socket, server_side=True, do_handshake_on_connect=False
            )
            self.scheme = "https"

    def handle_error(self, *connection: object) -> None:
        """Print nothing where a client does not trust the certificate."""

    @property
    def url(self) -> str:
        """Its address, without a slash at the end."""
        return f"{self.scheme}://127.0.0.1:{self.server_port}"


@contextmanager
def serve(answer: Answer, certificate: Path | None = None) -> Iterator[WebServer]:
    """Run a server.

    Args:
        answer: Answers a request.
        certificate: Certificate and key of an https server, in one file; None for http.

    Yields:
        The server.
    """
    with WebServer(answer, certificate) as server:
        thread = threading.Thread(target=partial(server.serve_forever, 0.01))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def make_certificate(file: Path) -> Path:
    """Write a certificate of this machine, and its key, into one file; skip without openssl.

    Args:
        file: The file.

    Returns:
        The same file.
    """
    if shutil.which("openssl") is None:
        pytest.skip(NO_OPENSSL)
    words = "req -x509 -nodes -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -days 2 -subj /CN=a"
    options = [*words.split(), "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", str(file), "-out", str(file.with_suffix(".public"))]
    subprocess.run(["openssl", *options, *files], check=True, capture_output=True)
    with file.open("a") as both:
        both.write(file.with_suffix(".public").read_text())
    return file
