"""What the server offers, and what it has done: `/info/`, `/logs/`, and parts that it has not."""

from __future__ import annotations

from collections import deque
from typing import Any

from fastapi import APIRouter
from fastapi.responses import PlainTextResponse

from samnet import __version__
from samnet.serving.endpoints.common import Served
from samnet.serving.errors import NotFound
from samnet.serving.names import label_names
from samnet.serving.strategies import STRATEGIES

router = APIRouter()
_MOST_LINES = 5000


@router.get("/")
@router.get("/info/")
def read_info(service: Served) -> dict[str, Any]:
    """Return models, strategies, labels and the state of the data set.

    Args:
        service: What the endpoints share.
    """
    trained = service.models.trained()
    strategies = {name: {"description": entry.description} for name, entry in STRATEGIES.items()}
    return {
        "name": service.folder.name,
        "description": f"samnet {__version__}",
        "version": __version__,
        # As a list: clients show the names in this order, the values are 1, 2, ...
        "labels": list(label_names(service.store.description.label_scheme)),
        "models": {name: model.as_json() for name, model in trained.items()},
        "trainers": service.training.trainers(),
        "strategies": strategies,
        "scoring": {},
        "train_stats": {},
        "datastore": service.store.status(),
    }


@router.get("/logs/")
def read_log(service: Served, lines: int = 300) -> PlainTextResponse:
    """Return the last lines of the log of the last training run.

    Args:
        service: What the endpoints share.
        lines: How many.
    """
    if not service.log_file.is_file():
        return PlainTextResponse("no training run yet\n")
    with service.log_file.open(encoding="utf-8", errors="replace") as handle:
        last = deque(handle, max(1, min(lines, _MOST_LINES)))
    return PlainTextResponse("".join(last))


@router.get("/scoring/")
@router.get("/batch/infer")
def read_absent_task() -> None:
    """Say that there is no such task.

    Raises:
        NotFound: Always.
    """
    raise NotFound("there is no such task")


@router.post("/scoring/{method}")
@router.post("/batch/infer/{model}")
def start_absent_task() -> None:
    """Say how this is done otherwise.

    Raises:
        NotFound: Always.
    """
    raise NotFound("this server does not do this; use samnet_evaluate, or samnet_predict")
