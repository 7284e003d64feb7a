"""`run.json`: what was requested of a training run, and in which sessions it was trained.

It is read once at the start of a session, and passed on. Records of samnet before version 0.2, with
the keys `asked` and `sittings`, are read as well.
"""

from __future__ import annotations

import platform
import sys
import time
from dataclasses import dataclass, field, fields, replace
from typing import Any

import torch

from samnet import __version__
from samnet.core.errors import UserError
from samnet.core.files import read_json, write_json
from samnet.core.records import from_json, to_json
from samnet.models.model_folder import RunFolder
from samnet.plan.configuration import PLAN_KEYS, earlier_values
from samnet.plan.plan_key import Role
from samnet.training.embeddings.choice import CacheChoice
from samnet.training.out_of_memory import Fallback
from samnet.training.warm_start import Source

Device = torch.device  # a session has a field of the name of the module
# Key in older records -> key now.
_RENAMED = {"asked": "request", "sittings": "sessions"}
_RENAMED_IN_CHOICE = {"views": "variants"}
# Apart from the configuration, what a half-trained network rests on.
_FIXED = ("training_cases", "unlabelled_cases", "seed", "data_key", "start_from")


@dataclass(frozen=True)
class RunRequest:
    """What was requested of a run. Its weights rest on all of it.

    The same command resumes a run whose request is the same. So a field that is added needs a
    default that stands for what was done before, and a key of the plan an `earlier` value.

    Attributes:
        fold: The fold.
        training_cases: The cases it trains on.
        num_patients: `--num-patients`, or None.
        seed: The seed of everything random.
        max_seconds: Limit of the training time, or None.
        cache_size: GiB for embeddings, 0 for none, None for the default.
        data_key: Hash of the raw data that were planned for.
        start_from: The model it starts from (`--from`), or None.
        configuration: The values of its configuration, as JSON has them.
        unlabelled_cases: The cases without labels that it learns from.
    """

    fold: str
    training_cases: tuple[str, ...]
    seed: int
    max_seconds: float | None
    data_key: str
    configuration: dict[str, Any]
    num_patients: int | None = None
    cache_size: float | None = None
    start_from: Source | None = None
    unlabelled_cases: tuple[str, ...] = ()


@dataclass
class Session:
    """One start of `samnet_train` for a run.

    Attributes:
        command: The command line.
        started: Local date and time.
        device: What it trains on.
        samnet: Version of samnet.
        torch: Version of torch.
        python: Version of Python.
        machine: Operating system and processor.
        precision: The precision it computes in; empty in records of older versions.
        embeddings: What is kept of a frozen encoder's work, or None.
        out_of_memory: What was changed when memory ran out.
    """

    command: list[str]
    started: str
    device: str
    samnet: str
    torch: str
    python: str
    machine: str
    precision: str = ""
    embeddings: CacheChoice | None = None
    out_of_memory: list[Fallback] = field(default_factory=list)

    @classmethod
    def begin(cls, device: Device, precision: str, embeddings: CacheChoice | None) -> Session:
        """Describe a session that begins now.

        Args:
            device: What it trains on.
            precision: The precision it computes in.
            embeddings: What is kept of a frozen encoder's work, or None.

        Returns:
            The session.
        """
        return cls(
            command=list(sys.argv),
            started=time.strftime("%Y-%m-%d %H:%M:%S"),
            device=str(device),
            samnet=__version__,
            torch=torch.__version__,
            python=platform.python_version(),
            machine=f"{platform.system()} {platform.machine()}",
            precision=precision,
            embeddings=embeddings,
        )


