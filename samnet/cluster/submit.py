"""Submission of jobs to SLURM."""

from __future__ import annotations

import logging
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from samnet.cluster.script import Job, script_of
from samnet.core.errors import SamnetError, UserError
from samnet.core.files import write_text
from samnet.core.paths import results_folder

log = logging.getLogger(__name__)


def slurm_folder() -> Path:
    """Return the folder for the scripts of jobs and for what they print.

    Returns:
        An absolute path, whether the folder exists or not.
    """
    return (results_folder() / "slurm").absolute()


def describe_jobs(jobs: Sequence[Job]) -> str:
    """Write the scripts of jobs without submitting them.

    Args:
        jobs: The jobs in the order of their submission.

    Returns:
        The text of all scripts, each after the command that would submit it.
    """
    parts = []
    for job in jobs:
        after = "".join(f" --dependency=afterany:ID_OF_{name}" for name in job.after)
        parts.append(f"# sbatch{after} {job.name}.sh\n{script_of(job, slurm_folder())}")
    return "\n".join(parts)


def submit_jobs(jobs: Sequence[Job]) -> dict[str, str]:
    """Write the scripts of jobs, and submit them in their order.

    Args:
        jobs: The jobs. Each comes after those that it has to wait for.

    Returns:
        Name of each job -> its number.

    Raises:
        UserError: There is no SLURM on this machine.
        SamnetError: SLURM refuses a job; those before it are submitted.
    """
    folder = slurm_folder()
    numbers: dict[str, str] = {}
    folder.mkdir(parents=True, exist_ok=True)
    for job in jobs:
        script = folder / f"{time.strftime('%Y%m%d-%H%M%S')}-{job.name}.sh"
        write_text(script, script_of(job, folder))
        dependencies = []
        if job.after:
            earlier = ":".join(numbers[name] for name in job.after)
            dependencies = [f"--dependency=afterany:{earlier}"]
        numbers[job.name] = _submit([*dependencies, str(script)])
        log.info("job %s: %s, %d task(s), %s", numbers[job.name], job.name, job.num_tasks, script)
    return numbers


def _submit(words: Sequence[str]) -> str:
    try:
        process = subprocess.run(
            ["sbatch", "--parsable", *words], capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        raise UserError(
            "there is no sbatch on this machine; --dry-run prints scripts for other schedulers"
        ) from None
    if process.returncode:
        raise SamnetError(f"sbatch refuses {words[-1]}: {process.stderr.strip()}")
    return process.stdout.strip().partition(";")[0]
