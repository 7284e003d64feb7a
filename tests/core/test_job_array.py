"""Division of work into parts, and the part that a scheduler's job array gives to a process."""

from __future__ import annotations

import pytest

from samnet.core.errors import UserError
from samnet.core.job_array import ARRAY_VARIABLES, array_part, select_part


@pytest.mark.parametrize("num_parts", [1, 2, 3, 7, 12])
def test_parts_are_disjoint_and_together_all_items(num_parts: int) -> None:
    items = list(range(10))
    parts = [select_part(items, num_parts, part_id) for part_id in range(num_parts)]
    assert sorted(item for part in parts for item in part) == items
    sizes = [len(part) for part in parts]
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize(("num_parts", "part_id"), [(2, 2), (2, -1), (0, 0)])
def test_select_part_refuses_a_part_that_does_not_exist(num_parts: int, part_id: int) -> None:
    with pytest.raises(UserError, match=f"--part-id {part_id} with --num-parts {num_parts}"):
        select_part([1, 2, 3], num_parts, part_id)


SLURM_FROM_0 = {
    "SLURM_ARRAY_TASK_ID": "3",
    "SLURM_ARRAY_TASK_MIN": "0",
    "SLURM_ARRAY_TASK_COUNT": "8",
}
SLURM_IN_STEPS = {
    "SLURM_ARRAY_TASK_ID": "7",
    "SLURM_ARRAY_TASK_MIN": "1",
    "SLURM_ARRAY_TASK_STEP": "2",
    "SLURM_ARRAY_TASK_COUNT": "5",
}


@pytest.mark.parametrize(
    ("environment", "part"),
    [
        ({}, (0, None)),
        (SLURM_FROM_0, (3, 8)),
        (SLURM_IN_STEPS, (3, 5)),
        ({"LSB_JOBINDEX": "8", "LSB_JOBINDEX_END": "8"}, (7, 8)),
        ({"LSB_JOBINDEX": "0"}, (0, None)),
        ({"JOB_COMPLETION_INDEX": "4"}, (4, None)),
        ({"PBS_ARRAY_INDEX": "5"}, (5, None)),
    ],
)
def test_array_part_is_read_from_the_variables_of_the_scheduler(
    environment: dict[str, str], part: tuple[int, int | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ARRAY_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert array_part() == part
