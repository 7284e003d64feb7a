"""Download of an archive from an address that is not trusted.

Nothing of it is kept where something is odd: another scheme after a redirect, too many bytes, fewer
than announced, a page in place of a file, a server that hardly sends anything, or another hash than
was expected. The archive is then checked like any file (`install.py`).

Failures that the same command may not meet again, such as a broken connection, are a `SamnetError`
(exit code 1). Those that need another address, option or file are a `UserError` (exit code 2).
"""

from __future__ import annotations

import hashlib
import http.client
import shutil
import ssl
import string
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import IO
from urllib.parse import quote, urljoin

from samnet import __version__
from samnet.core.errors import SamnetError, UserError
from samnet.core.progress import ProgressBar
from samnet.sharing.web_address import WebAddress, check_redirect, read_address

GIB = 2**30
DEFAULT_MAX_BYTES = 4 * GIB
TIMEOUT_SECONDS = 30.0  # without a connection, or without a byte
# A server that sends less than this in this time holds the command up for ever.
SLOW_SECONDS, SLOW_BYTES = 60.0, 16 * 1024
_CHUNK_BYTES = 2**18
_MAX_REDIRECTS = 10
_ZIP_BEGINNING = b"PK"
# What a server answers that has a temporary trouble; any other refusal will be the same again.
_TEMPORARY = (408, 425, 429, 500, 502, 503, 504)


@dataclass(frozen=True)
class DownloadRules:
    """What is accepted from a server.

    Attributes:
        sha256: The expected sha256 in hexadecimal, or None.
        max_bytes: The largest accepted size.
        allow_http: Whether http is accepted from other machines.
        headers: Headers for the server of the address, and for no other: they may hold a key.
        if_private: What a user can do where the server wants to know who they are.
    """

    sha256: str | None = None
    max_bytes: int = DEFAULT_MAX_BYTES
    allow_http: bool = False
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    if_private: str = "download it with a program that logs in, and install the file"


def download_archive(url: str, target: Path, rules: DownloadRules | None = None) -> str:
    """Download an archive as a whole.

    Args:
        url: The address.
        target: The file to write. It is deleted where the download fails.
        rules: What is accepted; None for the default.

    Returns:
        The sha256 of the file in hexadecimal.

    Raises:
        UserError: The address is refused, or what it holds.
        SamnetError: The server cannot be reached, has a temporary trouble or breaks off, or the
            disk is too full.
    """
    rules = rules or DownloadRules()
    address = read_address(url, allow_http=rules.allow_http)
    try:
        with _open(address, rules) as response, target.open("xb") as handle:
            digest = _receive(response, handle, address, rules)
        if rules.sha256 is not None and digest != rules.sha256:
            raise UserError(
                f"{address}: what arrived has the sha256 {digest}, expected {rules.sha256}; it was "
                "deleted. Ask whoever gave you the hash whether the file has changed"
            )
    except BaseException:
        target.unlink(missing_ok=True)
        raise
    return digest


class _Redirects(urllib.request.BaseHandler):
    """Follows redirects that are allowed.

    urllib's own handler hands keys on to any server, and reads the rest of an answer that redirects
    into memory, which a server may send without an end.
    """

    def __init__(self, address: WebAddress, rules: DownloadRules) -> None:
        self.first = self.address = address
        self.rules = rules
        self.num_followed = 0

    def http_error_302(self, request, response, code, message, headers):
        """Check the new address before anything is sent to it, and follow."""
        if not headers.get("Location"):
            return None
        # Headers come as Latin-1, and may hold letters that an address may not.
        location = quote(headers["Location"], safe=string.punctuation, encoding="iso-8859-1")
        target = urljoin(self.address.text, location)
        self.address = check_redirect(self.address, target, allow_http=self.rules.allow_http)
        self.num_followed += 1
        if self.num_followed > _MAX_REDIRECTS:
            return None
        response.close()
        follow_up = _request(self.address, self.rules, self.address.has_server_of(self.first))
        return self.parent.open(follow_up, timeout=TIMEOUT_SECONDS)

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302


def _request(address: WebAddress, rules: DownloadRules, with_keys: bool) -> urllib.request.Request:
    headers = {"User-Agent": f"samnet/{__version__}", "Accept-Encoding": "identity"}
    return urllib.request.Request(
        address.text, headers=headers | (dict(rules.headers) if with_keys else {})
    )


