"""Download of released weights, resumed where the server allows it and verified by sha256.

Received bytes are written at their final offset in one file with a fixed name: `.partial-` and the
name of the checkpoint. An interrupted download therefore resumes from the bytes already received,
and two processes that download the same checkpoint write the same bytes to the same offsets.
"""

from __future__ import annotations

import http.client
import logging
import os
import re
import shutil
import ssl
import time
import urllib.error
import urllib.request
from http import HTTPStatus
from pathlib import Path
from typing import BinaryIO

from samnet import __version__
from samnet.core.errors import SamnetError, UserError
from samnet.core.files import TEMPORARY_PREFIX
from samnet.core.hashing import file_sha256, remember_sha256, remembered_sha256
from samnet.core.progress import ProgressBar
from samnet.models.registry import Checkpoint, checkpoints_folder

log = logging.getLogger(__name__)
# Attempts in a row that may end without a new byte.
MAX_FRUITLESS_ATTEMPTS = 4
# Waiting time after the first fruitless attempt; it doubles with every further one.
FIRST_WAIT_SECONDS = 1.0
TIMEOUT_SECONDS = 30.0
CHUNK_BYTES = 2**20
_RETRIED_STATUS_CODES = (408, 425, 429, 500, 502, 503, 504)


class _TransferInterrupted(OSError):
    """The transfer ended before the whole file had arrived."""


_NETWORK_ERRORS = (
    urllib.error.URLError,
    http.client.HTTPException,
    ConnectionError,
    TimeoutError,
    ssl.SSLError,
    _TransferInterrupted,
)


def download_checkpoint(
    checkpoint: Checkpoint, folder: Path | None = None, *, mirror: str | None = None
) -> Path:
    """Download a released file, unless it is already in the folder.

    Args:
        checkpoint: The file to download.
        folder: Where to put it; the checkpoints folder where this is None.
        mirror: Address of another folder that holds a file of this name.

    Returns:
        Path of the file.

    Raises:
        UserError: A file of this name with different content is in the folder, or the mirror is not
            an address.
        SamnetError: The file cannot be downloaded, or is not the released one. Nothing then has its
            name in the folder.
    """
    target = (folder or checkpoints_folder()) / checkpoint.file_name
    if _is_downloaded(target, checkpoint):
        log.info("%s is there already", target)
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(TEMPORARY_PREFIX + target.name)
    url = _address(checkpoint, mirror)
    resumed = partial.is_file()
    _fetch_with_retries(url, partial, checkpoint)
    try:
        if not _verify_and_rename(partial, target, checkpoint) and resumed:
            log.warning("the resumed download is damaged, starting over")
            _fetch_with_retries(url, partial, checkpoint)
            _verify_and_rename(partial, target, checkpoint)
    except FileNotFoundError:
        log.info("another process downloaded the same file and finished first")
    if not _is_downloaded(target, checkpoint):
        raise SamnetError(
            f"{url}: what arrived is not the released file (sha256 {checkpoint.sha256}), and was "
            "deleted. A proxy or a login page may stand in between. "
            f"{_manual_instructions(checkpoint, target.parent)}"
        )
    return target


def _verify_and_rename(partial: Path, target: Path, checkpoint: Checkpoint) -> bool:
    """Give a complete download its name and return True, or delete it where its hash is wrong."""
    log.info("checking %s", target.name)
    if file_sha256(partial) != checkpoint.sha256:
        partial.unlink()
        return False
    os.replace(partial, target)
    remember_sha256(target, checkpoint.sha256)
    return True


def _is_downloaded(target: Path, checkpoint: Checkpoint) -> bool:
    """Tell whether the released file is there; raise UserError where another file has its name."""
    if not target.is_file():
        return False
    found = remembered_sha256(target)
    if found != checkpoint.sha256:
        raise UserError(
            f"{target} is there, but is not the released file: its sha256 is {found}, expected "
            f"{checkpoint.sha256}. Delete it, or give it another name, and run this again"
        )
    return True


def _address(checkpoint: Checkpoint, mirror: str | None) -> str:
    if mirror is None:
        return checkpoint.url
    if not re.match(r"https?://[^/]", mirror):
        raise UserError(
            f"--mirror {mirror!r}: expected the address of a folder that starts with https:// or "
            "http://"
        )
    return f"{mirror.rstrip('/')}/{checkpoint.file_name}"


def _manual_instructions(checkpoint: Checkpoint, folder: Path) -> str:
    return (
        f"By hand: download {checkpoint.url} on another machine and put it into "
        f"{folder.absolute()} (sha256 {checkpoint.sha256})"
    )


