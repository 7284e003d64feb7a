"""The optimiser of a training run."""

from __future__ import annotations

import torch
from torch import nn

from samnet.plan.configuration import Configuration

OPTIMIZERS = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}
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
        betas=(0.9, 0.999),
        weight_decay=configuration.weight_decay,
        fused=device.type in FUSED_DEVICES or None,  # None: torch decides
    )
