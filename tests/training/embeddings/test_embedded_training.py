"""Training runs from stored embeddings."""

from __future__ import annotations

import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builders.data import write_dataset
from builders.embeddings import CPU, count_encoded, make_frozen, stored_bytes
from builders.runs import after_step, read_rows, send_signal
from builders.tiny import TWO_CLASSES, prepare_dataset, use_folders

from samnet.cli.train import main
from samnet.core.signals import Interrupted
from samnet.models.model_folder import FINAL, RunFolder
from samnet.models.network import build_network
from samnet.preprocessing.storage import StoredCase
from samnet.training.embeddings.cache import EmbeddingCache
from samnet.training.embeddings.choice import CacheChoice, embedding_bytes
from samnet.training.loop import Trainer
from samnet.training.run_record import RunRecord
from samnet.training.task import TrainingTask

MakeTrainer = Callable[..., Trainer]


@pytest.fixture
def make_trainer(tmp_path: Path, cases: list[StoredCase]) -> MakeTrainer:
    """Return a function that makes a trainer with a cache of embeddings."""

    def make(name: str, root: str = "embeddings", num_kept: int = 30, **changes: Any) -> Trainer:
        configuration = make_frozen(**({"head": "upsampling", "steps": 5} | changes))
        size = num_kept * embedding_bytes(32) / 2**30
        task = TrainingTask(
            configuration=configuration,
            label_scheme=TWO_CLASSES,
            training_cases=cases[:1],
            validation_cases=cases[1:],
            held_out=True,
            seed=3,
            max_seconds=None,
            workers=0,
            embeddings=EmbeddingCache(tmp_path / root, CacheChoice(size, 2), cases),
        )
        torch.manual_seed(task.seed)
        network = build_network(configuration, 1, 3)
        return Trainer(network, task, RunFolder(tmp_path / name), CPU)

    return make


def losses(trainer: Trainer) -> list[float]:
    return [row["loss"] for row in read_rows(trainer.folder)]


def final_bytes(trainer: Trainer) -> bytes:
    return trainer.folder.checkpoint(FINAL).read_bytes()


def times_of_arrays(root: Path) -> dict[Path, int]:
    """Return when each array of a cache was written."""
    return {file: file.stat().st_mtime_ns for file in root.rglob("*.npy")}


def test_training_from_embeddings_is_the_same_each_time_and_after_a_stop(
    make_trainer: MakeTrainer, tmp_path: Path
) -> None:
    whole = make_trainer("whole")
    whole.run()
    assert stored_bytes(tmp_path / "embeddings")
    again = make_trainer("again", root="other")
    again.run()
    assert losses(again) == losses(whole)
    assert final_bytes(again) == final_bytes(whole)

    stopped = make_trainer("stopped")
    stopped.on_step = after_step(3, partial(send_signal, signal.SIGTERM))
    with pytest.raises(Interrupted):
        stopped.run()
    resumed = make_trainer("stopped")
    resumed.run()
    assert losses(resumed) == losses(whole)
    assert final_bytes(resumed) == final_bytes(whole)


def test_stop_while_encoding_keeps_what_is_encoded(
    make_trainer: MakeTrainer, tmp_path: Path
) -> None:
    stopped = make_trainer("stopped", num_kept=100)
    encoded = count_encoded(stopped.network)

    def stop_at_third(encoder: torch.nn.Module, inputs: tuple) -> None:
        if len(encoded) == 3:
            send_signal(signal.SIGTERM)

    stopped.network.encoder.register_forward_pre_hook(stop_at_third)
    with pytest.raises(Interrupted, match="step 0"):
        stopped.run()
    kept = times_of_arrays(tmp_path / "embeddings")
    assert len(kept) == 2
    make_trainer("whole", root="other", num_kept=100).run()
    make_trainer("stopped", num_kept=100).run()
    # What was encoded before the stop is not encoded again.
    completed = times_of_arrays(tmp_path / "embeddings")
    assert len(completed) > len(kept)
    assert kept.items() <= completed.items()
    assert stored_bytes(tmp_path / "embeddings") == stored_bytes(tmp_path / "other")


def test_command_keeps_embeddings_as_requested_and_records_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_dataset(tmp_path / "raw", shape=(5, 24, 20))
    prepare_dataset(tmp_path, 501, monkeypatch, views=[0], slicing_axis=0, initial_weights="random")
    use_folders(tmp_path, tmp_path / "results", monkeypatch)
    folder = RunFolder(tmp_path / "results" / "Dataset501_Tiny" / "frozen" / "fold_all")
    embeddings = tmp_path / "preprocessed" / "Dataset501_Tiny" / "embeddings"
    common = ["501", "frozen", "all", "--device", "cpu", "--workers", "0"]

    def load_record() -> RunRecord:
        record = RunRecord.load(folder)
        assert record is not None
        return record

    def num_embedded() -> int:
        arrays = [np.load(file, mmap_mode="r") for file in embeddings.rglob("*.npy")]
        return sum(len(array) for array in arrays)

    assert main([*common, "--no-cache"]) == 0
    assert load_record().request.cache_size == 0
    assert load_record().sessions[0].embeddings is None
    assert not embeddings.exists()

    assert main([*common, "--restart", "--cache-size", "0.5G"]) == 0
    assert load_record().request.cache_size == 0.5
    assert load_record().sessions[0].embeddings == CacheChoice(0.5, 4)
    assert num_embedded() == 4 * 6 * 5
    before = times_of_arrays(embeddings)

    assert main([*common, "--continue", "--steps", "8"]) == 0
    assert load_record().sessions[1].embeddings == CacheChoice(0.5, 4)
    # 6 steps of 2 slices are too few to keep embeddings by default.
    assert main([*common, "--restart"]) == 0
    assert load_record().sessions[0].embeddings is None
    assert times_of_arrays(embeddings) == before
    with pytest.raises(SystemExit, match="2"):
        main([*common, "--no-cache", "--cache-size", "1"])
