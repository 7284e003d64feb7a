"""Measures the memory of a training step without weights, data or the device.

A whole step of the planned network (forward, loss, backward and optimiser) runs on torch's `meta`
device, whose tensors have a shape and no values. Every storage is counted when it is allocated and
when it is freed. What a device takes in addition to tensors (a GPU's context, the work space of its
kernels, gaps between blocks) is not included: `samnet.planning.memory` leaves room for that.
"""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from samnet.models.attention_form import as_if_on
from samnet.models.network import build_network
from samnet.models.precision import as_if_autocast
from samnet.planning.planned_step import PlannedStep, rows_of_step
from samnet.preprocessing.channels import num_input_channels
from samnet.training.loss import segmentation_loss

_HAVE_BFLOAT16 = ("cuda", "cpu")
# Functions that `torch.autocast` computes in bfloat16, and those that it computes in single
# precision, which it does on CUDA alone.
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
_peaks: dict[str, int] = {}  # bytes, by `PlannedStep.memory_key`


def measure_step(step: PlannedStep) -> float:
    """Measure the memory of a training step: a `samnet.planning.memory.Meter`.

    Args:
        step: The step.

    Returns:
        GiB of all tensors at the peak of the step.
    """
    key = step.memory_key
    if key not in _peaks:
        _peaks[key] = _peak_of_step(step)
    return _peaks[key] / 2**30


def _peak_of_step(step: PlannedStep) -> int:
    """Return the bytes of all tensors at the peak of a step."""
    configuration = replace(step.configuration, initial_weights="random")  # without a file
    device = step.device
    batch, size = rows_of_step(configuration), configuration.input_size
    channels = num_input_channels(configuration.channel_layout, step.num_channels)
    half = configuration.precision == "bfloat16" and device in _HAVE_BFLOAT16
    with StorageCount() as count, torch.device("meta"), as_if_on(device):
        network = build_network(configuration, step.num_channels, step.num_outputs).train()
        encoder: Any = network.encoder
        for module in (network, *encoder.layers()):
            module.forward = _on_meta(module.forward, device, half)
        trained = [weight for weight in network.parameters() if weight.requires_grad]
        # As in any step but the first, Adam's two averages are there.
        copies = 2 + (configuration.weight_average > 0)
        averages = [torch.empty_like(weight) for weight in trained * copies]
        stack = () if configuration.depth == 1 else (configuration.depth,)
        images = torch.empty(batch, *stack, channels, size, size)
        logits = network(images)
        shape_of_classes = torch.Size((batch, *stack, *logits.shape[-2:]))
        target_shape = logits.shape if step.has_regions else shape_of_classes
        # Neither the logits in single precision nor the target has a name here: both are freed
        # when the loss is computed.
        loss = segmentation_loss(
            logits.float(),
            torch.empty(target_shape, dtype=torch.long),
            form=configuration.loss,
            cross_entropy_weight=configuration.cross_entropy_weight,
            dice_weight=configuration.dice_weight,
        )
        loss.backward()
        if device == "cuda":
            # There all weights are updated at once, which takes another copy of them.
            averages += [torch.empty_like(weight) for weight in trained]
    return count.peak


class StorageCount(TorchDispatchMode):
    """Counts the bytes of the tensors that are created while it is active. Views are not counted.

    Attributes:
        now: Bytes of the tensors that still exist.
        peak: Largest number of bytes that existed at the same time.
    """

    def __init__(self) -> None:
        """Begin with no tensors."""
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
    """Return a module's `forward` that creates its tensors on `meta`, wherever it is called from.

    The backward pass calls checkpointed blocks outside of the context of the forward pass.
    """

    def call(*args: Any) -> Any:
        with contextlib.ExitStack() as modes:
            modes.enter_context(torch.device("meta"))
            if device == "cuda" or half:
                modes.enter_context(_FusedAttention())
            if half:
                modes.enter_context(_Autocast(device))
                modes.enter_context(as_if_autocast(torch.bfloat16))
            return forward(*args)

    return call


class _FusedAttention(TorchFunctionMode):
    """Replaces attention by what fused kernels take: no weights of all queries and keys.

    The `meta` device has no such kernels. Attention with a given matrix stays unchanged.
    """

    def __torch_function__(
        self,
        function: Callable,
        types: Sequence[type],
        args: tuple = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        # Queries, keys, values, and with some forms the matrix of positions.
        if function is functional.scaled_dot_product_attention and len(args) in (3, 4):
            return _FusedStorage.apply(*args)
        return function(*args, **(kwargs or {}))


class _FusedStorage(torch.autograd.Function):
    """The tensors of a fused kernel.

    It keeps its inputs, its output and a number for each query, and creates their gradients.
    """

    @staticmethod
    def forward(ctx: Any, query: Tensor, *others: Tensor) -> Tensor:
        attended = query.new_empty(*query.shape[:-1], others[1].shape[-1])
        number_per_query = query.new_empty(query.shape[:-1], dtype=torch.float32)
        ctx.save_for_backward(query, *others, attended, number_per_query)
        return attended

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, ...]:
        return tuple(torch.empty_like(tensor) for tensor in ctx.saved_tensors[:-2])


class _Autocast(TorchFunctionMode):
    """Casts as `torch.autocast` to bfloat16 does; the `meta` device has no autocast."""

    def __init__(self, device: str) -> None:
        super().__init__()
        self._in_single = _IN_SINGLE if device == "cuda" else ()

    def __torch_function__(
        self,
        function: Callable,
        types: Sequence[type],
        args: tuple = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if function in _IN_HALF:
            args, kwargs = tree_map(partial(_cast, torch.bfloat16), (args, kwargs))
        elif function in self._in_single:
            args, kwargs = tree_map(partial(_cast, torch.float32), (args, kwargs))
        return function(*args, **kwargs)


def _cast(dtype: torch.dtype, value: Any) -> Any:
    return value.to(dtype) if isinstance(value, Tensor) and value.is_floating_point() else value
