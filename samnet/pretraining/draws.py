"""Random numbers of one batch of scenes, by a few integers alone."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

_ROW = 2**18  # numbers that are drawn for `windows`


class Draws:
    """The generators of one batch.

    What decides how a batch is computed (numbers of shapes, sizes, probabilities) is drawn on the
    CPU, so that a GPU is never waited for. The many values of fields and noise are drawn where they
    are used. So a batch is the same for the same seed on one kind of device.

    Attributes:
        device: Where `values` and `shares` are drawn.
        host: The generator on the CPU.
    """

    def __init__(self, key: Sequence[int], device: torch.device) -> None:
        """Start the generators.

        Args:
            key: What the numbers depend on, such as a seed and the number of the batch.
            device: Where fields and noise are needed.
        """
        self.device = device
        state = np.random.SeedSequence(key).generate_state(2)
        self._row: Tensor | None = None
        self.host = torch.Generator().manual_seed(int(state[0]))
        self._there = torch.Generator(device).manual_seed(int(state[1]))

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """Draw uniform numbers on the CPU.

        Args:
            low: Lower bound.
            high: Upper bound.
            shape: Shape of the result.

        Returns:
            The numbers, float32.
        """
        return torch.rand(shape, generator=self.host) * (high - low) + low

    def log_uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """Draw numbers on the CPU whose logarithm is uniform.

        Args:
            low: Lower bound.
            high: Upper bound.
            shape: Shape of the result.

        Returns:
            The numbers, float32.
        """
        return low * (high / low) ** torch.rand(shape, generator=self.host)

    def normal(self, *shape: int) -> Tensor:
        """Draw standard normal numbers on the CPU.

        Args:
            shape: Shape of the result.

        Returns:
            The numbers, float32.
        """
        return torch.randn(shape, generator=self.host)

    def integers(self, low: int, end: int, *shape: int) -> Tensor:
        """Draw integers on the CPU.

        Args:
            low: Smallest value.
            end: The value after the largest.
            shape: Shape of the result.

        Returns:
            The integers, int64.
        """
        return torch.randint(low, end, shape, generator=self.host)

    def chance(self, probability: float, *shape: int) -> Tensor:
        """Draw on the CPU whether something happens.

        Args:
            probability: How likely it is, 0 to 1.
            shape: Shape of the result.

        Returns:
            Booleans.
        """
        return torch.rand(shape, generator=self.host) < probability

    def choice(self, probabilities: Sequence[float], *shape: int) -> Tensor:
        """Draw on the CPU which of several things happens.

        Args:
            probabilities: How likely each is; the sum is 1.
            shape: Shape of the result.

        Returns:
            Indices into `probabilities`, int64.
        """
        edges = torch.tensor(probabilities).cumsum(0)[:-1]
        return torch.bucketize(torch.rand(shape, generator=self.host), edges, right=True)

    def values(self, *shape: int) -> Tensor:
        """Draw standard normal numbers on the device.

        Args:
            shape: Shape of the result.

        Returns:
            The numbers, float32.
        """
        return torch.randn(shape, generator=self._there, device=self.device)

    def shares(self, *shape: int) -> Tensor:
        """Draw uniform numbers from 0 to 1 on the device.

        Args:
            shape: Shape of the result.

        Returns:
            The numbers, float32.
        """
        return torch.rand(shape, generator=self._there, device=self.device)

    def windows(self, count: int, *shape: int) -> Tensor:
        """Cut normal numbers out of one long row of them, which is drawn once.

        To draw them takes many times longer on a CPU. The windows begin at random places, so that
        two that overlap hardly ever do so in a way that could be seen.

        Args:
            count: Number of windows.
            shape: Shape of each.

        Returns:
            The numbers `(count, *shape)`, float32.
        """
        length = math.prod(shape)
        if not count:
            return torch.empty(0, *shape, device=self.device)
        if self._row is None or len(self._row) < 2 * length:
            self._row = self.values(max(_ROW, 2 * length))
        starts = self.integers(0, len(self._row) - length + 1, count).tolist()
        parts = [self._row[start : start + length] for start in starts]
        return torch.stack(parts).view(count, *shape)
