"""What a tracking tool has to offer, and which tools there are. Nothing heavy is imported."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from samnet.core.errors import UserError

TRACKERS = ("tensorboard", "mlflow", "wandb")  # each is also the name of its package and extra


@dataclass(frozen=True)
class TrackedRun:
    """A training run as a tool sees it.

    Attributes:
        dataset: Name of the data set, by which tools group runs.
        configuration: Name of the configuration.
        fold: The fold.
        folder: Where the tool keeps what it does not send elsewhere. It exists.
        identifier: What the tool called the run in an earlier session; None in the first one.
        step: The last step of which the tool has the numbers; -1 for none.
    """

    dataset: str
    configuration: str
    fold: str
    folder: Path
    identifier: str | None = None
    step: int = -1

    @property
    def name(self) -> str:
        """The name of the run, such as `Dataset008_Spleen/lora/fold_0`."""
        return f"{self.dataset}/{self.configuration}/fold_{self.fold}"


class Backend(Protocol):
    """A run in a tool. Whatever it raises is a warning in the log, and ends the tracking alone.

    Attributes:
        identifier: What the tool calls the run, to find it in the next session.
    """

    identifier: str

    def add_parameters(self, values: Mapping[str, str | float], step: int) -> None:
        """Add the values that define the run, or those that a resumed run has changed.

        Args:
            values: Numbers and texts by name.
            step: The step from which they hold.
        """
        ...

    def add_metrics(self, values: Mapping[str, float], step: int) -> None:
        """Add the numbers of an epoch.

        Args:
            values: Numbers by name.
            step: The number of steps done. It rises from call to call.
        """
        ...

    def add_figure(self, name: str, file: Path, step: int) -> None:
        """Add a figure.

        Args:
            name: Its name, such as `progress` or `cases/01_spleen_7`.
            file: A PNG file.
            step: The number of steps done.
        """
        ...

    def close(self, *, is_complete: bool) -> None:
        """Write what is left and end the session.

        Args:
            is_complete: Whether the run is finished; else it is resumed later.
        """
        ...


def check_tracker(name: str) -> None:
    """Check that a tool is known and installed.

    Args:
        name: One of `TRACKERS`.

    Raises:
        UserError: There is no such tool, or its package is not installed.
    """
    if name not in TRACKERS:
        raise UserError(f"--track {name}: choose from {', '.join(TRACKERS)}")
    if importlib.util.find_spec(name) is None:
        raise UserError(
            f"--track {name}: the package {name} is not installed; install it with "
            f"pip install 'samnet[{name}]'"
        )


def open_backend(name: str, run: TrackedRun) -> Backend:
    """Open a run in a tool, or the one of an earlier session again.

    Args:
        name: One of `TRACKERS`.
        run: The run.

    Returns:
        The run in the tool.
    """
    # Late: each of these packages takes a second or more to import.
    if name == "tensorboard":
        from samnet.training.tracking.tensorboard import TensorBoardRun

        return TensorBoardRun(run)
    if name == "mlflow":
        from samnet.training.tracking.mlflow import MLflowRun

        return MLflowRun(run)
    from samnet.training.tracking.wandb import WandbRun

    return WandbRun(run)


def plain_name(name: str) -> str:
    """Replace what not all tools take in a name.

    Args:
        name: A name that may hold the name of a class.

    Returns:
        Letters, digits, and `_ - . /`. Other characters become their code, a space becomes `_`.
    """
    return re.sub(r"[^\w./-]", _code, name.replace(" ", "_"))


def _code(match: re.Match[str]) -> str:
    return f"x{ord(match[0]):02x}"


def as_text(value: Any) -> str:
    """Return a value as it stands in a table of parameters.

    Args:
        value: A number or a text.

    Returns:
        The text.
    """
    return f"{value:g}" if isinstance(value, float) else str(value)
