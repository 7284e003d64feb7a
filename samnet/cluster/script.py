"""The scripts of jobs, which `sbatch` takes and other schedulers can run as well."""

from __future__ import annotations

import os
import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from samnet.core.paths import preprocessed_folder, raw_folder, results_folder
from samnet.models.registry import checkpoints_folder

PART = "{part}"  # stands in a command for the number of the task
WARNING_SECONDS = 120
_FOLDERS = {
    "samnet_raw": raw_folder,
    "samnet_preprocessed": preprocessed_folder,
    "samnet_results": results_folder,
    "samnet_checkpoints": checkpoints_folder,
}
# Options of sbatch by which a job gets GPUs, and those that need them.
_GPU_OPTION = re.compile(r"--gres[= ]gpu|--gpus|--gpu-|--(cpus|mem|ntasks)-per-gpu|-G")


@dataclass(frozen=True)
class Resources:
    """What each task of a job is given. None stands for the default of the cluster.

    Attributes:
        partition: The partition of SLURM.
        gpus: Number of GPUs.
        cpus: Number of cores.
        memory: Main memory as SLURM writes it, such as `64G`.
        seconds: Limit of the wall time.
        options: Further options of sbatch, such as `--account=imaging`.
    """

    partition: str | None = None
    gpus: int = 0
    cpus: int | None = None
    memory: str | None = None
    seconds: float | None = None
    options: tuple[str, ...] = ()

    def directives(self) -> list[str]:
        """Return the options of sbatch for these resources.

        Returns:
            Texts such as `--mem=64G`.
        """
        minutes = None if self.seconds is None else max(1, round(self.seconds / 60))
        values = {
            "partition": self.partition,
            "gpus-per-node": self.gpus or None,
            "cpus-per-task": self.cpus,
            "mem": self.memory,
            "time": minutes,
        }
        given = [f"--{name}={value}" for name, value in values.items() if value is not None]
        return [*given, *self.options]

    def without_gpus(self) -> Resources:
        """Return these resources for a job that computes without GPUs.

        Returns:
            The same without GPUs, also where other options of sbatch request them.
        """
        others = tuple(text for text in self.options if not _GPU_OPTION.match(text))
        return replace(self, gpus=0, options=others)


@dataclass(frozen=True)
class Job:
    """Commands of samnet as the tasks of a job array.

    Attributes:
        name: The name of the job.
        commands: The words after `python -m samnet`: a tuple for each task, or a single tuple for
            all tasks, with `PART` in it.
        resources: What each task is given.
        num_tasks: Number of tasks of the array; 1 for a job without an array.
        after: Names of the jobs that have to end before this one starts.
    """

    name: str
    commands: tuple[tuple[str, ...], ...]
    resources: Resources
    num_tasks: int = 1
    after: tuple[str, ...] = ()


def script_of(job: Job, logs: Path) -> str:
    """Write the script of a job.

    SLURM or Kubernetes tells the script the number of the task. Elsewhere it is the first argument
    of the script, from 0 up.

    Args:
        job: The job.
        logs: The folder for what the tasks print.

    Returns:
        The text of a bash script.
    """
    directives = [f"#SBATCH {directive}" for directive in _directives(job, logs)]
    exports = []
    for name, folder in _FOLDERS.items():
        path = str(folder().absolute())
        exports.append(f"export {name}={shlex.quote(path)}")
    lines = [
        "#!/bin/bash",
        *directives,
        "set -euo pipefail",
        f"cd {shlex.quote(os.getcwd())}",
        *exports,
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


def _directives(job: Job, logs: Path) -> list[str]:
    is_array = job.num_tasks > 1
    output = logs / ("%x_%A_%a.log" if is_array else "%x_%j.log")
    directives = [f"--job-name={job.name}"]
    if is_array:
        directives.append(f"--array=0-{job.num_tasks - 1}")
    directives += [
        f"--output={output}",
        "--open-mode=append",
        "--requeue",
        f"--signal=USR1@{WARNING_SECONDS}",
    ]
    return [*directives, *job.resources.directives()]


def _choice(job: Job) -> list[str]:
    """Return the lines that set the command of a task."""
    if len(job.commands) == 1:
        return [f"command=({_quote(job.commands[0])})"]
    cases = [
        f"  {number}) command=({_quote(words)}) ;;" for number, words in enumerate(job.commands)
    ]
    return ['case "$part" in', *cases, '  *) echo "no task $part" >&2; exit 2 ;;', "esac"]


def _quote(words: Sequence[str]) -> str:
    quoted = ['"$part"' if word == PART else shlex.quote(word) for word in words]
    return " ".join([shlex.quote(sys.executable), "-m", "samnet", *quoted])
