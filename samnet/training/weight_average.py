"""The exponential moving average of the trained weights of a run.

The weights of single steps jump about a point between them, and their average lies nearer to it
(Polyak and Juditsky 1992; for networks arXiv 1703.01780 and 1803.05407).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

_PREFIX = "average."  # before the names of weights in the checkpoint of a running training
_STEPS = "average_steps"


class WeightAverage:
    """Averages the trained weights of a network over its steps.

    The average begins at the weights of the start, and forgets them soon: with `t` steps in it, the
    next one keeps `min(decay, (1 + t) / (10 + t))` of it. So it spans about a ninth of a short run,
    and at most `1 / (1 - decay)` steps of a long one.

    Attributes:
        decay: What a step keeps of the average, at most; 0 for no average.
        steps: The number of steps in it.
        weights: The average of each trained weight by its name; empty without an average.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        """Begin at the weights that the network has.

        Args:
            network: The network, with what is not trained frozen.
            decay: What a step keeps of the average, at most; 0 for no average.
        """
        self.decay, self.steps = decay, 0
        trained = {name: w for name, w in network.named_parameters() if w.requires_grad}
        self._trained: dict[str, nn.Parameter] = trained if decay else {}
        self.weights = {name: weight.detach().clone() for name, weight in self._trained.items()}

    @torch.no_grad()
    def begin_if_new(self) -> None:
        """Begin at the weights that the network has now, unless there are steps in the average."""
        if self.steps:
            return
        for name, weight in self._trained.items():
            self.weights[name].copy_(weight)

    def state(self) -> dict[str, Tensor]:
        """Return what a checkpoint keeps of the average.

        Returns:
            Tensors by name; none without an average.
        """
        if not self.weights:
            return {}
        named = {f"{_PREFIX}{name}": value for name, value in self.weights.items()}
        return {_STEPS: torch.tensor(self.steps), **named}

    @torch.no_grad()
    def load_state(self, tensors: dict[str, Tensor]) -> None:
        """Resume the average of a checkpoint.

        Where it has none, as those of runs without an average, the average begins at the weights
        that the network has.

        Args:
            tensors: All tensors of the checkpoint by name.
        """
        if _STEPS not in tensors:
            self.steps = 0
            self.begin_if_new()
            return
        self.steps = int(tensors[_STEPS])
        for name, value in self.weights.items():
            value.copy_(tensors[f"{_PREFIX}{name}"])

    @torch.no_grad()
    def add_step(self) -> None:
        """Add the weights that a step has left."""
        if not self.weights:
            return
        kept = min(self.decay, (1 + self.steps) / (10 + self.steps))
        torch._foreach_lerp_(list(self.weights.values()), list(self._trained.values()), 1 - kept)
        self.steps += 1

    @contextlib.contextmanager
    def in_network(self) -> Iterator[None]:
        """Let the network have the average, and its own weights again afterwards.

        The weights stay where they are in memory, and no second copy of all of them is needed.

        Yields:
            Nothing.
        """
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for name, weight in self._trained.items():
            held = weight.clone()
            weight.copy_(self.weights[name])
            self.weights[name].copy_(held)
