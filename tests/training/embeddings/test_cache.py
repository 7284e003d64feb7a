from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builders.embeddings import (
    CPU,
    NUM_SLICES,
    count_encoded,
    fill,
    make_frozen,
    make_network,
    make_samples,
    make_variants,
    stored_bytes,
)
from builders.numerics import relative_error
from builders.tiny import TWO_CLASSES, make_case

from samnet.core.locks import lock_folder
from samnet.models.network import SegmentationNetwork
from samnet.plan.configuration import IntensityWindow
from samnet.preprocessing.storage import StoredCase
from samnet.training.distributed import Distributed
from samnet.training.embeddings.cache import EmbeddingCache, StoredBlock, fill_cache
from samnet.training.embeddings.choice import CacheChoice, embedding_bytes
from samnet.training.embeddings.encoder import SliceEncoder
from samnet.training.embeddings.key import embeddings_key
from samnet.training.loader import build_samples
from samnet.training.task import TrainingTask

GIB = 2**30


def test_cache_of_a_killed_run_is_completed_by_the_next(
    tmp_path: Path, cases: list[StoredCase]
) -> None:
    network = make_network()
    encoded = count_encoded(network)
    fill(tmp_path / "whole", cases, network)
    num_batches = len(encoded)
    assert sum(encoded) == 2 * NUM_SLICES
    for after in (2, 4):
        process = multiprocessing.get_context("fork").Process(
            target=fill_until_killed, args=(tmp_path / "killed", cases, make_network(), after)
        )
        process.start()
        process.join(60)
        assert process.exitcode == -signal.SIGKILL
    whole = stored_bytes(tmp_path / "whole")
    assert 0 < len(stored_bytes(tmp_path / "killed")) < len(whole)
    encoded.clear()
    fill(tmp_path / "killed", cases, network)
    assert 0 < len(encoded) < num_batches
    killed = stored_bytes(tmp_path / "killed")
    assert {name for name in killed if not name.startswith(".")} == set(whole)
    assert whole.items() <= killed.items()
    encoded.clear()
    fill(tmp_path / "killed", cases, network)
    assert encoded == []


def fill_until_killed(
    root: Path, cases: list[StoredCase], network: SegmentationNetwork, after: int
) -> None:
    """Fill a cache, and kill this process after some batches."""
    encoded = count_encoded(network)

    def kill(encoder: torch.nn.Module, inputs: tuple) -> None:
        if len(encoded) > after:
            os.kill(os.getpid(), signal.SIGKILL)

    network.encoder.register_forward_pre_hook(kill)
    fill(root, cases, network)


def test_array_that_was_deleted_is_encoded_again(tmp_path: Path, cases: list[StoredCase]) -> None:
    stored = fill(tmp_path, cases)
    before = stored_bytes(tmp_path)
    stored[1].file.unlink()
    again = fill(tmp_path, cases)
    assert [entry.block for entry in again] == [entry.block for entry in stored]
    assert stored_bytes(tmp_path) == before


def test_partial_files_of_killed_runs_are_removed(tmp_path: Path, cases: list[StoredCase]) -> None:
    folder = fill(tmp_path, cases)[0].file.parent
    left = folder / ".partial-1-a.npy"
    left.touch()
    fill(tmp_path, cases)
    assert not left.exists()


def key_of(
    network: SegmentationNetwork | None = None, precision: str = "float32", **changes: Any
) -> str:
    encoder = (network or make_network()).encoder
    return embeddings_key(encoder, make_variants([], **changes), precision)[0]


