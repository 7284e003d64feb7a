"""Several processes that train one network together, each on its share of every batch.

`torchrun`, or `samnet_train --gpus`, starts them and tells each its number by environment variables. The outputs and
targets of the shares are gathered before the loss, so that a loss over the whole batch, such as Dice, is the very loss
of one process with the same batch; each process takes the gradient of its own rows, and the gradients are summed.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch import distributed as torch_distributed

from samnet.core.errors import UserError

Item = TypeVar("Item")
# One process may encode or predict for hours while the others wait; a dead one is noticed by whoever started it.
_PATIENCE = timedelta(days=2)


@dataclass(frozen=True)
class Distributed:
    """This process among those of a training.

    rank: its number, from 0. size: how many there are. device: what it trains on.
    """

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def is_master(self) -> bool:
        """Whether it is the one that writes files and shows progress."""
        return self.rank == 0

    def share(self, items: Sequence[Item]) -> Sequence[Item]:
        """Every `size`-th item: the shares of all processes are disjoint, and together everything."""
        return items[self.rank :: self.size]

    def share_batch(self, batch_size: int) -> range:
        """The rows of a batch that are this process' own.

        Raises:
            UserError: the batch cannot be split evenly.
        """
        if batch_size % self.size:
            nearest = -(-batch_size // self.size) * self.size
            raise UserError(
                f"a batch of {batch_size} cannot be split evenly over {self.size} processes; "
                f"give --batch-size {nearest}, or --multiply-batch"
            )
        rows = batch_size // self.size
        return range(self.rank * rows, (self.rank + 1) * rows)

    def barrier(self) -> None:
        if self.size > 1:
            torch_distributed.barrier()

    def maximum(self, *values: float) -> list[float]:
        """The largest of each value over all processes."""
        if self.size == 1:
            return list(values)
        every = torch.tensor(values, dtype=torch.float64, device=self.device)
        torch_distributed.all_reduce(every, torch_distributed.ReduceOp.MAX)
        return every.tolist()

    def gather(self, value: Item) -> list[Item]:
        """The values of all processes, by rank."""
        if self.size == 1:
            return [value]
        found: list[Any] = [None] * self.size
        torch_distributed.all_gather_object(found, value)
        return found

    def gather_batch(self, share: Tensor) -> Tensor:
        """The whole batch `(B, ...)` of shares `(B / size, ...)`; the gradient goes to the own rows."""
        if self.size == 1:
            return share
        return _GatheredBatch.apply(share, self.rank, self.size)

    def all_reduce_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace each gradient by its sum over all processes, in one message."""
        gradients = [weight.grad for weight in parameters if weight.grad is not None]
        if self.size == 1 or not gradients:
            return
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        torch_distributed.all_reduce(flat)
        for gradient, total in zip(
            gradients, flat.split([gradient.numel() for gradient in gradients]), strict=True
        ):
            gradient.copy_(total.view_as(gradient))

    def broadcast_weights(self, module: nn.Module) -> None:
        """Give every process the weights of the first."""
        if self.size > 1:
            for tensor in (*module.parameters(), *module.buffers()):
                torch_distributed.broadcast(tensor.detach(), src=0)


SINGLE_PROCESS = Distributed()


class _GatheredBatch(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, share: Tensor, rank: int, size: int) -> Tensor:
        context.rows = slice(rank * len(share), (rank + 1) * len(share))
        parts = [
            torch.empty_like(share, memory_format=torch.contiguous_format) for _ in range(size)
        ]
        torch_distributed.all_gather(parts, share.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return gradients[0][context.rows], None, None


def started_by_torchrun() -> bool:
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and "RANK" in os.environ


@contextlib.contextmanager
def join_process_group(device: torch.device) -> Iterator[Distributed]:
    """Meet the other processes of this training, if there are any; each has a GPU of its own where GPUs are used.

    Raises:
        UserError: there are more processes than GPUs on this machine.
    """
    if not started_by_torchrun():
        yield Distributed(device=device)
        return
    rank, size, local = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
    if device.type == "cuda":
        if local >= torch.cuda.device_count():
            raise UserError(
                f"{size} processes, but this machine has {torch.cuda.device_count()} GPUs"
            )
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    if rank:
        logging.getLogger("samnet").setLevel(logging.WARNING)
    # The first thing they do is to wait for each other; torch would guess the GPU for that.
    backend, device_id = ("nccl", device) if device.type == "cuda" else ("gloo", None)
    torch_distributed.init_process_group(backend, timeout=_PATIENCE, device_id=device_id)
    yield Distributed(rank, size, device)
    # Only after success: a process that failed must not wait here for the others.
    torch_distributed.destroy_process_group()
