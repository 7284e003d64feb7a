from __future__ import annotations

import pytest

from samnet.core.worker_pool import default_processes
from samnet.training.options import TrainingOptions


def test_no_workers_means_no_worker_processes_for_files_either() -> None:
    options = TrainingOptions(workers=0)
    assert options.file_processes == 0
    assert options.sample_workers(world_size=1) == 0


def test_given_number_of_workers_holds_for_each_training_process() -> None:
    options = TrainingOptions(workers=5)
    assert [options.sample_workers(world_size) for world_size in (1, 4)] == [5, 5]
    assert options.file_processes == default_processes()


@pytest.mark.parametrize("world_size", [1, 2, 64])
def test_default_number_of_workers_leaves_a_core_to_each_training_process(world_size: int) -> None:
    workers = TrainingOptions().sample_workers(world_size)
    assert 1 <= workers <= 8
    assert workers == max(1, default_processes() // world_size - 1)
