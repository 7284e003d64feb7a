"""What the endpoints share: the service, and parameters in the form of JSON."""

from __future__ import annotations

import json
from typing import Annotated, Any

from fastapi import Depends, Request, UploadFile

from samnet.serving.errors import BadRequest
from samnet.serving.service import Service


def service_of(request: Request) -> Service:
    """Return what the endpoints share.

    Args:
        request: Any request.
    """
    service: Service = request.app.state.service
    return service


Served = Annotated[Service, Depends(service_of)]


def parse_parameters(text: str | None) -> dict[str, Any]:
    """Read the parameters of a form.

    Args:
        text: JSON, or nothing.

    Returns:
        The parameters.

    Raises:
        BadRequest: They are not an object in JSON.
    """
    try:
        content = json.loads(text or "{}")
    except (ValueError, RecursionError):
        raise BadRequest("params: is not JSON") from None
    if not isinstance(content, dict):
        raise BadRequest("params: is no JSON object")
    return content


async def json_of(request: Request) -> dict[str, Any]:
    """Read the body of a request that may be empty.

    Args:
        request: The request. Older clients send JSON as plain text.

    Returns:
        The parameters.

    Raises:
        BadRequest: They are not an object in JSON.
    """
    body = await request.body()
    try:
        text = body.decode()
    except UnicodeDecodeError:
        raise BadRequest("the body is not JSON in UTF-8") from None
    return {} if text.strip() in ("", "null") else parse_parameters(text)


JsonBody = Annotated[dict[str, Any], Depends(json_of)]


def name_of(upload: UploadFile) -> str:
    """Return what a client calls an uploaded file, without its folders, for messages.

    Args:
        upload: The file.
    """
    return (upload.filename or "the file").replace("\\", "/").rsplit("/", 1)[-1][-100:]


def text_of(parameters: dict[str, Any], key: str) -> str:
    """Return a short text among parameters.

    Args:
        parameters: The parameters of a request.
        key: The key of the text.

    Returns:
        The text in one line; empty where there is none.
    """
    value = parameters.get(key)
    return " ".join(value.split())[:100] if isinstance(value, str) else ""
