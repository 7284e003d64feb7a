"""The memory a training step takes, found without weights, data or the device.

A whole step of the planned network (forward, loss, backward and optimiser) runs on torch's `meta`
device, on tensors that have a shape and no values, while every storage is counted as it comes and
goes. What a device takes in addition to tensors (a GPU's context, the work space of its kernels,
gaps between blocks) is not included: `samnet.planning.memory` leaves room for that.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from samnet.models.network import build_network
from samnet.models.positional_attention import as_if_on
from samnet.plan.configuration import Configuration, keys_with
from samnet.plan.plan_key import Role
from samnet.preprocessing.channels import num_input_channels
from samnet.training.loss import segmentation_loss

_IN_HALF = (
    functional.linear,
    functional.conv2d,
    functional.conv_transpose2d,
    functional.scaled_dot_product_attention,
    torch.matmul,
    torch.bmm,
    torch.baddbmm,
    torch.einsum,
    Tensor.matmul,
    Tensor.__matmul__,
)
_IN_SINGLE = (
    functional.layer_norm,
    functional.group_norm,
    functional.softmax,
    torch.softmax,
    torch.pow,
    Tensor.softmax,
    Tensor.pow,
    Tensor.__pow__,
)


_peaks: dict[tuple, int] = {}  # bytes, by all that they depend on


def measure_step(
    configuration: Configuration,
    num_channels: int,
    num_outputs: int,
    has_regions: bool,
    device: str,
) -> float:
    """Measure the memory of a training step: a `samnet.planning.memory.Meter`.

    Args:
        configuration: The configuration to train.
        num_channels: Number of image channels of the data set.
        num_outputs: Classes with the background, or regions.
        has_regions: Whether the outputs are regions.
        device: `cpu`, `cuda` or `mps`.

    Returns:
        GiB of all tensors at the peak of the step.
    """
    values = tuple(getattr(configuration, key) for key in keys_with(Role.MEMORY))
    key = (*values, num_channels, num_outputs, has_regions, device)
    if key not in _peaks:
        without_file = replace(configuration, initial_weights="random")
        _peaks[key] = _peak_of_step(without_file, num_channels, num_outputs, has_regions, device)
    return _peaks[key] / 2**30


def _peak_of_step(
    configuration: Configuration,
    num_channels: int,
    num_outputs: int,
    has_regions: bool,
    device: str,
) -> int:
    batch, size = configuration.batch_size, configuration.input_size
    half = configuration.precision == "bfloat16" and device == "cuda"
    with StorageCount() as count, torch.device("meta"), as_if_on(device):
        network = build_network(configuration, num_channels, num_outputs).train()
        blocks: Any = network.encoder.blocks
        for module in (network, *blocks):  # blocks are computed again in the backward pass
            module.forward = _on_meta(module.forward, device, half)
        trained = [weight for weight in network.parameters() if weight.requires_grad]
        # As in any step but the first, Adam's two averages are there.
        averages = [torch.empty_like(weight) for weight in trained for _ in range(2)]
        images = torch.empty(
            batch, num_input_channels(configuration.channel_layout, num_channels), size, size
        )
        logits = network(images)
        target_shape = logits.shape if has_regions else torch.Size((batch, *logits.shape[2:]))
        loss = segmentation_loss(
            logits.float(),
            torch.empty(target_shape, dtype=torch.long),
            form=configuration.loss,
            cross_entropy_weight=configuration.cross_entropy_weight,
            dice_weight=configuration.dice_weight,
        )
        loss.backward()
        if device == "cuda":  # where all weights are updated at once, by way of another copy
            averages += [torch.empty_like(weight) for weight in trained]
    return count.peak


class StorageCount(TorchDispatchMode):
    """Counts the bytes of the tensors that are made while it is active, views not again.

    now: of those that are still there. peak: the most there were at once.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._counted: dict[int, int] = {}

    def __torch_dispatch__(
        self,
        function: Callable,
        types: Sequence[type],
        args: tuple = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        for value in tree_leaves(result):
            if isinstance(value, Tensor):
                self._count(value.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        address = storage._cdata
        if address not in self._counted:
            self._counted[address] = storage.nbytes()
            self.now += storage.nbytes()
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._release, address)

    def _release(self, address: int) -> None:
        self.now -= self._counted.pop(address)


def _on_meta(forward: Callable, device: str, half: bool) -> Callable:
    """A module's `forward` that makes its tensors on the `meta` device wherever it is called from."""

    def call(*args: Any) -> Any:
        with contextlib.ExitStack() as modes:
            modes.enter_context(torch.device("meta"))
            if device == "cuda":
                modes.enter_context(_FusedAttention())
            if half:
                modes.enter_context(_Autocast())
            return forward(*args)

    return call


class _FusedAttention(TorchFunctionMode):
    """Attention as CUDA's fused kernels do it, of which the `meta` device has none: no matrix of queries and keys."""

    def __torch_function__(
        self,
        function: Callable,
        types: Sequence[type],
        args: tuple = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if function is functional.scaled_dot_product_attention and len(args) == 3:
            return _FusedStorage.apply(*args)
        return function(*args, **(kwargs or {}))


class _FusedStorage(torch.autograd.Function):
    """What a fused kernel keeps and makes: its inputs, its output and a number for each query; their gradients."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        attended = query.new_empty(*query.shape[:-1], value.shape[-1])
        ctx.save_for_backward(
            query, key, value, attended, query.new_empty(query.shape[:-1], dtype=torch.float32)
        )
        return attended

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:
        return tuple(torch.empty_like(tensor) for tensor in ctx.saved_tensors[:3])


class _Autocast(TorchFunctionMode):
    """What `torch.autocast` to bfloat16 does on CUDA, for the `meta` device, which has none."""

    def __torch_function__(
        self,
        function: Callable,
        types: Sequence[type],
        args: tuple = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        wanted = (
            torch.bfloat16
            if function in _IN_HALF
            else torch.float32
            if function in _IN_SINGLE
            else None
        )
        if wanted is not None:
            args, kwargs = tree_map(lambda value: _cast(value, wanted), (args, kwargs))
        return function(*args, **kwargs)


def _cast(value: Any, dtype: torch.dtype) -> Any:
    return value.to(dtype) if isinstance(value, Tensor) and value.is_floating_point() else value
