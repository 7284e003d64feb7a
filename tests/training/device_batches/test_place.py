"""Whether batches are made on a device, and where the slices are."""

from __future__ import annotations

import logging
from collections.abc import Callable

import pytest
import torch
from torch.utils.data import Dataset

from samnet.preprocessing.storage import StoredCase
from samnet.training.device_batches.place import (
    MEMORY_SHARE,
    SlicePlace,
    choose_slice_place,
    find_slice_place,
    working_bytes,
)
from samnet.training.device_batches.slices import storage_bytes
from samnet.training.sampling import SliceSamples

MakeSamples = Callable[..., SliceSamples]
FREE = 1000
LIMIT = int(MEMORY_SHARE * FREE)


@pytest.mark.parametrize(
    ("storage", "working", "expected"),
    [
        (LIMIT, LIMIT, SlicePlace.DEVICE),
        (LIMIT + 1, LIMIT, SlicePlace.HOST),
        (0, LIMIT + 1, None),
    ],
)
def test_slices_are_on_the_device_where_they_take_a_small_share_of_it(
    storage: int, working: int, expected: SlicePlace | None
) -> None:
    assert choose_slice_place(storage, working, FREE) is expected


@pytest.mark.parametrize("kind", ["cpu", "mps"])
def test_samples_are_made_one_by_one_without_a_gpu(
    cases: list[StoredCase],
    make_samples: MakeSamples,
    kind: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO):
        assert find_slice_place(make_samples(cases), 4, torch.device(kind)) is None
    assert not caplog.records


def test_samples_of_stored_embeddings_are_made_one_by_one_on_a_gpu(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO):
        assert find_slice_place(Dataset(), 4, torch.device("cuda")) is None
    assert "stored embeddings" in caplog.text


@pytest.mark.parametrize(
    ("free", "expected", "words"),
    [
        (2**40, SlicePlace.DEVICE, "batches are made on the GPU: all slices in its memory"),
        (2**10, None, "samples are made on the CPU: to make a batch on the GPU takes"),
    ],
)
def test_log_says_where_samples_are_made(
    cases: list[StoredCase],
    make_samples: MakeSamples,
    free: int,
    expected: SlicePlace | None,
    words: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    samples, device = make_samples(cases), torch.device("cuda")
    with caplog.at_level(logging.INFO):
        assert find_slice_place(samples, 4, device, lambda device: free) is expected
    [message] = [record.getMessage() for record in caplog.records]
    assert message.startswith(words)


def test_what_slices_take_is_known_before_they_are_read(
    cases: list[StoredCase], make_samples: MakeSamples
) -> None:
    """16-bit numbers hold those of 8 bits; images have an empty border that is cropped."""
    cropped = make_samples(cases, views=(0, 2))
    voxels = sum(int(torch.tensor(case.record.shape).prod()) for case in cases)
    assert storage_bytes(cropped.reader) == 2 * voxels * (2 + 1)
    whole = make_samples(cases, views=(0, 2), frame="stretch")
    assert storage_bytes(whole.reader) > storage_bytes(cropped.reader)


def test_a_batch_takes_as_much_more_as_it_has_more_rows_and_slices(
    cases: list[StoredCase], make_samples: MakeSamples
) -> None:
    reader = make_samples(cases, channel_layout="repeat").reader
    assert working_bytes(reader, 8) == 8 * working_bytes(reader, 1)
    neighbours = make_samples(cases, channel_layout="neighbours").reader
    assert working_bytes(neighbours, 1) > working_bytes(reader, 1)


def test_samples_with_copied_structures_bring_their_slices(
    cases: list[StoredCase], make_samples: MakeSamples
) -> None:
    """Structures are copied on the CPU, so slices that lie on the device would lack them."""

    def much(device: torch.device) -> int:
        return 2**40

    plain, copying = make_samples(cases), make_samples(cases, structure_copying=0.5)
    cuda = torch.device("cuda")
    assert find_slice_place(plain, 2, cuda, much) is SlicePlace.DEVICE
    assert find_slice_place(copying, 2, cuda, much) is SlicePlace.HOST
