"""Several processes that train one network together, each on its share of every batch.

`torchrun`, or `samnet_train --gpus`, starts them and tells each its rank by environment variables.
The outputs and targets of the shares are gathered before the loss. So a loss over the whole batch,
such as Dice, is the very loss of one process with the same batch. Each process computes the
gradient of its own rows, and the gradients are summed.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch import distributed as torch_distributed

from samnet.core.errors import UserError

Item = TypeVar("Item")
# One process may encode or predict for hours while the others wait; a dead one is noticed by
# whoever started it.
_TIMEOUT = timedelta(days=2)


@dataclass(frozen=True)
class Distributed:
    """This process among those that train together.

    Attributes:
        rank: Its number, from 0.
        world_size: How many there are.
        device: What it trains on.
    """

    rank: int = 0
    world_size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def is_master(self) -> bool:
        """Whether it is the one that writes files and shows progress."""
        return self.rank == 0

    def share(self, items: Sequence[Item]) -> Sequence[Item]:
        """Return the items of this process: every `world_size`-th.

        The shares of all processes are disjoint, and together everything.

        Args:
            items: The same items in every process.

        Returns:
            Its share.
        """
        return items[self.rank :: self.world_size]

    def share_batch(self, batch_size: int) -> range:
        """Return the rows of a batch that this process computes.

        Args:
            batch_size: Rows of the whole batch.

        Returns:
            Its rows.

        Raises:
            UserError: The batch cannot be split evenly.
        """
        if batch_size % self.world_size:
            nearest = -(-batch_size // self.world_size) * self.world_size
            raise UserError(
                f"a batch of {batch_size} cannot be split evenly over {self.world_size} processes; "
                f"give --batch-size {nearest}, or --multiply-batch"
            )
        rows = batch_size // self.world_size
        return range(self.rank * rows, (self.rank + 1) * rows)

    def barrier(self) -> None:
        """Wait until every process is here."""
        if self.world_size > 1:
            torch_distributed.barrier()

    def maximum(self, *values: float) -> list[float]:
        """Return the largest of each value over all processes.

        Args:
            values: This process' values.

        Returns:
            The same in every process.
        """
        if self.world_size == 1:
            return list(values)
        every = torch.tensor(values, dtype=torch.float64, device=self.device)
        torch_distributed.all_reduce(every, torch_distributed.ReduceOp.MAX)
        return every.tolist()

    def gather(self, value: Item) -> list[Item]:
        """Return the values of all processes.

        Args:
            value: This process' value, which can be pickled.

        Returns:
            The values by rank, the same in every process.
        """
        if self.world_size == 1:
            return [value]
        found: list[Any] = [None] * self.world_size
        torch_distributed.all_gather_object(found, value)
        return found

    def from_master(self, compute: Callable[[], Item]) -> Item:
        """Let the master process compute a value that may differ from one process to the next.

        Args:
            compute: Returns the value, which can be pickled. Only the master process calls it.

        Returns:
            The value, the same in every process.
        """
        if self.world_size == 1:
            return compute()
        values: list[Any] = [compute() if self.is_master else None]
        torch_distributed.broadcast_object_list(values, src=0)
        return values[0]

    def gather_batch(self, share: Tensor) -> Tensor:
        """Return the whole batch. Its gradient goes to the own rows.

        Args:
            share: This process' rows `(B / world_size, ...)`.

        Returns:
            `(B, ...)`.
        """
        if self.world_size == 1:
            return share
        return _GatheredBatch.apply(share, self.rank, self.world_size)

    def all_reduce_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace each gradient by its sum over all processes, in one message.

        Args:
            parameters: The same parameters in every process.
        """
        gradients = [weight.grad for weight in parameters if weight.grad is not None]
        if self.world_size == 1 or not gradients:
            return
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        torch_distributed.all_reduce(flat)
        totals = flat.split([gradient.numel() for gradient in gradients])
        for gradient, total in zip(gradients, totals, strict=True):
            gradient.copy_(total.view_as(gradient))

    def broadcast_weights(self, module: nn.Module) -> None:
        """Give every process the weights of the master process.

        Args:
            module: The network, which is changed in place.
        """
        if self.world_size > 1:
            for tensor in (*module.parameters(), *module.buffers()):
                torch_distributed.broadcast(tensor.detach(), src=0)


SINGLE_PROCESS = Distributed()


class _GatheredBatch(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, share: Tensor, rank: int, world_size: int) -> Tensor:
        context.rows = slice(rank * len(share), (rank + 1) * len(share))
        empty = torch.empty_like(share, memory_format=torch.contiguous_format)
        parts = [torch.empty_like(empty) for _ in range(world_size)]
        torch_distributed.all_gather(parts, share.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return gradients[0][context.rows], None, None


def started_by_torchrun() -> bool:
    """Tell whether this process is one of several that were started together.

    Returns:
        Whether the environment says so.
    """
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and "RANK" in os.environ


@contextlib.contextmanager
def join_process_group(device: torch.device) -> Iterator[Distributed]:
    """Meet the other processes of this training run, if there are any.

    Each has a GPU of its own where GPUs are used.

    Args:
        device: The kind of device to train on.

    Yields:
        This process among them.

    Raises:
        UserError: There are more processes than GPUs on this machine.
    """
    if not started_by_torchrun():
        yield Distributed(device=device)
        return
    rank, world_size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    local_rank = int(os.environ["LOCAL_RANK"])
    if device.type == "cuda":
        num_gpus = torch.cuda.device_count()
        if local_rank >= num_gpus:
            raise UserError(f"{world_size} processes, but this machine has {num_gpus} GPUs")
        device = torch.device("cuda", local_rank)
        torch.cuda.set_device(device)
    if rank:
        logging.getLogger("samnet").setLevel(logging.WARNING)
    # The first thing they do is to wait for each other; torch would guess the GPU for that.
    backend, device_id = ("nccl", device) if device.type == "cuda" else ("gloo", None)
    torch_distributed.init_process_group(backend, timeout=_TIMEOUT, device_id=device_id)
    yield Distributed(rank, world_size, device)
    # Only after success: a process that failed must not wait here for the others.
    torch_distributed.destroy_process_group()
