"""The share of the work that one task of a scheduler's job array does."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TypeVar

from samnet.core.errors import UserError

Item = TypeVar("Item")

# Environment variables by which SLURM, LSF, Kubernetes and PBS describe a task of a job array.
ARRAY_VARIABLES = (
    "SLURM_ARRAY_TASK_ID",
    "SLURM_ARRAY_TASK_MIN",
    "SLURM_ARRAY_TASK_STEP",
    "SLURM_ARRAY_TASK_COUNT",
    "LSB_JOBINDEX",
    "LSB_JOBINDEX_END",
    "JOB_COMPLETION_INDEX",
    "PBS_ARRAY_INDEX",
)


def select_part(items: Sequence[Item], num_parts: int, part_id: int) -> list[Item]:
    """Return every `num_parts`-th item, beginning with item `part_id`.

    The parts of all ids are disjoint, and together they are all items.

    Args:
        items: All items.
        num_parts: Number of parts.
        part_id: Number of the part to return, from 0.

    Raises:
        UserError: `part_id` is outside 0 .. num_parts - 1.
    """
    if num_parts < 1 or not 0 <= part_id < num_parts:
        raise UserError(
            f"--part-id {part_id} with --num-parts {num_parts}: "
            f"the id goes from 0 to {num_parts - 1}"
        )
    return list(items[part_id::num_parts])


def array_part() -> tuple[int, int | None]:
    """Return which task of a scheduler's job array this process is.

    SLURM and LSF tell the number of the task and the number of tasks, Kubernetes and PBS only the
    number of the task.

    Returns:
        The number of the task, from 0, and the number of tasks, or None where the scheduler does
        not tell it. `(0, None)` outside of job arrays.
    """
    numbers = {}
    for name in ARRAY_VARIABLES:
        value = os.environ.get(name, "")
        if value.isdecimal():
            numbers[name] = int(value)
    if "SLURM_ARRAY_TASK_ID" in numbers:
        first = numbers.get("SLURM_ARRAY_TASK_MIN", 0)
        step = max(1, numbers.get("SLURM_ARRAY_TASK_STEP", 1))
        part_id = (numbers["SLURM_ARRAY_TASK_ID"] - first) // step
        return part_id, numbers.get("SLURM_ARRAY_TASK_COUNT")
    # LSF counts from 1; the variable is 0 outside of arrays.
    if numbers.get("LSB_JOBINDEX"):
        return numbers["LSB_JOBINDEX"] - 1, numbers.get("LSB_JOBINDEX_END")
    return numbers.get("JOB_COMPLETION_INDEX", numbers.get("PBS_ARRAY_INDEX", 0)), None
