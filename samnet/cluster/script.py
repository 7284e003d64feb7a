"""A job as the script that `sbatch` takes, and that other schedulers can run as well."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from samnet.core.paths import preprocessed_folder, raw_folder, results_folder

PART = "{part}"  # in a command: the number of the array's task
WARNING_SECONDS = 120
_FOLDERS = {
    "samnet_raw": raw_folder,
    "samnet_preprocessed": preprocessed_folder,
    "samnet_results": results_folder,
}


@dataclass(frozen=True)
class Resources:
    """What each task of a job is given. None: what the cluster gives by default.

    seconds: of wall time. memory: as SLURM writes it, such as `64G`. options: further ones of sbatch, such as
    `--account=imaging`.
    """

    partition: str | None = None
    gpus: int = 0
    cpus: int | None = None
    memory: str | None = None
    seconds: float | None = None
    options: tuple[str, ...] = ()

    def directives(self) -> list[str]:
        given = {
            "partition": self.partition,
            "gpus-per-node": self.gpus or None,
            "cpus-per-task": self.cpus,
            "mem": self.memory,
            "time": None if self.seconds is None else max(1, round(self.seconds / 60)),  # minutes
        }
        return [
            *(f"--{name}={value}" for name, value in given.items() if value is not None),
            *self.options,
        ]


@dataclass(frozen=True)
class Job:
    """Commands of samnet, each a task of an array.

    commands: words after `python -m samnet`, one tuple for each task; or a single one, with `PART` in it, for all.
    num_tasks: of the array. after: the names of the jobs that have to end before.
    """

    name: str
    commands: tuple[tuple[str, ...], ...]
    resources: Resources
    num_tasks: int = 1
    after: tuple[str, ...] = ()


def script_of(job: Job, logs: Path) -> str:
    """The text of a job's script. Where SLURM does not run it, its first argument is the number of the task, from 0.

    logs: the folder for what the tasks print.
    """
    output = logs / ("%x_%A_%a.log" if job.num_tasks > 1 else "%x_%j.log")
    directives = [
        f"--job-name={job.name}",
        *([f"--array=0-{job.num_tasks - 1}"] if job.num_tasks > 1 else []),
        f"--output={output}",
        "--open-mode=append",
        "--requeue",
        f"--signal=USR1@{WARNING_SECONDS}",
        *job.resources.directives(),
    ]
    lines = [
        "#!/bin/bash",
        *(f"#SBATCH {directive}" for directive in directives),
        "set -euo pipefail",
        f"cd {shlex.quote(os.getcwd())}",
        *(
            f"export {name}={shlex.quote(str(folder().absolute()))}"
            for name, folder in _FOLDERS.items()
        ),
        "# The number of the array's task, under SLURM, Kubernetes, or as the first argument.",
        "part=${SLURM_ARRAY_TASK_ID:-${JOB_COMPLETION_INDEX:-${1:-0}}}",
        "# As a step of the job, the command gets the signals that are sent to the job.",
        'export SRUN_CPUS_PER_TASK="${SLURM_CPUS_PER_TASK:-}"',
        '[ -n "$SRUN_CPUS_PER_TASK" ] || unset SRUN_CPUS_PER_TASK',
        'step=(); [ -z "${SLURM_JOB_ID:-}" ] || step=(srun --ntasks=1)',
        *_choice(job),
        'exec ${step[@]+"${step[@]}"} "${command[@]}"',
    ]
    return "\n".join(lines) + "\n"


def _choice(job: Job) -> list[str]:
    if len(job.commands) == 1:
        return [f"command=({_quote(job.commands[0])})"]
    cases = [
        f"  {number}) command=({_quote(words)}) ;;" for number, words in enumerate(job.commands)
    ]
    return ['case "$part" in', *cases, '  *) echo "no task $part" >&2; exit 2 ;;', "esac"]


def _quote(words: Sequence[str]) -> str:
    quoted = ['"$part"' if word == PART else shlex.quote(word) for word in words]
    return " ".join([shlex.quote(sys.executable), "-m", "samnet", *quoted])
