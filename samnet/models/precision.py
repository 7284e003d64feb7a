"""The planned precision, on devices that have it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

import torch
from torch import Tensor, nn

from samnet.core.cpu_bfloat16 import computes_faster_in_bfloat16

_AMPERE = 8  # compute capability of the first GPUs with bfloat16
_ASSUMED_TYPE: ContextVar[torch.dtype | None] = ContextVar("assumed_type", default=None)


def used_precision(planned: str, device: torch.device) -> str:
    """Return the precision in which networks compute on a device.

    Torch says that GPUs before Ampere support bfloat16 as well, since they can store such numbers.
    But they compute slowly with them, and have neither convolutions nor fused attention for them.
    CPUs without units for bfloat16 compute several times slower in it.

    Args:
        planned: The plan's `precision`, `bfloat16` or `float32`.
        device: The device to compute on.

    Returns:
        The planned precision, or `float32` on a device that is not faster in bfloat16.
    """
    if planned != "bfloat16":
        return "float32"
    has_bfloat16 = False
    if device.type == "cuda":
        has_bfloat16 = torch.cuda.get_device_capability(device)[0] >= _AMPERE
    elif device.type == "cpu":
        has_bfloat16 = computes_faster_in_bfloat16()
    return "bfloat16" if has_bfloat16 else "float32"


def autocast(planned: str, device: torch.device) -> contextlib.AbstractContextManager:
    """Return the context in which networks compute on a device.

    No autocast is made where none is used: torch refuses even a disabled one for devices that it
    has none for, which for `mps` means torch 2.4, and torch 2.5 warns of bfloat16 there.

    Args:
        planned: The plan's `precision`.
        device: The device to compute on.

    Returns:
        An autocast to bfloat16, or a context that changes nothing where `used_precision` is
        `float32`.
    """
    if used_precision(planned, device) == "float32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, torch.bfloat16)


@contextlib.contextmanager
def as_if_autocast(dtype: torch.dtype) -> Iterator[None]:
    """Let `autocast_type` say that tensors without values are in an autocast.

    Torch's `meta` device, which they are on, has none.

    Args:
        dtype: The type of the autocast.

    Yields:
        None.
    """
    token = _ASSUMED_TYPE.set(dtype)
    try:
        yield
    finally:
        _ASSUMED_TYPE.reset(token)


def autocast_type(tensor: Tensor) -> torch.dtype | None:
    """Return the type in which an autocast computes products of a tensor.

    Args:
        tensor: The tensor.

    Returns:
        The type; None where no autocast is active for the tensor's device and type.
    """
    if tensor.is_meta:
        return _ASSUMED_TYPE.get()
    device = tensor.device.type
    if tensor.dtype == torch.float64 or not torch.amp.is_autocast_available(device):
        return None
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None


def as_in_products(tensor: Tensor) -> Tensor:
    """Return a tensor in the type in which an autocast multiplies it.

    An autocast casts a tensor at each of its uses, and does not keep the result. For a large tensor
    that takes part in several products, one cast is enough.

    Args:
        tensor: The tensor.

    Returns:
        The tensor, cast where an autocast is active.
    """
    return tensor.to(autocast_type(tensor) or tensor.dtype)


def cast_weights(network: nn.Module, planned: str, device: torch.device) -> None:
    """Cast weights that `autocast` would cast at each use, once, in place.

    Only on a CPU: there it saves a tenth of the time of ViT-B. The network then computes the same
    numbers up to rounding, but only within `autocast`. Norms and positions stay in single
    precision. Matrices lie transposed in memory: in this order each product prepares them faster.

    Args:
        network: The network. It can predict afterwards; its weights are no longer those to store.
        planned: The plan's `precision`.
        device: The device that it computes on.
    """
    if device.type != "cpu" or used_precision(planned, device) == "float32":
        return
    for module in network.modules():
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            module.to(torch.bfloat16)
        if isinstance(module, nn.Linear):
            module.weight.data = module.weight.data.T.contiguous().T


@contextlib.contextmanager
def weights_cast(network: nn.Module, planned: str, device: torch.device) -> Iterator[None]:
    """Let a network have the weights of `cast_weights` for a while, and then its own again.

    Args:
        network: The network. It must not be trained or stored meanwhile.
        planned: The plan's `precision`.
        device: The device that it computes on.

    Yields:
        None.
    """
    own = [(weight, weight.data) for weight in network.parameters()]
    try:
        cast_weights(network, planned, device)
        yield
    finally:
        for weight, values in own:
            weight.data = values
