"""Which addresses an archive may come from: https, and http on request or from this machine.

What comes over plain http can be read and changed on its way.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from urllib.parse import urlsplit, urlunsplit

from samnet.core.errors import UserError

_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class WebAddress:
    """An address of which the form has been checked.

    Attributes:
        text: The whole address. It may hold a key in its query, so it is not for messages.
        scheme: `http` or `https`.
        host: The name or number of the server, in lower case.
        port: The port of the server.
    """

    text: str = field(repr=False)
    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        """Return the address for messages, without the query, which may be a key."""
        parts = urlsplit(self.text)
        query = "..." if parts.query else ""
        return urlunsplit((parts.scheme, parts.netloc, parts.path, query, ""))

    @property
    def is_local(self) -> bool:
        """Whether the server is this machine."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def has_server_of(self, other: WebAddress) -> bool:
        """Tell whether two addresses are of one server, which may see the same key.

        Args:
            other: The other address.
        """
        return (self.scheme, self.host, self.port) == (other.scheme, other.host, other.port)


def is_web_address(text: str) -> bool:
    """Tell whether a text is an address of any scheme, not the path of a file.

    Args:
        text: What the user typed.
    """
    return "://" in text


def read_address(text: str, *, allow_http: bool) -> WebAddress:
    """Check an address.

    Args:
        text: The address.
        allow_http: Whether http is allowed from any server, not only from this machine.

    Returns:
        The address.

    Raises:
        UserError: It is none, has another scheme or a password in it, or is http without leave.
    """
    address = _parse(text)
    if address.scheme == "http" and not (allow_http or address.is_local):
        raise UserError(
            f"{address}: http can be read and changed on its way; give the address with https://, "
            "or accept that with --allow-http"
        )
    return address


def _parse(text: str) -> WebAddress:
    shown = text.split("?")[0].split("#")[0]
    try:
        parts = urlsplit(text)
        scheme, host, port = parts.scheme.lower(), parts.hostname, parts.port
    except ValueError as error:
        raise UserError(f"{shown}: is no address ({error}); give https://SERVER/FILE.zip") from None
    if scheme not in _PORTS:
        raise UserError(
            f"{shown}: models are installed from https://SERVER/FILE.zip, hf://ORG/NAME or a file, "
            f"not from {scheme}://"
        )
    if "@" in parts.netloc:
        # The name and the password would end up in the history of the shell and in logs.
        raise UserError(
            f"{scheme}://...@{host}: has a user name or password in it; download the file with a "
            "program that asks for them, and install the file"
        )
    if not host or not all("!" <= character <= "~" for character in text):
        raise UserError(
            f"{shown!r}: is no address; give https://SERVER/FILE.zip, with other letters as %XX, "
            "as a browser copies it"
        )
    return WebAddress(text, scheme, host, port or _PORTS[scheme])


def check_redirect(old: WebAddress, target: str, *, allow_http: bool) -> WebAddress:
    """Check where a server sends a request to.

    Args:
        old: The address that was requested.
        target: The whole address that the server names.
        allow_http: As for `read_address`. Even then, https never becomes http.

    Returns:
        The new address.

    Raises:
        UserError: It is of another scheme, or http in place of https.
    """
    try:
        new = read_address(target, allow_http=allow_http)
    except UserError:
        new = None
    if new is None or (old.scheme == "https" and new.scheme == "http"):
        shown = target.split("?")[0].split("#")[0]
        raise UserError(
            f"{old}: the server redirects to {shown!r}, which samnet does not follow; get the "
            "https address of the file from its owner"
        )
    return new
