"""Memory that runs out in a training step: what it falls back on, and the weights in the end."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builders.numerics import (
    SINGLE,
    assert_close_to_norm,
    assert_gradients_close,
    to_double,
)
from builders.tiny import make_case, make_configuration
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from samnet.core.errors import SamnetError
from samnet.dataset.label_scheme import LabelScheme
from samnet.models.model_folder import FINAL, RunFolder
from samnet.models.network import SegmentationNetwork, build_network, load_weights
from samnet.training.embeddings.samples import EmbeddedInputs, predict_logits, take_rows
from samnet.training.loop import Trainer
from samnet.training.out_of_memory import BatchGradients, Fallback
from samnet.training.task import TrainingTask

CPU = torch.device("cpu")
CUDA_ERROR = torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore")
ERRORS = {
    "CUDA": CUDA_ERROR,
    "CPU": RuntimeError(
        "[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory: you "
        "tried"
    ),
    "CPU on Windows": RuntimeError(
        "DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."
    ),
    "cuBLAS": RuntimeError(
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"
    ),
    "cuDNN": RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    "convolution": RuntimeError("GET was unable to find an engine to execute this computation"),
    "Python": MemoryError(),
}
MakeTrainer = Callable[..., Trainer]


@pytest.fixture
def make_trainer(tmp_path: Path) -> MakeTrainer:
    """Return a function that makes a trainer, which appends its fallbacks to a list."""
    labels = np.zeros((4, 24, 20), dtype=np.uint8)
    labels[:, 4:14, 4:10] = 1
    case = make_case(tmp_path / "prepared", (50 + 100 * labels)[None], labels)

    def make(name: str, fallbacks: list[Fallback] | None = None, **changes: Any) -> Trainer:
        length = {"batch_size": 4, "steps": 3, "steps_per_epoch": 3}
        configuration = make_configuration(**(length | changes))
        task = TrainingTask(
            configuration=configuration,
            label_scheme=LabelScheme({"background": 0, "one": 1}),
            training_cases=[case],
            validation_cases=[case],
            held_out=False,
            seed=3,
            max_seconds=None,
            workers=0,
        )
        torch.manual_seed(0)
        network, folder = build_network(configuration, 1, 2), RunFolder(tmp_path / name)
        noted: list[Fallback] = [] if fallbacks is None else fallbacks
        return Trainer(network, task, folder, CPU, on_fallback=noted.append)

    return make


def run_out_of_memory(
    network: SegmentationNetwork, error: Exception, fits: Callable[[Tensor], bool]
) -> None:
    """Let a network have memory for those training inputs alone that fit."""

    def before_forward(module: nn.Module, inputs: tuple[Tensor]) -> None:
        if module.training and not fits(inputs[0]):
            raise error

    network.register_forward_pre_hook(before_forward)


@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
def test_training_in_smaller_parts_ends_in_the_same_weights(
    make_trainer: MakeTrainer, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    none: list[Fallback] = []
    fallbacks: list[Fallback] = []
    undisturbed, poor = make_trainer("undisturbed", none), make_trainer("poor", fallbacks)
    run_out_of_memory(poor.network, error, lambda images: len(images) <= 1)
    with caplog.at_level(logging.WARNING):
        undisturbed.run()
        poor.run()
    assert "out of memory at step 0" in caplog.text
    assert "batches are computed in parts of 1" in caplog.text
    assert [(entry.step, entry.rows) for entry in fallbacks] == [(0, 2), (0, 1)]
    assert none == []
    expected = load_weights(undisturbed.folder.checkpoint(FINAL))
    found = load_weights(poor.folder.checkpoint(FINAL))
    assert found.keys() == expected.keys()
    start = make_trainer("start").network.adapter()
    change = torch.cat([(found[name] - start[name]).flatten() for name in start])
    expected_change = torch.cat([(expected[name] - start[name]).flatten() for name in start])
    # Adam divides each gradient by its size. Where a gradient is 0 except for rounding, the
    # direction of a step is random, so that a share of the change differs. The next test compares
    # the gradients.
    assert_close_to_norm(change, expected_change, 0.02)


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_gradients_computed_in_parts_are_those_of_the_whole_batch(rows: int) -> None:
    torch.manual_seed(0)
    network = to_double(build_network(make_configuration(), 1, 2)).train()
    images = torch.rand(4, 3, 32, 32, dtype=torch.float64)

    def loss_of(logits: Tensor) -> Tensor:
        """Like Dice, not a sum over the images of the batch."""
        return logits.softmax(dim=1).mean(dim=(0, 2, 3)).square().sum()

    expected = torch.autograd.grad(loss_of(network(images)), list(network.parameters()))
    run_out_of_memory(network, CUDA_ERROR, lambda images: len(images) <= rows)
    gradients = BatchGradients(network, 4, may_fall_back=True)
    gradients.compute(images, network, loss_of, 0, lambda fallback: None)
    found = [weight.grad for weight in network.parameters()]
    assert gradients.part == {1: 1, 2: 2, 3: 2}[rows]
    assert_gradients_close([gradient for gradient in found if gradient is not None], expected)


def test_blocks_are_computed_again_where_smaller_parts_do_not_help(
    make_trainer: MakeTrainer,
) -> None:
    fallbacks: list[Fallback] = []
    trainer = make_trainer("run", fallbacks)
    encoder = trainer.network.encoder
    run_out_of_memory(trainer.network, CUDA_ERROR, lambda images: encoder.gradient_checkpointing)
    trainer.run()
    found = [(entry.rows, entry.gradient_checkpointing) for entry in fallbacks]
    assert found == [(2, False), (1, False), (1, True)]
    assert fallbacks[0].reason == "CUDA out of memory. Tried to allocate 2.00 GiB."


@pytest.mark.parametrize(
    "changes",
    [{}, {"gradient_checkpointing": True}, {"encoder_tuning": "frozen"}, {"batch_size": 1}],
    ids=["full", "checkpointed already", "frozen encoder", "batch of 1"],
)
def test_too_small_a_memory_is_reported_with_a_remedy(
    make_trainer: MakeTrainer, changes: dict
) -> None:
    trainer = make_trainer("run", **changes)
    run_out_of_memory(trainer.network, CUDA_ERROR, lambda images: False)
    message = r"does not fit.*one image at a time.*smaller --batch-size.*--memory SIZE"
    with pytest.raises(SamnetError, match=message):
        trainer.run()
    assert not trainer.folder.is_finished


def test_other_errors_are_not_taken_for_a_lack_of_memory(make_trainer: MakeTrainer) -> None:
    trainer = make_trainer("run")
    error = RuntimeError("mat1 and mat2 shapes cannot be multiplied")
    run_out_of_memory(trainer.network, error, lambda images: False)
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        trainer.run()


@pytest.fixture
def on_optimizer_step() -> Iterator[list[Callable[[], None]]]:
    """Return a list of functions that are called before every step of an optimiser."""
    called: list[Callable[[], None]] = []

    def call_all(*_: Any) -> None:
        for function in called:
            function()

    handle = register_optimizer_step_pre_hook(call_all)
    yield called
    handle.remove()


def test_optimiser_has_its_state_before_the_first_forward_pass(
    make_trainer: MakeTrainer, on_optimizer_step: list[Callable[[], None]]
) -> None:
    """Else the memory would run out after the first step, where nothing can fall back any more."""
    happened: list[str] = []
    on_optimizer_step.append(lambda: happened.append("optimiser"))
    trainer = make_trainer("run")
    torch.manual_seed(0)
    untrained = build_network(trainer.task.configuration, 1, 2).adapter()
    begun = trainer.network.adapter()
    assert all(torch.equal(begun[name], value) for name, value in untrained.items())
    trainer.network.register_forward_pre_hook(lambda *_: happened.append("forward"))
    trainer.step(torch.rand(4, 3, 32, 32), torch.zeros(4, 16, 16, dtype=torch.int64))
    assert happened == ["optimiser", "forward", "optimiser"]


@pytest.mark.parametrize("step", [0, 2], ids=["state", "later step"])
def test_optimiser_that_does_not_fit_is_reported_with_a_remedy(
    make_trainer: MakeTrainer, on_optimizer_step: list[Callable[[], None]], step: int
) -> None:
    steps = iter(range(10))

    def run_out() -> None:
        if next(steps) >= step:
            raise CUDA_ERROR

    on_optimizer_step.append(run_out)
    message = r"state of the optimiser does not fit.*2\.00 GiB.*--backbone small"
    with pytest.raises(SamnetError, match=message):
        make_trainer("run").run()


def test_one_of_several_processes_does_not_fall_back_by_itself() -> None:
    network = build_network(make_configuration(), 1, 2)
    run_out_of_memory(network, CUDA_ERROR, lambda images: False)
    noted: list[Fallback] = []
    gradients = BatchGradients(network, 2, may_fall_back=False)
    with pytest.raises(SamnetError, match="does not fit into the memory"):
        gradients.compute(torch.rand(2, 3, 32, 32), network, torch.mean, 0, noted.append)
    assert noted == []


@pytest.mark.parametrize("head", ["linear", "upsampling"])
@pytest.mark.parametrize(
    "embedded",
    [(1, 1, 1, 1), (1, 0, 0, 1), (0, 1, 0, 0), (0, 0, 0, 0)],
    ids=["all embedded", "outer two embedded", "one embedded", "none embedded"],
)
def test_parts_of_a_batch_with_embeddings_have_the_logits_of_the_whole(
    head: str, embedded: tuple[int, ...]
) -> None:
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
    assert_close_to_norm(found, expected, SINGLE)
