"""What a client requests of a training run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from samnet.serving.errors import BadRequest
from samnet.serving.settings import TrainingSettings

LAST_MODEL, SCRATCH = "last model", "scratch"
_DURATION = re.compile(r"\d{1,6}(\.\d{1,3})?[smhd]?")
_MOST_STEPS = 10_000_000


@dataclass(frozen=True)
class TrainingRequest:
    """What a client requests of a training run.

    Attributes:
        model: The name of the model.
        duration: As `--max-time` of `samnet_train` takes it.
        steps: Optimiser steps in place of a duration; None for the duration.
        from_scratch: Whether not to start from the weights of the last model.
    """

    model: str
    duration: str
    steps: int | None
    from_scratch: bool

    @classmethod
    def from_parameters(
        cls, model: str, parameters: Mapping[str, Any], settings: TrainingSettings
    ) -> TrainingRequest:
        """Read the parameters of a request.

        Args:
            model: The name of the model.
            parameters: The parameters, or by the name of the model an object with them.
            settings: What holds where they say nothing.

        Returns:
            The request.

        Raises:
            BadRequest: A parameter has a value that cannot be used.
        """
        own = parameters.get(model)
        values = own if isinstance(own, Mapping) else parameters
        duration = values.get("max_time") or settings.duration
        if not isinstance(duration, str) or not _DURATION.fullmatch(duration):
            raise BadRequest(f"max_time {str(duration)[:20]!r}: write such as 90s, 10m or 2h")
        steps = values.get("steps") or settings.steps
        if steps is not None and not (type(steps) is int and 0 < steps <= _MOST_STEPS):
            raise BadRequest(f"steps {str(steps)[:20]!r}: write a whole number, or 0 for max_time")
        start = values.get("start") or LAST_MODEL
        if start not in (LAST_MODEL, SCRATCH):
            raise BadRequest(f"start {str(start)[:20]!r}: choose {LAST_MODEL} or {SCRATCH}")
        return cls(model, duration, steps, start == SCRATCH)
