"""Work that is recorded once as a CUDA graph, then replayed.

On a GPU, networks of this size have thousands of small kernels, and launching them one by one takes
far longer than computing them. A graph launches them all at once. For that the work may only use
memory that stays where it is, and may not wait for the device.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from samnet.models.out_of_memory import is_out_of_memory

log = logging.getLogger(__name__)
Work = Callable[[], None]
Replay = Callable[[], None]
# Returns a function that repeats some work; see `record_graph`.
Record = Callable[[Work], Replay]


def record_graph(work: Work) -> Replay:
    """Record work as a CUDA graph, without doing it.

    Args:
        work: Launches kernels on fixed memory.

    Returns:
        A function that does the work.

    Raises:
        RuntimeError: The work cannot be recorded, or the memory is too small.
    """
    torch.cuda.synchronize()
    gc.collect()
    torch.cuda.empty_cache()  # what the warm-up has used; the graph has memory of its own
    graph = torch.cuda.CUDAGraph()
    # Threads that copy to pinned memory or to the device may call the device meanwhile.
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        work()
    return graph.replay


def try_to_record(record: Record, work: Work, name: str) -> Replay | None:
    """Record work; where this fails, one line in the log says so.

    Args:
        record: Records it.
        work: Launches kernels on fixed memory.
        name: What the work is, in the plural, for the log.

    Returns:
        A function that does the work; None where it cannot be recorded.
    """
    try:
        return record(work)
    except RuntimeError as error:
        is_memory = is_out_of_memory(error)
        reason = "out of memory" if is_memory else (str(error) or repr(error)).splitlines()[0]
    # Not inside the handler: the error holds on to all tensors of the work.
    log.warning(
        "%s are launched operator by operator, as no CUDA graph of them could be recorded (%s)",
        name,
        reason,
    )
    return None


def have_same_form(tensors: Sequence[Tensor], others: Sequence[Tensor]) -> bool:
    """Tell whether tensors fit buffers that some work was recorded with.

    Args:
        tensors: The tensors.
        others: The buffers.

    Returns:
        Whether they are as many, of the same shapes and types.
    """
    return [_form(tensor) for tensor in tensors] == [_form(tensor) for tensor in others]


def _form(tensor: Tensor) -> tuple[torch.Size, torch.dtype]:
    return tensor.shape, tensor.dtype
