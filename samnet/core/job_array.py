"""Which share of the work a task of a scheduler's job array does."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TypeVar

from samnet.core.errors import UserError

Item = TypeVar("Item")
_ARRAY_NAMES = (
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
    """Every `num_parts`-th item from `part_id` on: disjoint shares that together are everything.

    Raises:
        UserError: `part_id` is outside 0 .. num_parts - 1.
    """
    if num_parts < 1 or not 0 <= part_id < num_parts:
        raise UserError(
            f"--part-id {part_id} with --num-parts {num_parts}: the id goes from 0 to {num_parts - 1}"
        )
    return list(items[part_id::num_parts])


def array_part() -> tuple[int, int | None]:
    """Which task of a scheduler's array this process is, from 0, and of how many where the scheduler tells: (0, None)
    outside of arrays.

    SLURM tells both, LSF too; Kubernetes and PBS the number alone.
    """
    numbers = {
        name: int(value)
        for name, value in os.environ.items()
        if name in _ARRAY_NAMES and value.isdecimal()
    }
    if "SLURM_ARRAY_TASK_ID" in numbers:
        first, step = (
            numbers.get("SLURM_ARRAY_TASK_MIN", 0),
            numbers.get("SLURM_ARRAY_TASK_STEP", 1),
        )
        return (numbers["SLURM_ARRAY_TASK_ID"] - first) // max(1, step), numbers.get(
            "SLURM_ARRAY_TASK_COUNT"
        )
    if numbers.get("LSB_JOBINDEX"):  # from 1; 0 outside of arrays
        return numbers["LSB_JOBINDEX"] - 1, numbers.get("LSB_JOBINDEX_END")
    return numbers.get("JOB_COMPLETION_INDEX", numbers.get("PBS_ARRAY_INDEX", 0)), None
