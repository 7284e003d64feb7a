"""Training runs: `/train/`."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from samnet.serving.endpoints.common import JsonBody, Served
from samnet.serving.errors import NotFound

router = APIRouter()


@router.get("/train/")
def read_status(service: Served, all: bool = False, check_if_running: bool = False) -> Any:
    """Return the state of the last training run, or of all.

    Args:
        service: What the endpoints share.
        all: Whether to return all.
        check_if_running: Whether to return the one that runs alone.

    Raises:
        NotFound: There is none.
    """
    if check_if_running:
        running = service.training.running()
        if running is None:
            raise NotFound("no training run is going")
        return running.as_json()
    tasks = service.training.tasks()
    if not tasks:
        raise NotFound("no training run was started")
    return [task.as_json() for task in tasks] if all else tasks[-1].as_json()


@router.post("/train/")
def start_all(service: Served, parameters: JsonBody) -> dict[str, Any]:
    """Train every model, one after the other.

    Args:
        service: What the endpoints share.
        parameters: The parameters of all models, or by the name of each.

    Returns:
        By the name of each model its training run; in addition the state of the first one, which
        older clients read.

    Raises:
        NotFound: No model can be trained.
    """
    names = list(service.training.trainers())
    if not names:
        raise NotFound("no model can be trained")
    tasks = {name: service.training.submit(name, parameters, waits=True) for name in names}
    states = {name: {"result": task.as_json(), "detail": None} for name, task in tasks.items()}
    return tasks[names[0]].as_json() | states


@router.post("/train/{model}")
def start(
    service: Served, model: str, parameters: JsonBody, enqueue: bool = False
) -> dict[str, Any]:
    """Train a model.

    Args:
        service: What the endpoints share.
        model: Its name.
        parameters: The parameters.
        enqueue: Whether to wait for another training run.

    Returns:
        The state of the training run.
    """
    return service.training.submit(model, parameters, waits=enqueue).as_json()


@router.delete("/train/")
def stop(service: Served) -> dict[str, Any] | None:
    """Stop the training run that is going.

    Args:
        service: What the endpoints share.

    Returns:
        Its state; nothing where none is going.
    """
    task = service.training.stop()
    return None if task is None else task.as_json()
