"""The token as clients obtain it: `/auth/`. They send it as the password of any user name."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Form
from fastapi.responses import JSONResponse

from samnet.serving.endpoints.common import Served
from samnet.serving.guard import is_same_token

router = APIRouter()


@router.get("/auth/")
def read_whether_needed(service: Served) -> dict[str, Any]:
    """Say whether a token is needed.

    Args:
        service: What the endpoints share.
    """
    return {"enabled": service.settings.access.token is not None}


@router.post("/auth/token", response_model=None)
def give_token(
    service: Served,
    username: Annotated[str, Form()] = "",
    password: Annotated[str, Form()] = "",
) -> dict[str, Any] | JSONResponse:
    """Give the token to a client that knows it.

    Args:
        service: What the endpoints share.
        username: Any name.
        password: The token.

    Returns:
        The token in the form that clients expect, or a refusal.
    """
    token = service.settings.access.token
    if token is None:
        return {"access_token": None, "token_type": None}
    if not is_same_token(password, token):
        return JSONResponse({"detail": "the password is not the token of the server"}, 401)
    return {"access_token": token, "token_type": "bearer"}


@router.get("/auth/token/valid")
def check_token(service: Served) -> dict[str, Any]:
    """Answer a client whose token is right; the guard refuses others.

    Args:
        service: What the endpoints share.
    """
    return {"username": "user", "roles": []}