@dataclass
class RunRecord:
    """The content of `run.json`.

    Attributes:
        request: What was requested when the run last began or changed.
        sessions: The sessions in which it was trained.
    """

    request: RunRequest
    sessions: list[Session] = field(default_factory=list)

    @classmethod
    def load(cls, folder: RunFolder) -> RunRecord | None:
        """Read the record of a run.

        Args:
            folder: The folder of the run.

        Returns:
            Its record; None where there is none.

        Raises:
            UserError: The file is damaged.
        """
        file = folder.record_file
        if not file.is_file():
            return None
        content = _with_new_keys(read_json(file), _RENAMED)
        if not isinstance(content, dict) or "request" not in content:
            raise UserError(f"{file}: no record of a training run; --restart trains again")
        request = from_json(RunRequest, content["request"], f"{file}: request")
        # A run that is older than a key was trained as if it had the key's earlier value.
        known = to_json(earlier_values()) | request.configuration
        request = replace(request, configuration=known)
        sessions = []
        for index, entry in enumerate(_as_list(content.get("sessions"))):
            sessions.append(_session(entry, f"{file}: sessions[{index}]"))
        return cls(request, sessions)

    def save(self, folder: RunFolder) -> None:
        """Write the record of a run.

        Args:
            folder: The folder of the run.
        """
        write_json(folder.record_file, to_json(self))

    def add_fallback(self, fallback: Fallback, folder: RunFolder) -> None:
        """Note in the current session what was changed when memory ran out, and write the record.

        Args:
            fallback: What was changed.
            folder: The folder of the run.
        """
        self.sessions[-1].out_of_memory.append(fallback)
        self.save(folder)


def describe_differences(before: RunRequest, after: RunRequest) -> str:
    """Name the settings in which two requests differ.

    Args:
        before: The request that a run began with.
        after: The request now.

    Returns:
        Up to three of them with both values, such as `seed 1, now 2`.
    """
    texts = []
    for entry in fields(RunRequest):
        known, value = getattr(before, entry.name), getattr(after, entry.name)
        if known == value:
            continue
        if entry.name == "configuration":
            for key in sorted(known.keys() | value.keys()):
                if known.get(key) != value.get(key):
                    texts.append(f"{key} {known.get(key)!r}, now {value.get(key)!r}")
        elif isinstance(known, (str, int, float)) and entry.name != "data_key":
            texts.append(f"{entry.name} {known}, now {value}")
        else:
            texts.append(f"other {entry.name}")
    more = f"; and {len(texts) - 3} more" if len(texts) > 3 else ""
    return "; ".join(texts[:3]) + more


def check_continuation(folder: RunFolder, before: RunRequest, after: RunRequest) -> None:
    """Check that a run can be resumed with another request.

    Args:
        folder: The folder of the run.
        before: The request it began with.
        after: The request now.

    Raises:
        UserError: Something has changed that the half-trained network rests on.
    """
    for key in _FIXED:
        if getattr(before, key) != getattr(after, key):
            raise UserError(
                f"--continue: {folder} began with another {key}; --restart begins again"
            )
    for key, value in after.configuration.items():
        known = before.configuration.get(key)
        if known != value and Role.RESUMABLE not in PLAN_KEYS[key].role:
            raise UserError(
                f"--continue: {folder} began with {key} {known!r}, not {value!r}; --restart begins "
                "again"
            )


def _with_new_keys(content: Any, renamed: dict[str, str]) -> Any:
    if not isinstance(content, dict):
        return content
    return {renamed.get(key, key): value for key, value in content.items()}


def _session(content: Any, where: str) -> Session:
    """Read a session. Sessions hold facts for people: what is unknown or missing is no fault."""
    known = {entry.name for entry in fields(Session)}
    if not isinstance(content, dict):
        content = {}
    values: dict[str, Any] = dict.fromkeys(
        ("started", "device", "samnet", "torch", "python", "machine"), "unknown"
    )
    values |= {key: value for key, value in content.items() if key in known}
    values["command"] = [str(word) for word in _as_list(values.get("command"))]
    choice = _with_new_keys(values.get("embeddings"), _RENAMED_IN_CHOICE)
    values["embeddings"] = None
    if choice:
        values["embeddings"] = from_json(CacheChoice, choice, f"{where}: embeddings")
    fallbacks = _as_list(values.get("out_of_memory"))
    values["out_of_memory"] = [
        from_json(Fallback, entry, f"{where}: out_of_memory") for entry in fallbacks
    ]
    return Session(**values)


def _as_list(content: Any) -> list[Any]:
    return content if isinstance(content, list) else []
