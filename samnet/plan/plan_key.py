"""The declaration of a key of a plan: all that any part of samnet needs to know, in one place.

A field of `Configuration` is declared with `plan_key(...)`. Its type is the field's annotation.
Everything else follows from the declaration: the check of a value, what `--set` accepts, which
training runs can be resumed, which embeddings are still valid, what a dry run depends on, which
folds can be averaged, and the table in docs/plan_values.md.
"""

from __future__ import annotations

import dataclasses
import enum
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from samnet.core.errors import UserError

_METADATA = "plan_key"
REQUIRED: Any = object()  # marks a key without which a plan cannot be used


class Scope(enum.Enum):
    """Whether a value is decided once for a data set, or for each configuration."""

    DATASET = "data set"
    CONFIGURATION = "configuration"


class Role(enum.Flag):
    """What depends on a value.

    Attributes:
        NONE: Nothing of what follows.
        RESUMABLE: A resumed training run may change it. The trained weights depend on all values
            without this role.
        EMBEDDINGS: The embeddings of a frozen encoder depend on it: another value, another cache.
        MEMORY: The memory of a training step depends on it: another value, another dry run.
        FOLDS: Folds whose predictions are averaged have to share it.
    """

    NONE = 0
    RESUMABLE = enum.auto()
    EMBEDDINGS = enum.auto()
    MEMORY = enum.auto()
    FOLDS = enum.auto()


@dataclass(frozen=True)
class PlanKey:
    """One key of a plan.

    Attributes:
        name: The key.
        kind: Its annotated type.
        meaning: What it is, for docs/plan_values.md.
        group: The heading under which it stands there.
        scope: Whether it is decided for the data set or for each configuration.
        role: What depends on it.
        possible: The possible values in words, for the docs and for messages.
        choices: Returns the allowed values, or the allowed entries of a list; None where any is.
        lowest: Smallest allowed number, or None.
        highest: Largest allowed number, or None.
        is_valid: A further check of a value; None where type, choices and limits say everything.
        earlier: The value of plans and runs that are older than the key; `REQUIRED` where those
            cannot be used.
    """

    name: str
    kind: Any
    meaning: str
    group: str
    scope: Scope
    role: Role
    possible: str
    choices: Callable[[], tuple[str, ...]] | None
    lowest: float | None
    highest: float | None
    is_valid: Callable[[Any], bool] | None
    earlier: Any

    def check(self, value: Any, where: str) -> None:
        """Check a value that has the right type.

        Args:
            value: The value.
            where: What to call the place in messages.

        Raises:
            UserError: The value is not allowed; the message says what is.
        """
        self._check_choices(value, where)
        if self._is_outside(value):
            raise UserError(f"{where}: {self.name} is {value}; it has to be {self._limits()}")
        if self.is_valid is not None and not self.is_valid(value):
            shown = list(value) if isinstance(value, tuple) else value
            raise UserError(f"{where}: {self.name} is {shown!r}; it has to be {self.possible}")

    def _check_choices(self, value: Any, where: str) -> None:
        if self.choices is None:
            return
        entries = value if isinstance(value, tuple) else (value,)
        wrong = [entry for entry in entries if entry not in self.choices()]
        if wrong:
            listing = ", ".join(self.choices())
            raise UserError(f"{where}: {self.name} is {wrong[0]!r}; possible are {listing}")

    def _is_outside(self, value: Any) -> bool:
        if self.lowest is None:
            return False
        highest = sys.float_info.max if self.highest is None else self.highest
        return not self.lowest <= value <= highest  # true for NaN and infinity, too

    def _limits(self) -> str:
        if self.highest is None:
            return f"at least {self.lowest:g}"
        return f"from {self.lowest:g} to {self.highest:g}"


def plan_key(
    meaning: str,
    role: Role,
    *,
    group: str,
    possible: str = "",
    scope: Scope = Scope.CONFIGURATION,
    choices: Callable[[], tuple[str, ...]] | tuple[str, ...] | None = None,
    limits: tuple[float, float | None] | None = None,
    is_valid: Callable[[Any], bool] | None = None,
    earlier: Any = REQUIRED,
) -> Any:
    """Declare a field of `Configuration` as a key of the plan.

    Args:
        meaning: What it is.
        role: What depends on it; there is no default, so that nothing is forgotten.
        group: The heading under which it stands in docs/plan_values.md.
        possible: The possible values in words, where choices or limits do not say them.
        scope: Whether it is decided for the data set or for each configuration.
        choices: The allowed values, or a function that returns them.
        limits: Smallest and largest allowed number; None as the largest for no limit.
        is_valid: A further check of a value.
        earlier: For a key that is added to a released version: the value that stands for what
            samnet did before. Plans and runs that are older than the key have it.

    Returns:
        A dataclass field.
    """
    lowest, highest = limits or (None, None)
    declared = {
        "meaning": meaning,
        "group": group,
        "scope": scope,
        "role": role,
        "possible": possible,
        "choices": choices if choices is None or callable(choices) else lambda: choices,
        "lowest": lowest,
        "highest": highest,
        "is_valid": is_valid,
        "earlier": earlier,
    }
    return dataclasses.field(metadata={_METADATA: declared})


def declared_keys(record: type, hints: dict[str, Any]) -> dict[str, PlanKey]:
    """Collect the declarations of a dataclass.

    Args:
        record: The dataclass whose fields are declared with `plan_key`.
        hints: Its type hints, by field.

    Returns:
        The declarations by key, in the order of the fields.
    """
    fields = dataclasses.fields(record)
    return {
        field.name: PlanKey(field.name, hints[field.name], **field.metadata[_METADATA])
        for field in fields
    }
