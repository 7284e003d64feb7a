"""The optimiser of a training run."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from samnet.plan.configuration import Configuration

_BETAS = (0.9, 0.999)
_MOMENTUM = 0.9  # as in SAMed's code, which has SGD as an option
# Name in plans -> builds the optimiser of some weights.
OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adamw": partial(torch.optim.AdamW, betas=_BETAS),
    "adam": partial(torch.optim.Adam, betas=_BETAS),
    "sgd": partial(torch.optim.SGD, momentum=_MOMENTUM),
}
FUSED_DEVICES = ("cuda", "cpu")  # which update all weights in one step


def build_optimizer(
    network: nn.Module, configuration: Configuration, device: torch.device
) -> torch.optim.Optimizer:
    """Build the optimiser of a configuration for the weights that are trained.

    Args:
        network: The network, with what is not trained frozen.
        configuration: The values of a plan.
        device: Where the network is.

    Returns:
        The optimiser, at the peak learning rate.
    """
    trained = [weight for weight in network.parameters() if weight.requires_grad]
    return OPTIMIZERS[configuration.optimizer](
        trained,
        lr=configuration.learning_rate,
        weight_decay=configuration.weight_decay,
        fused=device.type in FUSED_DEVICES or None,  # None: torch decides
    )


def allocate_state(optimizer: torch.optim.Optimizer) -> None:
    """Let an optimiser have its state before its first step.

    By itself it makes the state at the end of the first step. A memory that is too small for a step
    with it would show only there, where nothing can be done about it. The state is made by a step
    with gradients of 0 and a rate of 0, which changes no weight. Then all of it is set to 0: weight
    decay may have left something in it.

    Args:
        optimizer: An optimiser of `build_optimizer`. One that has a state already keeps it.
    """
    if optimizer.state:
        return
    rates = [group["lr"] for group in optimizer.param_groups]
    for group in optimizer.param_groups:
        group["lr"] = 0.0
        for weight in group["params"]:
            weight.grad = torch.zeros_like(weight)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    for state in optimizer.state.values():
        for value in state.values():
            if isinstance(value, torch.Tensor):
                value.zero_()
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of the next step.

    Args:
        optimizer: The optimiser.
        rate: The rate.
    """
    for group in optimizer.param_groups:
        group["lr"] = rate


def step_on_device(optimizer: torch.optim.Optimizer, rate: Tensor, skips: Tensor) -> None:
    """Make a step that depends on values on the device alone, as a CUDA graph needs it.

    Args:
        optimizer: A fused optimiser, which has its state already.
        rate: The learning rate, a scalar on the device.
        skips: A scalar on the device: where it is 1, the step changes neither weights nor state.
    """
    kept = [dict(group) for group in optimizer.param_groups]
    for group in optimizer.param_groups:
        group["lr"] = rate
        if "capturable" in group:  # needed on CUDA, refused on a CPU
            group["capturable"] = rate.is_cuda
    # By these attributes torch's `GradScaler` lets fused optimisers skip a step.
    state: Any = optimizer
    state.grad_scale, state.found_inf = None, skips
    try:
        optimizer.step()
    finally:
        del state.grad_scale, state.found_inf
        for group, values in zip(optimizer.param_groups, kept, strict=True):
            group.update(values)
