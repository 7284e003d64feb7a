"""What a server answers where it cannot do what a client requests."""

from __future__ import annotations


class RequestError(Exception):
    """A request that is answered with an error.

    Attributes:
        status: The HTTP status.
        detail: What was found and what to do, for the client.
        headers: Headers of the answer.
    """

    status = 400

    def __init__(self, detail: str, headers: dict[str, str] | None = None) -> None:
        """Describe what cannot be done.

        Args:
            detail: What was found and what to do, for the client.
            headers: Headers of the answer.
        """
        super().__init__(detail)
        self.detail = detail
        self.headers = headers or {}


class BadRequest(RequestError):
    """Something in the request is not of the form that it has to have."""


class Forbidden(RequestError):
    """The server does not do this."""

    status = 403


class NotFound(RequestError):
    """There is no such image, label map, model or session."""

    status = 404


class Conflict(RequestError):
    """Something else is there already."""

    status = 409


class TooLarge(RequestError):
    """A file, or what it decompresses to, is larger than the server takes."""

    status = 413


class Unusable(RequestError):
    """A file was received, and cannot be used."""

    status = 422


class Busy(RequestError):
    """The work that was requested is already going; it can be requested again when it is done."""

    status = 429


class QueueFull(RequestError):
    """Too many requests wait. The client may try again after some seconds."""

    status = 503

    def __init__(self, detail: str) -> None:
        """Describe what is full.

        Args:
            detail: What was found and what to do, for the client.
        """
        super().__init__(detail, {"Retry-After": "5"})
