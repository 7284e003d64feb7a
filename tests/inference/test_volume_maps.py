"""Where the maps of several views are kept until they are averaged."""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from builders.tiny import TWO_CLASSES, thresholds
from builders.volumes import LEVELS, configure, slice_predictor, smooth_volume
from torch import Tensor

from samnet.inference.volume import predict_volume

VIEWS = (0, 1, 2)
CONFIGURATION = configure(views=VIEWS)


def bytes_of_views() -> list[int]:
    """Return the bytes of the maps of each view, in half precision."""
    volume, network = smooth_volume(), thresholds(LEVELS, 2)
    sizes = []
    for axis in VIEWS:
        predictor = slice_predictor(network, volume, CONFIGURATION, axis)
        maps = predictor.probabilities(0, volume.array.shape[axis + 1])
        sizes.append(2 * math.prod(maps.shape))
    return sizes


def predict(view_bytes: int) -> np.ndarray:
    return predict_volume(
        [thresholds(LEVELS, 2)],
        CONFIGURATION,
        smooth_volume(),
        mirror=False,
        label_scheme=TWO_CLASSES,
        view_bytes=view_bytes,
    )


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Names and sizes of the files for which space is reserved, and which are mapped."""
    reserved: list[tuple[str, int]] = []
    reserve, from_file = os.posix_fallocate, torch.from_file

    def note(handle: int, start: int, size: int) -> None:
        name = Path(os.readlink(f"/proc/self/fd/{handle}")).name
        reserved.append((name.split("-")[0], size))
        assert start == 0
        reserve(handle, start, size)

    def check(name: str, *, shared: bool, size: int, dtype: torch.dtype) -> Tensor:
        assert shared  # else what is written to it would stay in main memory
        assert 2 * size == reserved[-1][1]
        assert dtype == torch.half
        return from_file(name, shared=shared, size=size, dtype=dtype)

    monkeypatch.setattr(os, "posix_fallocate", note)
    monkeypatch.setattr(torch, "from_file", check)
    return reserved


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc to name an open file")
def test_maps_beyond_the_limit_are_kept_in_a_file_whose_space_is_reserved(
    files: list[tuple[str, int]],
) -> None:
    sizes = bytes_of_views()
    in_memory = predict(max(sizes))
    assert files == []
    assert np.array_equal(predict(max(sizes) - 1), in_memory)
    assert files == [("samnet", size) for size in sizes if size == max(sizes)]
    files.clear()
    predict(0)
    assert files == [("samnet", size) for size in sizes]


def test_maps_are_kept_in_half_precision_in_memory_too(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[Tensor] = []
    empty = torch.empty

    def note(*size: object, **options: object) -> Tensor:
        tensor = empty(*size, **options)
        if tensor.ndim == 4:
            kept.append(tensor)
        return tensor

    monkeypatch.setattr(torch, "empty", note)
    predict(2**29)
    assert [tensor.nbytes for tensor in kept if tensor.dtype == torch.half] == bytes_of_views()