@pytest.mark.parametrize(
    "changes",
    [
        {"head": "linear"},
        {"learning_rate": 3e-4},
        {"batch_size": 7},
        {"steps": 99},
        {"views": (0, 1)},
        {"loss": "autosam"},
        {"foreground_share": 0.1},
        {"tile_overlap": 0.2},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_key_of_embeddings_does_not_depend_on(changes: dict[str, Any]) -> None:
    assert key_of(**changes) == key_of()


def test_key_of_embeddings_does_not_depend_on_the_head_of_the_network() -> None:
    assert key_of(make_network(head="cnn_slim")) == key_of()


def test_embeddings_from_before_a_key_of_the_plan_existed_are_still_found() -> None:
    def origin_of(frame: str) -> dict[str, Any]:
        return embeddings_key(make_network().encoder, make_variants([], frame=frame), "float32")[1]

    assert "frame" not in origin_of("scale")
    assert origin_of("stretch") == origin_of("scale") | {"frame": "stretch"}


def test_key_of_embeddings_depends_on_encoder_precision_and_images() -> None:
    other = {
        "zoom": 1.1,
        "in_plane_spacing": 0.9,
        "channel_layout": "neighbours",
        "intensity": (IntensityWindow("percentiles", 1, 99),),
        "augmentation": "samed",
        "mirror_axes": (1, 2),
        "pixel_statistics": "none",
        "input_size": 64,
    }
    keys = {key_of(**{name: value}) for name, value in other.items()}
    keys |= {key_of(), key_of(make_network(seed=1)), key_of(precision="bfloat16")}
    keys.add(key_of(label_scheme=replace(TWO_CLASSES, ignore_label=3)))
    assert len(keys) == len(other) + 4


def test_case_with_changed_raw_files_is_encoded_again_alone(
    tmp_path: Path, cases: list[StoredCase]
) -> None:
    network = make_network()
    encoded = count_encoded(network)
    fill(tmp_path, cases, network)
    before = stored_bytes(tmp_path)
    changed = StoredCase(cases[1].folder, replace(cases[1].record, source_key="other"))
    encoded.clear()
    fill(tmp_path, [cases[0], changed], network)
    assert sum(encoded) == NUM_SLICES  # two variants of the slices of one of the two cases
    assert stored_bytes(tmp_path) == before


def test_folds_and_heads_share_embeddings(tmp_path: Path, cases: list[StoredCase]) -> None:
    heads = ("mask_decoder", "cnn_slim", "upsampling")
    networks = {head: make_network(head=head) for head in heads}
    encoded = {head: count_encoded(network) for head, network in networks.items()}
    first = networks["mask_decoder"]
    fill(tmp_path, cases[:1], first, every=cases)
    assert sum(encoded["mask_decoder"]) == NUM_SLICES
    fill(tmp_path, cases, first)
    assert sum(encoded["mask_decoder"]) == 2 * NUM_SLICES
    fill(tmp_path, cases, networks["cnn_slim"], head="cnn_slim")
    fill(tmp_path, cases, networks["upsampling"], head="upsampling", steps=50)
    fill(tmp_path, cases[1:], first, every=cases)
    assert sum(encoded["mask_decoder"]) == 2 * NUM_SLICES
    assert encoded["cnn_slim"] == encoded["upsampling"] == []
    folders = {file.parent for file in tmp_path.rglob("*.npy")}
    assert len({folder for folder in folders if "slices" not in folder.parts}) == 1


@dataclass
class Meetings:
    """Where two threads meet that stand for two processes."""

    brought: list[Any] = field(default_factory=lambda: [None, None])
    both: threading.Barrier = field(default_factory=lambda: threading.Barrier(2))
    master_came: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))


@dataclass(frozen=True)
class Rank(Distributed):
    """One of two processes, of which the second is always late.

    It leaves each meeting only when the master process has come to the next, and has written all
    that it writes in between.
    """

    meetings: Meetings = field(default_factory=Meetings)

    def gather(self, value: Any) -> list[Any]:
        if self.is_master:
            self.meetings.master_came.release()
        self.meetings.brought[self.rank] = value
        self.meetings.both.wait(60)
        found = list(self.meetings.brought)
        self.meetings.both.wait(60)
        if not self.is_master:
            assert self.meetings.master_came.acquire(timeout=60)
        return found

    def barrier(self) -> None:
        self.gather(None)

    def from_master(self, compute: Callable[[], Any]) -> Any:
        return self.gather(compute() if self.is_master else None)[0]


def test_processes_share_what_is_missing_though_one_writes_before_another_looks(
    tmp_path: Path, cases: list[StoredCase]
) -> None:
    networks, meetings = [make_network(), make_network()], Meetings()
    encoded = [count_encoded(network) for network in networks]
    cache = EmbeddingCache(tmp_path / "shared", CacheChoice(1.0, 2), cases)

    def fill_as(rank: int) -> list[StoredBlock]:
        distributed = Rank(rank, 2, meetings=meetings)
        if rank == 1:
            assert meetings.master_came.acquire(timeout=60)
        encoder = SliceEncoder(networks[rank], CPU)
        stored = fill_cache(cache, make_variants(cases), encoder, distributed=distributed)
        meetings.master_came.release()
        return stored

    with ThreadPoolExecutor(2) as threads:
        stored = list(threads.map(fill_as, range(2)))
    num_encoded = [sum(counts) for counts in encoded]
    assert sum(num_encoded) == 2 * NUM_SLICES
    assert min(num_encoded) > 0
    blocks = [entry.block for entry in fill(tmp_path / "alone", cases)]
    for part in stored:
        assert [entry.block for entry in part] == blocks
    assert stored_bytes(tmp_path / "shared") == stored_bytes(tmp_path / "alone")


