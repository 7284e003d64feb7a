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


@pytest.mark.parametrize(
    ("num_cores", "world_size", "workers"),
    [(1, 1, 1), (4, 1, 3), (8, 1, 7), (64, 1, 7), (64, 8, 7), (32, 8, 3), (16, 4, 3), (8, 64, 1)],
)
def test_default_number_of_workers_leaves_a_core_to_each_training_process(
    monkeypatch: pytest.MonkeyPatch, num_cores: int, world_size: int, workers: int
) -> None:
    """Several training processes share all cores of the machine."""
    monkeypatch.setattr("samnet.training.options.usable_cores", lambda: num_cores)
    assert TrainingOptions().sample_workers(world_size) == workers
