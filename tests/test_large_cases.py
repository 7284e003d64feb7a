"""Memory for measuring and preparing a case of many classes, scaled from a large case.

The large case is that of `benchmarks/large_case.py`.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from samnet.dataset.cases import RawDataset
from samnet.fingerprint.measure import measure_case
from samnet.preprocessing.prepare import prepare_dataset

NUM_CLASSES = 60
SHAPE = (40, 96, 96)
# 4 GiB for 512 x 512 x 400 voxels.
BOUND = 4 * 2**30 * np.prod(SHAPE) / (512 * 512 * 400)


@pytest.fixture
def dataset(make_dataset: Callable[..., Path], folders: dict[str, Path]) -> RawDataset:
    labels = {"background": 0} | {
        f"structure_{value}": value for value in range(1, NUM_CLASSES + 1)
    }
    make_dataset(folders["raw"], num_cases=1, shape=SHAPE, labels=labels)
    return RawDataset.load(501)


@pytest.mark.parametrize("step", ["measuring", "preparing"])
def test_memory_for_a_case_of_many_classes_is_bounded(dataset: RawDataset, step: str) -> None:
    tracemalloc.start()
    try:
        if step == "measuring":
            assert len(measure_case(dataset.cases[0], dataset.description).sizes) == NUM_CLASSES
        else:
            prepare_dataset(dataset, (0, 1, 2), 0)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert 2 * np.prod(SHAPE) < peak < BOUND