def test_encoding_ends_within_a_block_when_its_time_is_over(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A block of a large case may take longer than all the time that there is."""
    caplog.set_level(logging.INFO)
    image = np.full((1, 70, 8, 8), 100, np.uint8)
    case = make_case(tmp_path / "slices", image, np.zeros((70, 8, 8), np.uint8))
    network = make_network()
    encoded = count_encoded(network)
    network.encoder.register_forward_pre_hook(lambda *_: time.sleep(0.6))
    assert fill(tmp_path / "cache", [case], network, seconds=0.5, views=(0,)) == []
    assert sum(encoded) < 70  # a block of which
    assert stored_bytes(tmp_path / "cache") == {}
    assert "the time for encoding is over" in caplog.text


def test_time_of_encoding_includes_waiting_for_another_run(
    tmp_path: Path, cases: list[StoredCase], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    network = make_network()
    stored = fill(tmp_path, cases[:1], network, every=cases)
    encoded = count_encoded(network)
    with lock_folder(stored[0].file.parent, "encoding"):
        found = fill(tmp_path, cases, network, seconds=0.1)
    assert encoded == []
    assert [entry.block for entry in found] == [entry.block for entry in stored]
    assert "there is no time left to wait for its embeddings" in caplog.text


def test_encoding_leaves_time_for_what_follows_the_training(
    tmp_path: Path, cases: list[StoredCase], caplog: pytest.LogCaptureFixture
) -> None:
    """The command ends in 1 s, though the run may be trained for an hour in all its sessions."""
    caplog.set_level(logging.INFO)
    network, cache = make_network(), EmbeddingCache(tmp_path / "cache", CacheChoice(1.0, 2), cases)
    encoded = count_encoded(network)
    network.encoder.register_forward_pre_hook(lambda *_: time.sleep(0.3))
    task = TrainingTask(
        configuration=make_frozen(),
        label_scheme=TWO_CLASSES,
        training_cases=cases,
        validation_cases=[],
        held_out=False,
        seed=0,
        max_seconds=3600.0,
        workers=0,
        embeddings=cache,
        ends_at=time.monotonic() + 1.0,
        prediction_seconds=0.5,
    )
    build_samples(network, task, CPU, Distributed(), 0.0)
    assert 0 < len(encoded) <= 2  # of 16 blocks
    assert "the time for encoding is over" in caplog.text


def test_cache_keeps_to_its_bound(
    tmp_path: Path, cases: list[StoredCase], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    size = 0.8 * NUM_SLICES * embedding_bytes(32) / GIB
    stored = fill(tmp_path / "part", cases, size=size)
    assert sum(len(entry.block.slices) for entry in stored) <= 0.8 * NUM_SLICES
    num_bytes = sum(file.stat().st_size for file in (tmp_path / "part").rglob("*.npy"))
    assert num_bytes <= size * GIB + 128 * len(stored)
    assert "encoded whenever they are drawn" in caplog.text
    assert make_samples(cases, stored)[0][2].shape == (8, 8)


def test_files_of_the_cache_hold_nothing_but_embeddings(
    tmp_path: Path, cases: list[StoredCase]
) -> None:
    stored = fill(tmp_path, cases)[0]
    num_bytes = len(stored.variants) * embedding_bytes(32)
    assert stored.file.stat().st_size == num_bytes + 128  # the header of numpy's format


@pytest.mark.usefixtures("cpu_bfloat16")
def test_encoder_has_its_weights_in_bfloat16_while_it_encodes(
    tmp_path: Path, cases: list[StoredCase]
) -> None:
    network, types = make_network(precision="bfloat16"), set()
    linear = next(part for part in network.encoder.modules() if isinstance(part, torch.nn.Linear))
    before = linear.weight.clone()
    network.encoder.register_forward_hook(lambda *_: types.add(linear.weight.dtype))
    [block, *_] = fill(tmp_path, cases[:1], network, num_variants=1, precision="bfloat16")
    assert types == {torch.bfloat16}
    assert torch.equal(linear.weight, before)
    variants = make_variants(cases[:1], precision="bfloat16")
    image = variants.image(0, block.block.axis, variants.draw(0, block.block.axis, 1, 0))
    row = block.block.slices.index(1)
    with torch.no_grad():
        embedding = network.embed(image[None])[0]
    assert relative_error(np.load(block.file)[row].astype(np.float32), embedding) < 0.05
