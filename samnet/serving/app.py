"""The application: MONAI Label's endpoints, and how errors are answered."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator

from fastapi import FastAPI, Request
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse

from samnet import __version__
from samnet.core.errors import SamnetError, UserError
from samnet.serving.endpoints import (
    activelearning,
    auth,
    datastore,
    infer,
    info,
    session,
    train,
    wsi,
)
from samnet.serving.errors import RequestError
from samnet.serving.guard import Guard
from samnet.serving.queueing import ClientGone
from samnet.serving.service import Service

log = logging.getLogger(__name__)
_SWEEP_SECONDS = 30.0
_CLIENT_GONE = 499  # nobody reads the answer


def create_app(service: Service) -> FastAPI:
    """Build the application of a server.

    Args:
        service: What its endpoints share.

    Returns:
        An application for uvicorn, or for a test client.
    """
    # Without the pages that would load programs from other servers.
    app = FastAPI(
        title="samnet",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        lifespan=_lifespan,
    )
    app.state.service = service
    for module in (info, infer, wsi, datastore, activelearning, train, session, auth):
        app.include_router(module.router)
    app.add_exception_handler(RequestError, _answer_request_error)
    app.add_exception_handler(SamnetError, _answer_samnet_error)
    app.add_exception_handler(ClientGone, _answer_nobody)
    app.add_exception_handler(Exception, _answer_unforeseen)
    settings = service.settings
    app.add_middleware(Guard, access=settings.access, upload_bytes=settings.limits.upload_bytes)
    if settings.access.allowed_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.access.allowed_origins),
            allow_methods=["GET", "POST", "PUT", "DELETE"],
            allow_headers=["Authorization", "Content-Type"],
        )
    return app


@contextlib.asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    service: Service = app.state.service
    sweeper = asyncio.create_task(_sweep(service))
    try:
        yield
    finally:
        sweeper.cancel()
        await asyncio.to_thread(service.close)


async def _sweep(service: Service) -> None:
    while True:
        await asyncio.sleep(_SWEEP_SECONDS)
        await asyncio.to_thread(service.sessions.remove_expired)


async def _answer_request_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestError)
    log.info("%s %s: %s", request.method, request.url.path[:200], error.detail)
    detail = _without_folders(request, error.detail)
    return JSONResponse({"detail": detail}, error.status, error.headers)


async def _answer_samnet_error(request: Request, error: Exception) -> JSONResponse:
    status = 422 if isinstance(error, UserError) else 500
    log.warning("%s %s: %s", request.method, request.url.path[:200], error)
    return JSONResponse({"detail": _without_folders(request, str(error))}, status)


def _without_folders(request: Request, text: str) -> str:
    """Return a message without the folders of the server, which are nobody else's business."""
    folder = request.app.state.service.folder
    for path in (folder.raw, folder.preprocessed, folder.results):
        text = text.replace(f"{path}/", "")
    return text


async def _answer_nobody(request: Request, error: Exception) -> JSONResponse:
    log.info("%s %s: the client has gone", request.method, request.url.path[:200])
    return JSONResponse({"detail": "the client has gone"}, _CLIENT_GONE)


async def _answer_unforeseen(request: Request, error: Exception) -> JSONResponse:
    # Starlette raises the error again afterwards, so the log of the server has its traceback.
    return JSONResponse({"detail": "the server failed; its log says why"}, 500)
