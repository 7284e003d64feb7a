"""Who may use a server, and how large a request may be: checked before anything is read."""

from __future__ import annotations

import hmac
import json
import logging
from urllib.parse import urlsplit

from fastapi import HTTPException
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from samnet.serving.settings import GIB, Access, is_loopback

log = logging.getLogger(__name__)
# What a client has to know before it has a token, and the size of such a request.
OPEN_PATHS = ("/auth", "/auth/", "/auth/token")
_OPEN_BYTES = 64 * 1024
_Refusal = tuple[int, str]


class Guard:
    """Stands before an application, and refuses requests.

    Web pages of other servers are refused unless they are allowed, whatever the browser of a user
    would let them do: a page could otherwise send forms to a server on the user's machine, or read
    from it under a name that leads to the loopback address.
    """

    def __init__(self, app: ASGIApp, access: Access, upload_bytes: int) -> None:
        """Put the guard before an application.

        Args:
            app: The application.
            access: Who may use the server.
            upload_bytes: Largest body of a request.
        """
        self._app, self._access, self._upload_bytes = app, access, upload_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on.

        Args:
            scope: What the request is.
            receive: Returns the parts of its body.
            send: Takes the parts of the answer.
        """
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        limit = _OPEN_BYTES if self._is_open(scope) else self._upload_bytes
        refusal = self._refuse_client(scope, headers) or _refuse_length(headers, limit)
        if refusal is not None:
            log.warning("%s %s: refused: %s", scope["method"], scope["path"][:200], refusal[1])
            await _answer(send, *refusal)
            return
        await self._app(scope, _bounded(receive, limit), send)

    def _is_open(self, scope: Scope) -> bool:
        return self._access.token is not None and scope["path"] in OPEN_PATHS

    def _refuse_client(self, scope: Scope, headers: Headers) -> _Refusal | None:
        host = _host_of(f"//{headers.get('host', '')}")
        origin = headers.get("origin")
        is_foreign = origin is not None and origin not in self._access.allowed_origins
        if is_foreign and urlsplit(str(origin)).netloc != headers.get("host"):
            return 403, "web pages of other servers may not use this one; see --allow-origin"
        if self._access.token is None:
            if not is_loopback(host):
                return 403, "the server is for programs on its own machine; call it by 127.0.0.1"
            return None
        if scope["path"] in OPEN_PATHS or self._has_token(headers):
            return None
        return 401, "a token is needed: the header Authorization: Bearer TOKEN"

    def _has_token(self, headers: Headers) -> bool:
        kind, _, given = headers.get("authorization", "").partition(" ")
        token = self._access.token or ""
        return kind.lower() == "bearer" and is_same_token(given.strip(), token)


def is_same_token(given: str, token: str) -> bool:
    """Compare a token with the right one, in a time that does not depend on where they differ.

    Args:
        given: What a client has sent.
        token: The right one.

    Returns:
        Whether both are the same.
    """
    return hmac.compare_digest(given.encode(), token.encode())


def _host_of(address: str) -> str:
    try:
        return urlsplit(address).hostname or ""
    except ValueError:
        return ""


def _refuse_length(headers: Headers, limit: int) -> _Refusal | None:
    length = headers.get("content-length", "0")
    if not length.isdecimal():
        return 400, "content-length: is not a number"
    if int(length) > limit:
        return 413, _too_large(limit)
    return None


def _too_large(limit: int) -> str:
    return f"the request is larger than {limit / GIB:.3g} GiB, the largest that is taken"


def _bounded(receive: Receive, limit: int) -> Receive:
    """Return `receive` for a body of limited length, whatever its headers say."""
    received = 0

    async def bounded() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > limit:
            raise HTTPException(413, _too_large(limit))
        return message

    return bounded


async def _answer(send: Send, status: int, detail: str) -> None:
    headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    body = json.dumps({"detail": detail}).encode()
    headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
