"""What a process can learn from SLURM, and ask of it."""

from __future__ import annotations

import logging
import os
import re
import signal
import subprocess

log = logging.getLogger(__name__)
_ANSWER_SECONDS = 60


def requeue_job(number: int) -> bool:
    """Put this process' job back into SLURM's queue after a stop signal; returns whether it was.

    After SIGUSR1, which is asked for before a time limit or sent by a person, always. After SIGTERM unless the job is
    cancelled: `scancel` sends it too, and means it. Of several processes of one training only the first asks.
    """
    job = os.environ.get("SLURM_JOB_ID")
    if job is None or os.environ.get("RANK", "0") != "0":
        return False
    if number == signal.SIGTERM and _job_state(job) == "CANCELLED":
        log.info("SLURM job %s is cancelled: it is not put back into the queue", job)
        return False
    failure = _ask("requeue", job)[1]
    if failure:
        log.warning("SLURM does not put job %s back into its queue: %s", job, failure)
    return not failure


def _job_state(job: str) -> str | None:
    match = re.search(r"\bJobState=(\w+)", _ask("show", "job", job)[0])
    return match[1] if match else None


def _ask(*words: str) -> tuple[str, str]:
    """What `scontrol` answers, and the reason where it fails."""
    try:
        process = subprocess.run(
            ["scontrol", *words],
            capture_output=True,
            text=True,
            timeout=_ANSWER_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return "", str(error)
    failure = (process.stderr.strip() or "no reason given") if process.returncode else ""
    return process.stdout, failure