def _fetch_with_retries(url: str, partial: Path, checkpoint: Checkpoint) -> None:
    """Fetch the rest of a file, in as many attempts as make progress.

    It fails after `MAX_FRUITLESS_ATTEMPTS` attempts in a row that brought nothing new.
    """
    fruitless = 0
    while True:
        size_before = _size(partial)
        try:
            _fetch(url, partial, checkpoint)
            return
        except _NETWORK_ERRORS as error:
            fruitless = 0 if _size(partial) > size_before else fruitless + 1
            if fruitless == MAX_FRUITLESS_ATTEMPTS or not _is_temporary(error):
                raise SamnetError(
                    f"{url} cannot be downloaded ({_reason(error)}). "
                    f"{_manual_instructions(checkpoint, partial.parent)}. "
                    "Running this again resumes the download"
                ) from None
            wait = FIRST_WAIT_SECONDS * 2 ** max(0, fruitless - 1)
            log.warning("%s; trying again in %.0f s", _reason(error), wait)
            time.sleep(wait)


def _fetch(url: str, partial: Path, checkpoint: Checkpoint) -> None:
    """Fetch the rest of a file in one attempt; received bytes are kept even where it fails."""
    received = _size(partial)
    request = urllib.request.Request(url, headers={"User-Agent": f"samnet/{__version__}"})
    if received:
        request.add_header("Range", f"bytes={received}-")
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code != HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise
        _require_complete(partial, received, checkpoint)
        return
    with response:
        start, total = _content_range(response, received)
        if checkpoint.size is not None and total not in (None, checkpoint.size):
            raise SamnetError(
                f"{url}: the server offers {total} bytes, the released file has {checkpoint.size}: "
                "a proxy or a login page may stand in between. "
                f"{_manual_instructions(checkpoint, partial.parent)}"
            )
        expected = total or checkpoint.size
        _require_space(partial.parent, (expected or 0) - received)
        # These flags create the file where it is missing, and never empty it.
        descriptor = os.open(partial, os.O_RDWR | os.O_CREAT, 0o644)
        with os.fdopen(descriptor, "r+b") as handle:
            handle.seek(start)
            _copy(response, handle, checkpoint.file_name, expected)
            handle.truncate()
            handle.flush()
            os.fsync(handle.fileno())


def _require_complete(partial: Path, received: int, checkpoint: Checkpoint) -> None:
    """Handle the server's answer that it has no bytes beyond the received ones.

    Either the file is complete, which its hash will tell, or they are the bytes of another file.
    """
    if checkpoint.size is None or received == checkpoint.size:
        return
    partial.unlink()
    raise _TransferInterrupted("the server's file is shorter than what has arrived, starting over")


def _content_range(response: http.client.HTTPResponse, received: int) -> tuple[int, int | None]:
    """Return the offset of the first byte of a response, and the size of the whole file if known.

    A server that ignores `Range` sends the file from its first byte.
    """
    if response.status == HTTPStatus.PARTIAL_CONTENT:
        header = response.headers.get("Content-Range", "")
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", header)
        if match is None or int(match[1]) > received:
            raise _TransferInterrupted(
                "the server's answer does not say which part of the file it is"
            )
        return int(match[1]), None if match[2] == "*" else int(match[2])
    length = response.headers.get("Content-Length", "")
    return 0, int(length) if length.isdecimal() else None


def _copy(
    response: http.client.HTTPResponse, handle: BinaryIO, name: str, total: int | None
) -> None:
    with ProgressBar(
        total=total, initial=handle.tell(), desc=name, unit="B", unit_scale=True, unit_divisor=1024
    ) as bar:
        while chunk := _read(response):
            handle.write(chunk)
            bar.update(len(chunk))
    if total is not None and handle.tell() < total:
        raise _TransferInterrupted(f"the transfer ended after {handle.tell()} of {total} bytes")


def _read(response: http.client.HTTPResponse) -> bytes:
    try:
        return response.read(CHUNK_BYTES)
    except OSError as error:  # only of the network: nothing is written to the disk here
        raise _TransferInterrupted(f"the transfer broke off: {error}") from None


def _require_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise SamnetError(
            f"{folder}: {free / 2**30:.1f} GiB are free, {needed / 2**30:.1f} GiB are needed; make "
            "room, or set samnet_checkpoints to another folder"
        )


def _is_temporary(error: Exception) -> bool:
    """Tell whether another attempt may succeed after a network error."""
    if isinstance(error, urllib.error.HTTPError):
        return error.code in _RETRIED_STATUS_CODES
    return not isinstance(getattr(error, "reason", error), ssl.SSLCertVerificationError)


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"the server answers {error.code} {error.reason}"
    return str(getattr(error, "reason", None) or error) or type(error).__name__


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0
