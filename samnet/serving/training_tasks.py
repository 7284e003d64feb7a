"""Training runs that clients start: one after the other, each in a process of its own."""

from __future__ import annotations

import logging
import threading
import uuid
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from samnet.core.errors import SamnetError
from samnet.serving.errors import Busy, NotFound
from samnet.serving.retraining import Retraining
from samnet.serving.served_models import ServedModel, ServedModels
from samnet.serving.settings import TrainingSettings
from samnet.serving.training_request import LAST_MODEL, SCRATCH, TrainingRequest

log = logging.getLogger(__name__)
SUBMITTED, RUNNING, DONE, ERROR, STOPPED = "SUBMITTED", "RUNNING", "DONE", "ERROR", "STOPPED"
_MOST_LINES = 20  # of the log, in the status
_MOST_TASKS = 100
_MOST_WAITING = 8


@dataclass
class TrainingTask:
    """A training run that a client has started.

    Attributes:
        request: What was requested.
        identifier: What clients call it by.
        status: `SUBMITTED`, `RUNNING`, `DONE`, `ERROR` or `STOPPED`.
        started: When it was requested.
        ended: When it ended; None before.
        details: The last lines of its log.
        result: What became of it; empty before its end.
    """

    request: TrainingRequest
    identifier: str = field(default_factory=lambda: str(uuid.uuid4()))
    status: str = SUBMITTED
    started: datetime = field(default_factory=datetime.now)
    ended: datetime | None = None
    details: deque[str] = field(default_factory=lambda: deque(maxlen=_MOST_LINES))
    result: str = ""

    @property
    def is_open(self) -> bool:
        """Whether it has not ended."""
        return self.status in (SUBMITTED, RUNNING)

    def as_json(self) -> dict[str, Any]:
        """Return its state by the protocol's keys."""
        content: dict[str, Any] = {
            "id": self.identifier,
            "status": self.status,
            "request": {"model": self.request.model},
            "start_ts": _timestamp(self.started),
            # Clients show the last line, also of a training run that has none yet.
            "details": list(self.details) or ["waiting"],
        }
        if self.ended is not None:
            content["end_ts"] = _timestamp(self.ended)
            content["result"] = self.result
        return content


class TrainingTasks:
    """All training runs of a server, of which one runs at a time."""

    def __init__(
        self, models: ServedModels, retraining: Retraining, settings: TrainingSettings
    ) -> None:
        """Begin without training runs.

        Args:
            models: The models of the server.
            retraining: Does the work.
            settings: How models are trained where clients say nothing.
        """
        self._models, self._retraining, self._settings = models, retraining, settings
        self._tasks: list[TrainingTask] = []
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._is_closed = False

    def trainers(self) -> dict[str, dict[str, Any]]:
        """Return the models that can be trained, with the parameters that clients show."""
        config = {
            "max_time": self._settings.duration,
            "steps": self._settings.steps or 0,
            "start": [LAST_MODEL, SCRATCH],
        }
        names = [name for name, model in self._models.models.items() if self._can_train(model)]
        return {
            name: {"description": f"samnet_train: {name}", "config": dict(config)} for name in names
        }

    def submit(self, model: str, parameters: Mapping[str, Any], *, waits: bool) -> TrainingTask:
        """Start a training run.

        Args:
            model: The name of the model.
            parameters: What the client requests.
            waits: Whether it may wait for others.

        Returns:
            The training run.

        Raises:
            NotFound: There is no such model, or it does not belong to the data set.
            BadRequest: A parameter has a value that cannot be used.
            Busy: Another one runs, or too many wait.
        """
        if model not in self.trainers():
            listing = ", ".join(self.trainers()) or "none"
            raise NotFound(f"model {model[:100]!r}: cannot be trained here (these can: {listing})")
        request = TrainingRequest.from_parameters(model, parameters, self._settings)
        with self._lock:
            num_open = sum(task.is_open for task in self._tasks)
            if num_open >= (_MOST_WAITING if waits else 1):
                raise Busy("a training run is going already; stop it, or wait for its end")
            task = TrainingTask(request)
            self._tasks = [*self._tasks, task][-_MOST_TASKS:]
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._work, name="training", daemon=True)
                self._thread.start()
        return task

    def tasks(self) -> list[TrainingTask]:
        """List all training runs, the last one at the end."""
        with self._lock:
            return list(self._tasks)

    def running(self) -> TrainingTask | None:
        """Return the training run that runs, or is about to; None where there is none."""
        return next((task for task in self.tasks() if task.is_open), None)

    def stop(self) -> TrainingTask | None:
        """Stop the training run that runs, without its result.

        Returns:
            The training run; None where none runs.
        """
        with self._lock:
            task = next((task for task in self._tasks if task.is_open), None)
            if task is None:
                return None
            _end(task, STOPPED, "stopped; the model is the one from before")
        self._retraining.stop()
        return task

    def close(self) -> None:
        """Stop everything, and wait for the end of the process."""
        self._is_closed = True
        while self.stop() is not None:
            pass
        if self._thread is not None:
            self._thread.join()

    def _work(self) -> None:
        """Do all that waits, one after the other; the work of the thread."""
        while True:
            with self._lock:
                waiting = [task for task in self._tasks if task.status == SUBMITTED]
                if not waiting or self._is_closed:
                    self._thread = None
                    return
                task = waiting[0]
                task.status = RUNNING
                self._retraining.begin()
            self._train(task)

    def _train(self, task: TrainingTask) -> None:
        status, result = DONE, "the model is replaced by the trained one"
        model = self._models.models[task.request.model]
        try:
            self._retraining.run(model, task.request, task.details.append)
        except SamnetError as error:
            status, result = ERROR, str(error)
        except Exception as error:
            log.exception("training failed")
            status, result = ERROR, f"{type(error).__name__}; see the log of the server"
        with self._lock:
            if task.status == RUNNING:
                _end(task, status, result)
        log.info("training of %s: %s (%s)", task.request.model, task.status, task.result)

    def _can_train(self, model: ServedModel) -> bool:
        return model.folder.path.parent == self._retraining.folder.results


def _end(task: TrainingTask, status: str, result: str) -> None:
    task.status, task.result, task.ended = status, result, datetime.now()
    task.details.append(result)


def _timestamp(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M:%S")
