"""A training run in a tracking tool: everything once, over all sessions, and never fatal."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from samnet import __version__
from samnet.core.errors import UserError
from samnet.core.files import read_json, write_json
from samnet.core.records import from_json
from samnet.core.worker_pool import describe_error
from samnet.evaluation.overlays.evaluated_cases import FIGURES_FOLDER
from samnet.models.model_folder import RunFolder
from samnet.training.curves import ON_HELD_OUT_CASES, ON_TRAINING_CASES, Epoch
from samnet.training.distributed import Distributed
from samnet.training.resolve import ResolvedRun
from samnet.training.tracking.backend import Backend, TrackedRun, open_backend

log = logging.getLogger(__name__)
_STATE_FILE = "sent.json"
_CASES = "[0-9][0-9]_*.png"  # the figures of single cases, the worst first


@dataclass(frozen=True)
class Sent:
    """What a tool has of a run, kept in the run's folder.

    Attributes:
        identifier: What the tool calls the run.
        step: The last step whose numbers it has; -1 for none.
        parameters: The parameters that it has.
        figures: Name of a figure -> the step it was sent at.
    """

    identifier: str
    step: int = -1
    parameters: dict[str, Any] = field(default_factory=dict)
    figures: dict[str, int] = field(default_factory=dict)


class RunTracker:
    """Sends a run to a tool.

    What fails is one warning in the log; nothing is sent after that, and the training continues.
    """

    def __init__(self, tool: str | None, run: TrackedRun, parameters: Mapping[str, Any]) -> None:
        """Send nothing yet: the folder of the run may be about to be replaced.

        Args:
            tool: One of `TRACKERS`; None to track nothing.
            run: The run; `folder` is its folder for all tools.
            parameters: The values that define the run, as JSON has them.
        """
        self._tool, self._run = tool, run
        self._parameters = {name: _scalar(value) for name, value in parameters.items()}
        self._backend: Backend | None = None
        self._sent: Sent | None = None
        self._is_complete = False

    @classmethod
    def of(cls, run: ResolvedRun, distributed: Distributed) -> RunTracker:
        """Return the tracker of a run.

        Args:
            run: The run.
            distributed: The processes that train it; the master process tracks.

        Returns:
            The tracker, which does nothing where none is requested.
        """
        tool = run.options.track if distributed.is_master else None
        tracked = TrackedRun(
            dataset=run.dataset.name,
            configuration=run.plan.single_name,
            fold=run.request.fold,
            folder=run.folder.tracking,
        )
        cases = run.cases
        parameters = {
            "dataset": tracked.dataset,
            "configuration": tracked.configuration,
            "fold": tracked.fold,
            "training_cases": len(cases.training),
            "validation_cases": len(cases.validation),
            "validated_on": ON_HELD_OUT_CASES if cases.held_out else ON_TRAINING_CASES,
            "seed": run.request.seed,
            "max_seconds": run.request.max_seconds,
            "device": str(distributed.device),
            "samnet": __version__,
        }
        return cls(tool, tracked, parameters | run.request.configuration)

    def begin(self, epochs: Sequence[Epoch]) -> None:
        """Open the run in the tool, and send what it lacks of the epochs before.

        Args:
            epochs: The lines of `metrics.jsonl` that count.
        """
        if self._tool is None:
            return
        self._attempt(self._open)
        for epoch in epochs:
            self.add_epoch(epoch)

    def _open(self) -> None:
        assert self._tool is not None
        folder = self._run.folder / self._tool
        folder.mkdir(parents=True, exist_ok=True)
        self._sent = _read_sent(folder / _STATE_FILE)
        run = replace(self._run, folder=folder)
        if self._sent is not None:
            run = replace(run, identifier=self._sent.identifier, step=self._sent.step)
        self._backend = open_backend(self._tool, run)
        if self._sent is None:
            self._note(Sent(self._backend.identifier))
        assert self._sent is not None
        if self._sent.parameters != self._parameters:
            self._backend.add_parameters(self._parameters, self._sent.step)
            self._note(replace(self._sent, parameters=self._parameters))

    def _note(self, sent: Sent) -> None:
        assert self._tool is not None
        write_json(self._run.folder / self._tool / _STATE_FILE, asdict(sent))
        self._sent = sent

    def add_epoch(self, epoch: Epoch) -> None:
        """Send the numbers of an epoch, unless the tool has them.

        Args:
            epoch: A line of `metrics.jsonl`.
        """
        if self._backend is None or self._sent is None or epoch["step"] <= self._sent.step:
            return
        backend, sent, step = self._backend, self._sent, epoch["step"]

        def send() -> None:
            backend.add_metrics(_numbers(epoch), step)
            self._note(replace(sent, step=step))

        self._attempt(send)

    def finish(self, folder: RunFolder) -> None:
        """Send the curves, and the figures of the held-out cases as far as they are drawn.

        Args:
            folder: The folder of the run.
        """
        self._is_complete = folder.is_finished
        figures = {"progress": folder.progress_file}
        for file in sorted((folder.validation / FIGURES_FOLDER).glob(_CASES)):
            figures[f"cases/{file.stem}"] = file
        for name, file in figures.items():
            if file.is_file():
                self._attempt(partial(self._send_figure, name, file))

    def _send_figure(self, name: str, file: Path) -> None:
        sent = self._sent
        if self._backend is None or sent is None or sent.figures.get(name) == sent.step:
            return
        self._backend.add_figure(name, file, max(sent.step, 0))
        self._note(replace(sent, figures=sent.figures | {name: sent.step}))

    def close(self) -> None:
        """End the session in the tool."""
        backend = self._backend
        if backend is not None:
            self._attempt(partial(backend.close, is_complete=self._is_complete))
        self._backend = None

    def _attempt(self, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:
            self._backend = None
            log.debug("tracking with %s failed", self._tool, exc_info=error)
            log.warning(
                "%s: not tracked with %s any more, the training is unaffected (%s)",
                self._run.name,
                self._tool,
                describe_error(error),
            )


def _read_sent(file: Path) -> Sent | None:
    if not file.is_file():
        return None
    try:
        return from_json(Sent, read_json(file), str(file))
    except UserError:
        return None  # half a record is none; the tool gets another run


def _scalar(value: Any) -> str | float:
    """Return a value as a parameter: numbers and texts unchanged, else as JSON."""
    is_plain = isinstance(value, (str, int, float)) and not isinstance(value, bool)
    return value if is_plain else json.dumps(value)


def _numbers(epoch: Epoch) -> dict[str, float]:
    """Return the numbers of a line, those within others as `dice/liver`; None is left out."""
    numbers: dict[str, float] = {}
    for name, value in epoch.items():
        entries = value.items() if isinstance(value, dict) else [("", value)]
        for inner, entry in entries:
            if isinstance(entry, (int, float)):
                numbers[f"{name}/{inner}" if inner else name] = float(entry)
    return numbers
