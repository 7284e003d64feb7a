"""Averaged weights of a network in training."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from samnet.pretraining.network import PretrainingNetwork

_PREFIX = "averaged."


class AveragedNetwork:
    """A network, and exponentially averaged weights of it, which are saved with it.

    Attributes:
        network: The network in training.
        average: A network of the averaged weights, or the network itself where there is no
            averaging.
    """

    def __init__(self, network: PretrainingNetwork, decay: float) -> None:
        """Start the average at the weights of the network.

        Args:
            network: The network.
            decay: What is kept of the average in each step; 0 for no averaging.
        """
        self.network, self._decay = network, decay
        self.average = copy.deepcopy(network) if decay else network

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Count the weights after a step.

        Early steps count more, so that the random weights of the start are soon forgotten.

        Args:
            step: Number of finished steps.
        """
        if not self._decay:
            return
        decay = min(self._decay, (1 + step) / (10 + step))
        pairs = zip(self.average.parameters(), self.network.parameters(), strict=True)
        for averaged, current in pairs:
            averaged.lerp_(current, 1 - decay)

    def adapter(self) -> dict[str, Tensor]:
        """Return all weights by name, with those of the average.

        Returns:
            Tensors by name.
        """
        weights = self.network.adapter()
        if self._decay:
            averaged = self.average.adapter()
            weights |= {_PREFIX + name: value for name, value in averaged.items()}
        return weights

    def load_adapter(self, weights: dict[str, Tensor], where: str) -> None:
        """Load what `adapter` returned.

        Args:
            weights: All weights by name.
            where: What to call their source in messages.
        """
        current: dict[str, Tensor] = {}
        averaged: dict[str, Tensor] = {}
        for name, value in weights.items():
            target = averaged if name.startswith(_PREFIX) else current
            target[name.removeprefix(_PREFIX)] = value
        self.network.load_adapter(current, where)
        if self._decay:
            self.average.load_adapter(averaged, where)
