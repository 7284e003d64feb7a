"""Memory that runs out in a training step: what gives way, and what comes out in the end."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builders.tiny import make_case, make_configuration, tiny_backbone
from torch import Tensor

from samnet.core.errors import SamnetError
from samnet.models.network import SegmentationNetwork, build_network, load_weights
from samnet.training.checkpoint import FINAL
from samnet.training.embeddings.samples import EmbeddedInputs, predict_logits, take_rows
from samnet.training.loop import Trainer
from samnet.training.out_of_memory import BatchGradients, Fallback, is_out_of_memory
from samnet.training.run_folder import RUN_FILE
from samnet.training.task import TrainingTask

__all__ = ["tiny_backbone"]
CPU = torch.device("cpu")
ERRORS = [
    torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore"),
    RuntimeError(
        "[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory: you tried"
    ),
    RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("GET was unable to find an engine to execute this computation"),
    MemoryError(),
]


@pytest.fixture
def make_trainer(tmp_path: Path) -> Callable[..., Trainer]:
    labels = np.zeros((4, 24, 20), dtype=np.uint8)
    labels[:, 4:14, 4:10] = 1
    case = make_case(tmp_path / "prepared", (50 + 100 * labels)[None], labels)

    def make(name: str, **changes: Any) -> Trainer:
        configuration = make_configuration(
            **{"batch_size": 4, "steps": 3, "steps_per_epoch": 3} | changes
        )
        task = TrainingTask(configuration, ("one",), None, [case], [case], False, 3, None, 0)
        torch.manual_seed(0)
        (tmp_path / name).mkdir()
        (tmp_path / name / RUN_FILE).write_text('{"asked": {}, "sittings": [{"device": "cpu"}]}')
        return Trainer(build_network(configuration, 1, 2), task, tmp_path / name, CPU)

    return make


def run_out_of_memory(
    network: SegmentationNetwork, error: Exception, fits: Callable[[Tensor], bool]
) -> None:
    """Let a network have memory for those training inputs alone that fit."""
    forward = network.forward

    def guarded(images: Tensor) -> Tensor:
        if network.training and not fits(images):
            raise error
        return forward(images)

    network.forward = guarded  # type: ignore[method-assign]


def economies(trainer: Trainer) -> list[dict[str, Any]]:
    return json.loads((trainer.folder / RUN_FILE).read_text())["sittings"][-1].get(
        "out_of_memory", []
    )


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_the_training_goes_on_in_smaller_parts_to_the_same_weights(
    make_trainer: Callable[..., Trainer], error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    undisturbed, poor = make_trainer("undisturbed"), make_trainer("poor")
    run_out_of_memory(poor.network, error, lambda images: len(images) <= 1)
    with caplog.at_level(logging.WARNING):
        undisturbed.run()
        poor.run()
    assert "out of memory at step 0" in caplog.text
    assert "batches are computed in parts of 1" in caplog.text
    assert [(entry["step"], entry["rows"]) for entry in economies(poor)] == [(0, 2), (0, 1)]
    assert economies(undisturbed) == []
    expected, found = (load_weights(trainer.folder / FINAL) for trainer in (undisturbed, poor))
    for name, value in expected.items():
        assert torch.allclose(found[name], value, atol=2e-4), name
    assert found.keys() == expected.keys()


def test_at_last_blocks_are_computed_again(make_trainer: Callable[..., Trainer]) -> None:
    trainer = make_trainer("run")
    encoder = trainer.network.encoder
    run_out_of_memory(trainer.network, ERRORS[0], lambda images: encoder.gradient_checkpointing)
    trainer.run()
    assert [(entry["rows"], entry["gradient_checkpointing"]) for entry in economies(trainer)] == [
        (2, False),
        (1, False),
        (1, True),
    ]
    assert economies(trainer)[0]["reason"] == "CUDA out of memory. Tried to allocate 2.00 GiB."


@pytest.mark.parametrize(
    "changes",
    [{}, {"gradient_checkpointing": True}, {"encoder_tuning": "frozen"}, {"batch_size": 1}],
    ids=str,
)
def test_where_nothing_helps_the_remedy_is_named(
    make_trainer: Callable[..., Trainer], changes: dict
) -> None:
    trainer = make_trainer("run", **changes)
    run_out_of_memory(trainer.network, ERRORS[0], lambda images: False)
    with pytest.raises(
        SamnetError, match=r"does not fit.*one image at a time.*smaller --batch-size.*--memory SIZE"
    ):
        trainer.run()
    assert not (trainer.folder / FINAL).exists()


def test_other_errors_are_not_taken_for_it(make_trainer: Callable[..., Trainer]) -> None:
    trainer = make_trainer("run")
    run_out_of_memory(
        trainer.network,
        RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
        lambda images: False,
    )
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        trainer.run()
    assert not any(map(is_out_of_memory, (RuntimeError("shapes"), ValueError("full"))))


def test_one_of_several_processes_cannot_give_way_by_itself() -> None:
    network = build_network(make_configuration(), 1, 2)
    run_out_of_memory(network, ERRORS[0], lambda images: False)
    noted: list[Fallback] = []
    gradients = BatchGradients(network, 2, may_fall_back=False)
    with pytest.raises(SamnetError, match="does not fit into the memory"):
        gradients.compute(torch.rand(2, 3, 32, 32), network, torch.mean, 0, noted.append)
    assert noted == []


@pytest.mark.parametrize("head", ["linear", "upsampling"])
@pytest.mark.parametrize(
    "embedded", [(1, 1, 1, 1), (1, 0, 0, 1), (0, 1, 0, 0), (0, 0, 0, 0)], ids=str
)
def test_parts_of_kept_embeddings_are_the_whole(head: str, embedded: tuple[int, ...]) -> None:
    """A head sees images of all inputs, or of those alone that have no embedding."""
    network = build_network(make_configuration(head=head, encoder_tuning="frozen"), 1, 2)
    is_embedded = torch.tensor(embedded, dtype=torch.bool)
    images, embeddings = torch.rand(4, 3, 32, 32), torch.rand(4, 256, 2, 2).half()
    uses_image = network.head.uses_image
    shown = images if uses_image else images[~is_embedded]
    whole = EmbeddedInputs(
        is_embedded,
        embeddings[is_embedded] if is_embedded.any() else None,
        shown if len(shown) else None,
    )
    parts = [take_rows(whole, 0, 3, uses_image), take_rows(whole, 3, 4, uses_image)]
    with torch.no_grad():
        expected = predict_logits(network, whole, CPU)
        found = torch.cat([predict_logits(network, part, CPU) for part in parts])
    assert torch.allclose(found, expected, atol=1e-5)
