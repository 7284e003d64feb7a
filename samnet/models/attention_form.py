"""Which form attention is computed in: it depends on the device and on the number of keys."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

from torch import Tensor

# By measurement on an H100 in bfloat16: windows of 14 x 14 tokens take 0.20 ms with a matrix and
# 0.39 ms with codes; 28 x 28 tokens 0.53 and 0.50 ms, 64 x 64 tokens 5.6 and 2.5 ms.
_MOST_KEYS_OF_A_MATRIX = 256
_ASSUMED_DEVICE: ContextVar[str | None] = ContextVar("assumed_device", default=None)


@contextlib.contextmanager
def as_if_on(device: str) -> Iterator[None]:
    """Choose the form of attention of a device for all tensors, wherever they are.

    Tensors without values (torch's `meta` device) have that of `cuda` otherwise.

    Args:
        device: Type of the device whose form is used within the context, such as `cpu`.

    Yields:
        None.
    """
    token = _ASSUMED_DEVICE.set(device)
    try:
        yield
    finally:
        _ASSUMED_DEVICE.reset(token)


def device_of_form(tensor: Tensor) -> str:
    """Return the type of the device whose form of attention a tensor is given.

    Args:
        tensor: Any tensor.

    Returns:
        Such as `cpu` or `cuda`; see `as_if_on`.
    """
    assumed = _ASSUMED_DEVICE.get()
    if assumed is not None:
        return assumed
    return "cuda" if tensor.is_meta else tensor.device.type


def attention_form(device: str, num_keys: int) -> str:
    """Choose how attention is computed.

    Args:
        device: Type of the device.
        num_keys: Keys of a window or image.

    Returns:
        `chunks`, with a matrix of positions for some heads at a time; `matrix`, with one for all;
        or `codes`, without any.
    """
    if device == "cpu":
        return "chunks"
    is_small = num_keys <= _MOST_KEYS_OF_A_MATRIX
    return "matrix" if device == "cuda" and is_small else "codes"
