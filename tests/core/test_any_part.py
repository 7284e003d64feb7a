"""Parts of any work are disjoint and complete, and a lock has one owner."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from builders.properties import for_any_input
from hypothesis import given
from hypothesis import strategies as st

from samnet.core.job_array import ARRAY_VARIABLES, array_part, select_part
from samnet.core.locks import FolderBusy, find_owner, lock_folder


@for_any_input(60)
@given(st.integers(0, 60), st.integers(1, 20))
def test_parts_of_any_number_are_disjoint_and_complete(num_items: int, num_parts: int) -> None:
    items = list(range(num_items))
    parts = [select_part(items, num_parts, part) for part in range(num_parts)]
    assert sorted(itertools.chain(*parts)) == items
    sizes = [len(part) for part in parts]
    assert max(sizes) - min(sizes) <= 1


@for_any_input(40)
@given(st.integers(0, 9), st.integers(1, 4), st.integers(1, 12), st.integers(0, 40))
def test_tasks_of_any_slurm_array_share_the_work(
    first: int, step: int, count: int, num_items: int
) -> None:
    done: list[int] = []
    for number in range(count):
        with pytest.MonkeyPatch.context() as patch:
            for name in ARRAY_VARIABLES:
                patch.delenv(name, raising=False)
            patch.setenv("SLURM_ARRAY_TASK_ID", str(first + number * step))
            patch.setenv("SLURM_ARRAY_TASK_MIN", str(first))
            patch.setenv("SLURM_ARRAY_TASK_STEP", str(step))
            patch.setenv("SLURM_ARRAY_TASK_COUNT", str(count))
            part_id, num_parts = array_part()
        assert num_parts is not None
        done += select_part(range(num_items), num_parts, part_id)
    assert sorted(done) == list(range(num_items))


TASKS = ("preprocessing", "training fold_0", "training fold_1")


@for_any_input(20)
@given(st.lists(st.sampled_from(TASKS), min_size=1, max_size=3))
def test_lock_of_a_task_has_one_owner(tmp_path: Path, tasks: list[str]) -> None:
    """Whoever holds a task excludes others from it, and from nothing else."""
    held: set[str] = set()

    def take(left: list[str]) -> None:
        if not left:
            assert all((find_owner(tmp_path, task) is not None) == (task in held) for task in TASKS)
            return
        task = left[0]
        if task in held:
            with pytest.raises(FolderBusy), lock_folder(tmp_path, task, waits=False):
                pass
            take(left[1:])
            return
        with lock_folder(tmp_path, task, waits=False):
            held.add(task)
            take(left[1:])
        held.remove(task)

    take(tasks)
    assert not list(tmp_path.iterdir())
