"""Networks that are recorded once and replayed: the same predictions as otherwise."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
import torch
from builders.recorder import Recorder
from builders.tiny import TWO_CLASSES, FakeNetwork, thresholds
from builders.volumes import LEVELS, configure, smooth_volume
from torch import Tensor

from samnet.inference.batches import BatchSize
from samnet.inference.replays import WARM_UP_BATCHES, NetworkReplays
from samnet.inference.volume import predict_volume
from samnet.models.cuda_graph import Replay, Work
from samnet.preprocessing.case import PreparedVolume

CPU = torch.device("cpu")


def predict(
    recorder: Recorder | None,
    volume: PreparedVolume,
    networks: list[FakeNetwork] | None = None,
    mirror_axes: tuple[int, ...] = (),
    batch: BatchSize | None = None,
) -> np.ndarray:
    replays = None if recorder is None else NetworkReplays(CPU, recorder)
    return predict_volume(
        networks or [thresholds(LEVELS, 2)],
        configure(mirror_axes=mirror_axes),
        volume,
        mirror=bool(mirror_axes),
        label_scheme=TWO_CLASSES,
        batch=batch or BatchSize(CPU, replays=replays),
    )


# The first of 22 slices is predicted alone; with four mirrors it is a full batch as well.
@pytest.mark.parametrize(("mirror_axes", "full"), [((), 5), ((1,), 10), ((1, 2), 22)])
@pytest.mark.parametrize("num_networks", [1, 2])
def test_replayed_networks_predict_the_labels_of_ordinary_ones(
    mirror_axes: tuple[int, ...], full: int, num_networks: int
) -> None:
    volume, recorder = smooth_volume((22, 22, 26)), Recorder()
    networks = [thresholds(LEVELS, 2), thresholds([level + 0.1 for level in LEVELS], 2)]
    arguments = (volume, networks[:num_networks], mirror_axes)
    expected = predict(None, *arguments)
    assert np.array_equal(predict(recorder, *arguments), expected)
    assert recorder.recorded == num_networks
    assert recorder.replayed == num_networks * (full - WARM_UP_BATCHES)


def test_batches_that_are_not_full_are_computed_as_usual() -> None:
    volume, recorder = smooth_volume((3, 22, 26)), Recorder()
    batch = BatchSize(CPU, replays=NetworkReplays(CPU, recorder))
    for _ in range(2 * WARM_UP_BATCHES):
        predict(None, volume, batch=batch)
    assert recorder.recorded == 0


def test_a_recording_holds_for_the_next_volumes_and_for_no_volume_itself() -> None:
    recorder, networks = Recorder(), [thresholds(LEVELS, 2)]
    batch = BatchSize(CPU, replays=NetworkReplays(CPU, record=_record_without_work))
    first = smooth_volume((22, 22, 26))
    predict(None, first, networks, batch=batch)
    gone = weakref.ref(first.array)
    del first
    gc.collect()
    assert gone() is None
    batch = BatchSize(CPU, replays=NetworkReplays(CPU, recorder))
    for _ in range(3):
        predict(None, smooth_volume((22, 22, 26)), networks, batch=batch)
    assert (recorder.recorded, recorder.replayed) == (1, 3 * 5 - WARM_UP_BATCHES)


def _record_without_work(work: Work) -> Replay:
    """Keep nothing of the work except its result, like a CUDA graph."""
    work()
    return lambda: None


def test_results_of_a_replay_are_not_those_of_the_next() -> None:
    replays, same_memory = NetworkReplays(CPU, Recorder()), torch.zeros(3)

    def network(images: Tensor) -> Tensor:
        return torch.add(images, 1, out=same_memory)

    results = []
    for number in range(WARM_UP_BATCHES + 3):
        results.append(replays.compute("a", network, torch.full((3,), float(number))))
    assert [float(result[0]) for result in results[WARM_UP_BATCHES:]] == [3, 4, 5]


def test_networks_that_cannot_be_recorded_are_computed_as_usual(
    caplog: pytest.LogCaptureFixture,
) -> None:
    volume = smooth_volume((22, 22, 26))
    recorder = Recorder(RuntimeError("CUDA error: operation not permitted\nmore"))
    expected = predict(None, volume)
    assert np.array_equal(predict(recorder, volume), expected)
    assert recorder.recorded == 1
    [message] = [record.message for record in caplog.records if "CUDA graph" in record.message]
    assert message == (
        "networks are launched operator by operator, as no CUDA graph of them could be recorded "
        "(CUDA error: operation not permitted)"
    )


def test_nothing_is_replayed_once_memory_has_run_out() -> None:
    recorder = Recorder()
    batch = BatchSize(CPU, replays=NetworkReplays(CPU, recorder))
    volume, networks = smooth_volume((22, 22, 26)), [thresholds(LEVELS, 2)]
    expected = predict(None, volume, networks, batch=batch)
    replayed = recorder.replayed
    assert replayed > 0
    batch.forget()
    assert np.array_equal(predict(None, volume, networks, batch=batch), expected)
    assert recorder.replayed == replayed


def test_nothing_is_recorded_on_a_cpu() -> None:
    replays, calls = NetworkReplays(CPU), []

    def network(images: Tensor) -> Tensor:
        calls.append(len(images))
        return images

    for _ in range(2 * WARM_UP_BATCHES):
        replays.compute("a", network, torch.zeros(3))
    assert calls == [3] * 2 * WARM_UP_BATCHES
