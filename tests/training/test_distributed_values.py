"""What processes that train together exchange, and what only one of them does."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from builders.ports import free_port
from builders.runs import fixed_dice, send_signal
from torch import nn

from samnet.core.errors import SamnetError
from samnet.core.signals import Interrupted
from samnet.training.distributed import Distributed, join_process_group
from samnet.training.loop import Trainer

MakeTrainer = Callable[..., Trainer]


def exchange(distributed: Distributed) -> dict[str, Any]:
    """Exchange values in every way that there is; return what comes of it."""
    rank = distributed.rank
    share = torch.full((2, 1), float(rank), requires_grad=True)
    whole = distributed.gather_batch(share)
    (whole * torch.arange(4.0)[:, None]).sum().backward()
    assert share.grad is not None

    trained, frozen = nn.Linear(2, 1), nn.Linear(1, 1)
    for weight in trained.parameters():
        weight.grad = torch.full_like(weight, rank + 1.0)
    distributed.all_reduce_gradients([*frozen.parameters(), *trained.parameters()])
    assert trained.weight.grad is not None
    assert trained.bias.grad is not None

    norm = nn.BatchNorm1d(1)
    assert norm.running_mean is not None
    for tensor in (norm.weight.data, norm.running_mean):
        tensor.fill_(rank + 5.0)
    distributed.broadcast_weights(norm)
    return {
        "maximum": distributed.maximum(rank, -rank, 5),
        "gathered": distributed.gather(f"of {rank}"),
        "from master": distributed.from_master(lambda: f"of {rank}"),
        "whole batch": whole.flatten().tolist(),
        "gradient of the share": share.grad.flatten().tolist(),
        "sums of gradients": [*trained.weight.grad.flatten().tolist(), trained.bias.grad.item()],
        "weights of the master": [norm.weight.item(), norm.running_mean.item()],
    }


def exchange_as(environment: dict[str, str], results: Any) -> None:
    """Meet the other process, and put what comes of the exchange into a queue."""
    os.environ.update(environment)
    with join_process_group(torch.device("cpu")) as distributed:
        results.put((distributed.rank, exchange(distributed)))


def test_two_processes_exchange_what_they_have() -> None:
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": "2"}
    children = []
    for rank in ("0", "1"):
        environment = shared | {"RANK": rank, "LOCAL_RANK": rank}
        child = context.Process(target=exchange_as, args=(environment, results))
        child.start()
        children.append(child)
    found = dict(results.get(timeout=120) for _ in children)
    for child in children:
        child.join(60)
        assert child.exitcode == 0
    both = {
        "maximum": [1.0, 0.0, 5.0],
        "gathered": ["of 0", "of 1"],
        "from master": "of 0",
        "whole batch": [0.0, 0.0, 1.0, 1.0],
        "sums of gradients": [3.0, 3.0, 3.0],
        "weights of the master": [5.0, 5.0],
    }
    assert found[0] == both | {"gradient of the share": [0.0, 1.0]}
    assert found[1] == both | {"gradient of the share": [2.0, 3.0]}


class SecondOfTwo(Distributed):
    """The second of two processes, of which the first always has the same values."""

    def barrier(self) -> None:
        pass

    def maximum(self, *values: float) -> list[float]:
        return list(values)

    def gather(self, value: Any) -> list[Any]:
        return [value, value]

    def gather_batch(self, share: torch.Tensor) -> torch.Tensor:
        return torch.cat([share, share])

    def all_reduce_gradients(self, parameters: Any) -> None:
        pass

    def broadcast_weights(self, module: nn.Module) -> None:
        pass


SECOND = SecondOfTwo(rank=1, world_size=2)


def test_only_the_master_process_writes(make_trainer: MakeTrainer) -> None:
    writes: list[str] = []
    hooks = {
        "distributed": SECOND,
        "before_writing": lambda: writes.append(""),
        "validator": fixed_dice(0.5),
    }
    trainer = make_trainer(steps=3, save_seconds=0, hooks=hooks)
    trainer.run()
    assert trainer.progress.step == 3
    assert len(trainer.history.rows) == 2
    assert writes == []
    assert not list(trainer.folder.path.parent.glob("run*"))


def test_processes_that_find_different_states_do_not_train(make_trainer: MakeTrainer) -> None:
    class Ahead(SecondOfTwo):
        def gather(self, value: Any) -> list[Any]:
            return [value, value + 2]

    with pytest.raises(SamnetError, match="the processes find different checkpoints"):
        make_trainer(hooks={"distributed": Ahead(rank=1, world_size=2)})


def test_signal_ends_a_validation_of_several_processes_after_a_case(
    make_trainer: MakeTrainer,
) -> None:
    """All of them stop together, so not in the middle of a case."""
    done: list[str] = []

    def validator(*arguments: Any, after_case: Callable[[], None], **options: Any) -> np.ndarray:
        send_signal(signal.SIGTERM)
        done.append("case")
        after_case()
        raise AssertionError("the validation continued")

    trainer = make_trainer(hooks={"distributed": SECOND, "validator": validator})
    with pytest.raises(Interrupted, match="state saved at step 2"):
        trainer.run()
    assert done == ["case"]


def test_several_processes_do_not_fall_back_by_themselves(make_trainer: MakeTrainer) -> None:
    """Where one of them computed its rows in parts, the others would wait for ever."""
    trainer = make_trainer(batch_size=4, hooks={"distributed": SECOND})

    def refuse(network: nn.Module, inputs: tuple) -> None:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory.")

    trainer.network.register_forward_pre_hook(refuse)
    with pytest.raises(SamnetError, match=r"does not fit into the memory \(CUDA out of"):
        trainer.run()
