"""What to do where the memory of a GPU or of the machine runs out in a computation."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any, TypeVar

import torch

Result = TypeVar("Result")
_OUT_OF_MEMORY = (
    "out of memory",
    "not enough memory",
    "can't allocate memory",
    "STATUS_ALLOC_FAILED",  # of cuBLAS and of cuDNN
    # A convolution tries one algorithm after the other, and does not say that each wanted more
    # work space than there is.
    "unable to find an engine to execute this computation",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error, of torch's or of Python's, says that memory is too small.

    Args:
        error: The error.

    Returns:
        Whether it does.
    """
    if isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)):
        return True
    return any(mark in str(error) for mark in _OUT_OF_MEMORY)


def compute_in_less_memory(
    compute: Callable[[], Result],
    fall_back: Callable[[str], Any],
    clean_up: Callable[[], Any] = lambda: None,
) -> Result:
    """Compute something; where memory runs out, fall back and compute it again.

    Args:
        compute: Computes it. It may be called several times.
        fall_back: Called with the first line of the error. It lets `compute` take less memory from
            then on, or raises an error where nothing is left to fall back on.
        clean_up: Called before, to release what a computation that failed has left.

    Returns:
        What `compute` returns.
    """
    while True:
        try:
            return compute()
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        # Not inside the handler: the error holds on to all tensors of the computation.
        clean_up()
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        fall_back(reason)
