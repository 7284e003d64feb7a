"""Requests of a running process to the scheduler SLURM."""

from __future__ import annotations

import logging
import os
import re
import signal
import subprocess

log = logging.getLogger(__name__)
_TIMEOUT_SECONDS = 60


def requeue_job(number: int) -> bool:
    """Put the SLURM job of this process back into the queue after a stop signal.

    After SIGUSR1, which SLURM sends before a time limit if the job script requests it, or which a
    person sends, the job is always put back. After SIGTERM it is put back unless the job has been
    cancelled: `scancel` sends SIGTERM too, and then the job has to end. In distributed training
    only the master process (rank 0) sends the request.

    Args:
        number: Number of the signal.

    Returns:
        Whether the job is in the queue again. False outside of SLURM.
    """
    job = os.environ.get("SLURM_JOB_ID")
    if job is None or os.environ.get("RANK", "0") != "0":
        return False
    if number == signal.SIGTERM and _job_state(job) == "CANCELLED":
        log.info("SLURM job %s is cancelled: it is not put back into the queue", job)
        return False
    _, failure = _run_scontrol("requeue", job)
    if failure:
        log.warning("SLURM does not put job %s back into its queue: %s", job, failure)
    return not failure


def _job_state(job: str) -> str | None:
    output, _ = _run_scontrol("show", "job", job)
    match = re.search(r"\bJobState=(\w+)", output)
    return match[1] if match else None


def _run_scontrol(*arguments: str) -> tuple[str, str]:
    """Return the output of `scontrol`, and the reason where it fails."""
    try:
        process = subprocess.run(
            ["scontrol", *arguments],
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return "", str(error)
    failure = (process.stderr.strip() or "no reason given") if process.returncode else ""
    return process.stdout, failure
