"""Fetching released weights: resumed where the server allows it, checked before they get their name.

Bytes are written at their place in a file with a fixed name, `.partial-` and the file's own. So an interrupted download
goes on from what is there, and two processes that fetch the same file write the same bytes to the same places.
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
from pathlib import Path
from typing import BinaryIO

from tqdm import tqdm

from samnet import __version__
from samnet.core.errors import SamnetError, UserError
from samnet.core.files import TEMPORARY_PREFIX
from samnet.core.hashing import file_sha256, remember_sha256, remembered_sha256
from samnet.models.registry import Checkpoint, checkpoints_folder

log = logging.getLogger(__name__)
MAX_FRUITLESS_ATTEMPTS = 4
FIRST_WAIT_SECONDS = 1.0
TIMEOUT_SECONDS = 30.0
_CHUNK = 2**20
_WORTH_ANOTHER_TRY = (408, 425, 429, 500, 502, 503, 504)


class _CutOff(OSError):
    """The transfer ended early."""


_OF_NETWORK = (
    urllib.error.URLError,
    http.client.HTTPException,
    ConnectionError,
    TimeoutError,
    ssl.SSLError,
    _CutOff,
)


def download_checkpoint(
    checkpoint: Checkpoint, folder: Path | None = None, *, mirror: str | None = None
) -> Path:
    """Fetch a released file into `folder` (default: the checkpoints folder), unless it is there; returns its path.

    mirror: address of another folder that holds a file of this name.

    Raises:
        UserError: a file of this name and another content is there, or the mirror is no address.
        SamnetError: it cannot be fetched, or is not what was released; nothing is then under its name.
    """
    target = (folder or checkpoints_folder()) / checkpoint.file_name
    if _is_there(target, checkpoint):
        log.info("%s is there already", target)
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(TEMPORARY_PREFIX + target.name)
    url, resumed = _address(checkpoint, mirror), partial.is_file()
    _fetch_with_retries(url, partial, checkpoint)
    try:
        if not _take_name(partial, target, checkpoint) and resumed:
            log.warning("the continued download is damaged, starting over")
            _fetch_with_retries(url, partial, checkpoint)
            _take_name(partial, target, checkpoint)
    except FileNotFoundError:
        log.info("another process fetched it as well, and was done first")
    if not _is_there(target, checkpoint):
        raise SamnetError(
            f"{url}: what arrived is not the released file (sha256 {checkpoint.sha256}), and was deleted. A proxy or a "
            f"login page may stand in between. {_by_hand(checkpoint, target.parent)}"
        )
    return target


def _take_name(partial: Path, target: Path, checkpoint: Checkpoint) -> bool:
    """Give a complete download its name, or delete it where its hash is wrong; returns whether it was right."""
    log.info("checking %s", target.name)
    if file_sha256(partial) != checkpoint.sha256:
        partial.unlink()
        return False
    os.replace(partial, target)
    remember_sha256(target, checkpoint.sha256)
    return True


def _is_there(target: Path, checkpoint: Checkpoint) -> bool:
    if not target.is_file():
        return False
    found = remembered_sha256(target)
    if found != checkpoint.sha256:
        raise UserError(
            f"{target} is there, but is not the released file: its sha256 is {found}, expected {checkpoint.sha256}. "
            "Delete it, or give it another name, and run this again"
        )
    return True


def _address(checkpoint: Checkpoint, mirror: str | None) -> str:
    if mirror is None:
        return checkpoint.url
    if not re.match(r"https?://[^/]", mirror):
        raise UserError(
            f"--mirror {mirror!r}: expected the address of a folder that starts with https:// or http://"
        )
    return f"{mirror.rstrip('/')}/{checkpoint.file_name}"


def _by_hand(checkpoint: Checkpoint, folder: Path) -> str:
    return (
        f"By hand: download {checkpoint.url} on another machine and put it into {folder.absolute()} "
        f"(sha256 {checkpoint.sha256})"
    )


def _fetch_with_retries(url: str, partial: Path, checkpoint: Checkpoint) -> None:
    """Fetch the rest of the file. What makes progress may go on; `MAX_FRUITLESS_ATTEMPTS` in a row may not."""
    fruitless = 0
    while True:
        before = _size(partial)
        try:
            _fetch(url, partial, checkpoint)
            return
        except _OF_NETWORK as error:
            fruitless = 0 if _size(partial) > before else fruitless + 1
            if fruitless == MAX_FRUITLESS_ATTEMPTS or not _is_worth_another_try(error):
                raise SamnetError(
                    f"{url} cannot be downloaded ({_reason(error)}). {_by_hand(checkpoint, partial.parent)}. "
                    "Running this again goes on from what has arrived"
                ) from None
            wait = FIRST_WAIT_SECONDS * 2 ** max(0, fruitless - 1)
            log.warning("%s; trying again in %.0f s", _reason(error), wait)
            time.sleep(wait)


def _fetch(url: str, partial: Path, checkpoint: Checkpoint) -> None:
    """One attempt; what has arrived is kept, whatever happens."""
    have = _size(partial)
    request = urllib.request.Request(url, headers={"User-Agent": f"samnet/{__version__}"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        # Nothing lies beyond what is here: it is complete, which the hash will tell, or it is another file's.
        if have == (checkpoint.size or have):
            return
        partial.unlink()
        raise _CutOff("the server's file is shorter than what has arrived, starting over") from None
    with response:
        start, total = _extent(response, have)
        if checkpoint.size is not None and total not in (None, checkpoint.size):
            raise SamnetError(
                f"{url}: the server offers {total} bytes, the released file has {checkpoint.size}: a proxy or a login "
                f"page may stand in between. {_by_hand(checkpoint, partial.parent)}"
            )
        _require_space(partial.parent, (total or checkpoint.size or 0) - have)
        with os.fdopen(
            os.open(partial, os.O_RDWR | os.O_CREAT, 0o644), "r+b"
        ) as handle:  # never emptied by opening
            handle.seek(start)
            _copy(response, handle, checkpoint.file_name, total or checkpoint.size)
            handle.truncate()
            handle.flush()
            os.fsync(handle.fileno())


def _extent(response: http.client.HTTPResponse, have: int) -> tuple[int, int | None]:
    """First byte and whole size of what a response brings; a server that ignores `Range` brings everything."""
    if response.status == 206:
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
        if match is None or int(match[1]) > have:
            raise _CutOff("the server's answer does not say which part of the file it is")
        return int(match[1]), None if match[2] == "*" else int(match[2])
    length = response.headers.get("Content-Length", "")
    return 0, int(length) if length.isdecimal() else None


def _copy(
    response: http.client.HTTPResponse, handle: BinaryIO, name: str, total: int | None
) -> None:
    with tqdm(
        total=total, initial=handle.tell(), desc=name, unit="B", unit_scale=True, unit_divisor=1024
    ) as bar:
        while chunk := _read(response):
            handle.write(chunk)
            bar.update(len(chunk))
    if total is not None and handle.tell() < total:
        raise _CutOff(f"the transfer ended after {handle.tell()} of {total} bytes")


def _read(response: http.client.HTTPResponse) -> bytes:
    try:
        return response.read(_CHUNK)
    except OSError as error:  # of the network; an error of the disk is another matter
        raise _CutOff(f"the transfer broke off: {error}") from None


def _require_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise SamnetError(
            f"{folder}: {free / 2**30:.1f} GiB are free, {needed / 2**30:.1f} GiB are missing; make room, or set "
            "samnet_checkpoints to another folder"
        )


def _is_worth_another_try(error: Exception) -> bool:
    if isinstance(error, urllib.error.HTTPError):
        return error.code in _WORTH_ANOTHER_TRY
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
