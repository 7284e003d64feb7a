"""How a model and its report were made: versions, commands, dates, hashes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from samnet import __version__
from samnet.core.errors import UserError
from samnet.core.files import read_json
from samnet.models.model_folder import RunFolder
from samnet.plan.plan import decisions_key
from samnet.reporting.source import Source
from samnet.training.run_record import RunRecord, Session


@dataclass(frozen=True)
class RunFacts:
    """How a run was trained.

    Attributes:
        name: Such as `fold 0`.
        started: Local date and time of its first session.
        device: What it was trained on, and in which precision.
        versions: Versions of samnet, torch and Python.
        command: The command of its last session.
        num_cases: The number of its training cases; empty where it is not known.
    """

    name: str
    started: str
    device: str
    versions: str
    command: str
    num_cases: str


@dataclass(frozen=True)
class Origin:
    """How a model and its report were made.

    Attributes:
        facts: Name of a fact -> the fact.
        runs: The runs of the model.
    """

    facts: dict[str, str]
    runs: tuple[RunFacts, ...]


def describe_origin(source: Source, command: Sequence[str]) -> Origin:
    """Collect how a model and its report were made.

    Args:
        source: What the report is about.
        command: The words of the command that makes the report.
    """
    facts = {
        "This page": f"{time.strftime('%Y-%m-%d %H:%M')}, samnet {__version__}",
        "Its command": " ".join(command),
    }
    plan = source.plan
    if plan is not None:
        facts |= {
            "Plan": f"hash {decisions_key(plan)}, by samnet {plan.samnet_version}, planned for "
            f"{plan.machine}",
            "Data": f"hash {plan.data_key[:16]}",
        }
    weights = _initial_weights(source.runs)
    if weights:
        facts["Weights it started from"] = weights
    return Origin(facts, tuple(_describe_run(run) for run in source.runs))


def _initial_weights(runs: Sequence[RunFolder]) -> str:
    for run in runs:
        try:
            content = read_json(run.base_file)
        except UserError:
            continue
        if isinstance(content, dict) and "file_name" in content:
            return f"{content['file_name']}, sha256 {str(content.get('sha256'))[:16]}"
    return ""


def _describe_run(run: RunFolder) -> RunFacts:
    name = run.name.replace("_", " ")
    try:
        record = RunRecord.load(run)
    except UserError as error:
        return RunFacts(name, "", "", "", str(error), "")
    if record is None or not record.sessions:
        return RunFacts(name, "", "", "", "not recorded", "")
    first, last = record.sessions[0], record.sessions[-1]
    return RunFacts(
        name=name,
        started=first.started,
        device=" ".join(filter(None, (last.device, last.precision))),
        versions=_versions(last),
        command=" ".join(last.command),
        num_cases=f"{len(record.request.training_cases):,}",
    )


def _versions(session: Session) -> str:
    return f"samnet {session.samnet}, torch {session.torch}, Python {session.python}"
