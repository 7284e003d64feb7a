"""Sums over the maps of a case, added up while its slices are predicted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor

from samnet.confidence.signals import MapSums
from samnet.inference.outputs import Outputs


class MapCollector:
    """Adds up what `MapSums` holds, over all views, slices and tiles of a case.

    What several tiles show counts several times. Where memory runs out, slices are predicted again:
    sums count from when they are kept.
    """

    def __init__(self) -> None:
        """Begin with nothing."""
        self._kept: list[Tensor] = []
        self._pending: list[Tensor] = []
        self._num_mirrors = 1

    def observe(
        self, predictions: Iterable[Tensor], flips: Sequence[Sequence[int]], outputs: Outputs
    ) -> Iterator[Tensor]:
        """Yield the predictions of some inputs, and add up their sums.

        Args:
            predictions: For each network in turn, probabilities `(F * B, K, h, w)` of B inputs in F
                mirrors, one mirror after the other.
            flips: The image dimensions that each mirror has flipped; none for the first.
            outputs: What the K outputs stand for.

        Yields:
            The same predictions.
        """
        self._num_mirrors = len(flips)
        rows: list[Tensor] = []
        overall: Tensor | None = None
        for prediction in predictions:
            mean = _mean_of_mirrors(prediction, flips)
            inside, inside_total = outputs.decided_sums(mean)
            sums = (mean.sum((0, 2, 3)), _squares(mean), _squares(prediction), inside, inside_total)
            rows.append(torch.stack(sums))
            overall = mean if overall is None else overall + mean
            yield prediction
        assert overall is not None
        # The mean over networks takes a row of its own, in the place of a network's members.
        last = torch.zeros_like(rows[0])
        last[0] = _squares(overall / len(rows))
        self._pending.append(torch.stack([*rows, last])[..., outputs.first_foreground :])

    def discard(self) -> None:
        """Forget what was added since sums were last kept."""
        self._pending.clear()

    def keep(self) -> None:
        """Let what was added since then count."""
        self._kept += self._pending
        self._pending.clear()

    def sums(self) -> MapSums:
        """Return the sums of everything that was kept."""
        # Added up on the CPU, because not every device has double precision.
        every = torch.stack(self._kept).cpu().double().sum(0).numpy()
        total, squares, member_squares, inside, inside_total = every[:-1].swapaxes(0, 1)
        return MapSums(
            total=total,
            squares=squares,
            member_squares=member_squares,
            inside=inside,
            inside_total=inside_total,
            overall_squares=every[-1, 0],
            num_mirrors=self._num_mirrors,
        )


def _mean_of_mirrors(prediction: Tensor, flips: Sequence[Sequence[int]]) -> Tensor:
    parts = prediction.split(len(prediction) // len(flips))
    total = parts[0]
    for part, flip in zip(parts[1:], flips[1:], strict=True):
        total = total + part.flip(tuple(flip))
    return total / len(flips)


def _squares(values: Tensor) -> Tensor:
    """Return the sum of the squares `(K,)` of maps `(B, K, h, w)`."""
    return torch.linalg.vector_norm(values, dim=(0, 2, 3)).square()
