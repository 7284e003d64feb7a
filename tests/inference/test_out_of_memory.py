"""Memory that runs out in a prediction: what it falls back on, and the labels in the end."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from builders.tiny import TWO_CLASSES, FakeNetwork, thresholds
from builders.volumes import LEVELS, configure, smooth_volume
from torch import Tensor

from samnet.core.errors import SamnetError
from samnet.inference.out_of_memory import PredictionMemory
from samnet.inference.volume import predict_volume

CUDA_ERROR = torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore")


def network_for(most: int, error: Exception = CUDA_ERROR) -> tuple[FakeNetwork, list[int]]:
    """Return a network with memory for batches of at most some inputs, and the sizes it computed.

    Args:
        most: The size of the largest batch.
        error: What a larger one raises.
    """
    network, sizes = thresholds(LEVELS, 2), []

    def refuse(module: torch.nn.Module, inputs: tuple[Tensor]) -> None:
        if len(inputs[0]) > most:
            raise error
        sizes.append(len(inputs[0]))

    network.register_forward_pre_hook(refuse)
    return network, sizes


def predict(*networks: FakeNetwork, views: tuple[int, ...] = (0,)) -> np.ndarray:
    configuration = configure(views=views, mirror_axes=(1, 2))
    volume = smooth_volume((7, 40, 26))  # of two tiles a slice
    return predict_volume(
        list(networks), configuration, volume, mirror=True, label_scheme=TWO_CLASSES
    )


@pytest.mark.parametrize("views", [(0,), (0, 1, 2)], ids=["one view", "three views"])
@pytest.mark.parametrize("most", [1, 2, 3])
def test_prediction_in_smaller_batches_has_the_same_labels(
    most: int, views: tuple[int, ...], caplog: pytest.LogCaptureFixture
) -> None:
    undisturbed, usual = network_for(100)
    poor, sizes = network_for(most)
    expected = predict(undisturbed, views=views)
    assert not caplog.records
    assert np.array_equal(predict(poor, views=views), expected)
    assert max(usual) == 4
    assert max(sizes) <= most
    assert sum(sizes) < 2 * sum(usual)
    assert "out of memory (CUDA out of memory. Tried to allocate 2.00 GiB.)" in caplog.text
    fallen_back = 1 if most == 1 else 2
    assert f"predicted {fallen_back} input(s) at a time" in caplog.text


def test_prediction_of_several_networks_falls_back_for_all(
    caplog: pytest.LogCaptureFixture,
) -> None:
    undisturbed, _ = network_for(100)
    poor, sizes = network_for(2, MemoryError())
    expected = predict(undisturbed, undisturbed)
    assert np.array_equal(predict(undisturbed, poor), expected)
    assert set(sizes) <= {1, 2}
    assert "out of memory (MemoryError)" in caplog.text


def test_prediction_that_does_not_fit_one_input_at_a_time_is_reported_with_a_remedy() -> None:
    nothing_fits, _ = network_for(0)
    message = r"does not fit into the memory.*2\.00 GiB.*where there is more memory"
    with pytest.raises(SamnetError, match=message):
        predict(nothing_fits)


def test_other_errors_of_a_prediction_are_not_taken_for_a_lack_of_memory(
    caplog: pytest.LogCaptureFixture,
) -> None:
    network, _ = network_for(0, RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        predict(network)
    assert not caplog.records


def test_gpu_that_is_full_leaves_probabilities_to_the_main_memory(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Resampling needs no network; without a GPU, its errors are raised by the test."""
    memory = PredictionMemory(torch.device("cuda", 0))
    tried: list[str] = []

    def resample() -> str:
        tried.append(memory.device.type)
        if memory.device.type == "cuda":
            raise CUDA_ERROR
        return "labels"

    with caplog.at_level(logging.WARNING):
        assert memory.resample(resample) == "labels"
    assert tried == ["cuda", "cpu"]
    assert "probabilities of this volume are kept in main memory" in caplog.text


def test_full_gpu_is_given_smaller_batches_before_its_probabilities_leave_it() -> None:
    memory = PredictionMemory(torch.device("cuda", 0))
    tried: list[tuple[int, str]] = []

    def compute() -> None:
        tried.append((memory.inputs_per_batch, memory.device.type))
        raise CUDA_ERROR

    with pytest.raises(SamnetError, match=r"does not fit.*--device cpu"):
        memory.predict(compute)
    assert tried == [(8, "cuda"), (4, "cuda"), (2, "cuda"), (1, "cuda"), (1, "cpu")]