def _open(address: WebAddress, rules: DownloadRules) -> http.client.HTTPResponse:
    # Only these handlers: the default ones also read files and FTP.
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        urllib.request.UnknownHandler(),
        _Redirects(address, rules),
    ):
        opener.add_handler(handler)
    opener.addheaders = []
    try:
        return opener.open(_request(address, rules, with_keys=True), timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        error.close()
        raise _refusal(address, error, rules) from None
    except (OSError, http.client.HTTPException) as error:
        raise _failure(address, error) from None


def _refusal(
    address: WebAddress, error: urllib.error.HTTPError, rules: DownloadRules
) -> SamnetError:
    """Return what to raise where the server answers with an error."""
    answer = f"{address}: the server answers {error.code} {error.reason}"
    if error.code in _TEMPORARY:
        return SamnetError(f"{answer}; nothing was installed. Try again later")
    if error.code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return UserError(f"{answer}; the file is not public: {rules.if_private}")
    if HTTPStatus.MULTIPLE_CHOICES <= error.code < HTTPStatus.BAD_REQUEST:
        # Too many redirects, or one without an address.
        return UserError(
            f"{address}: the server redirects without an end, or to nowhere ({error.code}); get "
            "the address of the file from its owner"
        )
    return UserError(f"{answer}; check the address")


def _failure(address: WebAddress, error: Exception) -> SamnetError:
    """Return what to raise where there is no connection, or where it breaks off."""
    reason = getattr(error, "reason", None) or error
    if isinstance(reason, ssl.SSLCertVerificationError):
        return UserError(
            f"{address}: the server cannot prove that it is {address.host} "
            f"({reason.verify_message}); nothing was installed. Check the address and the clock, "
            "and whether your network needs a certificate of its own (SSL_CERT_FILE)"
        )
    if isinstance(reason, TimeoutError):
        reason = f"no answer for {TIMEOUT_SECONDS:g} s"
    text = str(reason) or type(error).__name__
    return SamnetError(
        f"{address}: cannot be downloaded ({text}); nothing was installed. Check the network and "
        "the address, and give the same command again"
    )


def _receive(
    response: http.client.HTTPResponse, handle: IO[bytes], address: WebAddress, rules: DownloadRules
) -> str:
    """Write what a server sends, within the limits; return its sha256."""
    encoding = response.headers.get("Content-Encoding", "identity").lower()
    if encoding != "identity":
        raise UserError(
            f"{address}: the server sends the file as {encoding!r}; download it with a browser, "
            "and install the file"
        )
    total = _announced_bytes(response)
    _refuse_beyond(total or 0, address, rules)
    _require_space(Path(handle.name).parent, total or 0)
    digest, received = hashlib.sha256(), 0
    clock = _SlowClock(address)
    with ProgressBar(
        total=total, desc="download", unit="B", unit_scale=True, unit_divisor=1024
    ) as bar:
        while chunk := _read(response, address):
            if received == 0:
                _refuse_page(chunk, response, address)
            received += len(chunk)
            _refuse_beyond(received, address, rules)
            digest.update(chunk)
            handle.write(chunk)
            bar.update(len(chunk))
            clock.check(received)
    if received < (total or 1):
        expected = "" if total is None else f" of {total}"
        raise SamnetError(
            f"{address}: the transfer ended after {received}{expected} bytes; nothing was "
            "installed. Give the same command again"
        )
    return digest.hexdigest()


class _SlowClock:
    """Ends a download in which hardly anything arrives, although each byte is in time."""

    def __init__(self, address: WebAddress) -> None:
        self.address = address
        self.began, self.received = time.monotonic(), 0

    def check(self, received: int) -> None:
        """Look at how much has arrived since the last look that was long enough ago."""
        now = time.monotonic()
        if now - self.began < SLOW_SECONDS:
            return
        if received - self.received < SLOW_BYTES:
            raise SamnetError(
                f"{self.address}: only {received - self.received} bytes arrived in "
                f"{now - self.began:.0f} s; nothing was installed. Try again later"
            )
        self.began, self.received = now, received


def _announced_bytes(response: http.client.HTTPResponse) -> int | None:
    length = response.headers.get("Content-Length", "")
    return int(length) if length.isascii() and length.isdecimal() else None


def _read(response: http.client.HTTPResponse, address: WebAddress) -> bytes:
    try:
        return response.read1(_CHUNK_BYTES)  # what is there: `read` would wait for all of it
    except (OSError, http.client.HTTPException) as error:
        raise _failure(address, error) from None


def _refuse_beyond(num_bytes: int, address: WebAddress, rules: DownloadRules) -> None:
    if num_bytes > rules.max_bytes:
        raise UserError(
            f"{address}: has more than {rules.max_bytes / GIB:.3g} GiB; nothing was installed. If "
            "the model is that large, allow it with --max-size GIB"
        )


def _refuse_page(beginning: bytes, response: http.client.HTTPResponse, address: WebAddress) -> None:
    if not _ZIP_BEGINNING.startswith(beginning[:2]):
        kind = response.headers.get("Content-Type", "no type stated")
        raise UserError(
            f"{address}: is no zip file ({kind}); nothing was installed. It may be a page about "
            "the file, or a login: give the address of the file itself"
        )


def _require_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise SamnetError(
            f"{folder}: {free / GIB:.1f} GiB are free, the download needs {needed / GIB:.1f} GiB; "
            "make room, or set samnet_results to another folder"
        )
