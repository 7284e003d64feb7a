"""What a training run writes of its weights, by the process that may write it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from samnet.models.model_folder import BEST, FINAL, PREVIOUS, RunFolder
from samnet.models.network import SegmentationNetwork, load_weights, save_weights
from samnet.training.checkpoint import Kept, Progress, save_training


class RunFiles:
    """Writes the checkpoints of a run.

    Attributes:
        folder: The folder of the run.
        is_writer: Whether this process writes; another one that trains with it may be the one.
        before_writing: Called by the writer before anything is written. What it raises ends the
            training.
    """

    def __init__(
        self, folder: RunFolder, is_writer: bool, before_writing: Callable[[], None]
    ) -> None:
        """Write nothing yet.

        Args:
            folder: The folder of the run.
            is_writer: Whether this process writes.
            before_writing: Called by the writer before anything is written.
        """
        self.folder, self.is_writer, self.before_writing = folder, is_writer, before_writing

    def check(self) -> None:
        """Call `before_writing`, if this process writes."""
        if self.is_writer:
            self.before_writing()

    def save_state(
        self,
        network: SegmentationNetwork,
        optimizer: torch.optim.Optimizer,
        progress: Progress,
        others: Sequence[Kept] = (),
    ) -> None:
        """Write the state from which the run is resumed.

        Args:
            network: The network.
            optimizer: Its optimiser.
            progress: How far the run is.
            others: What is kept in addition, such as the average of the weights.
        """
        self.check()
        if self.is_writer:
            save_training(self.folder, network, optimizer, progress, others)

    def save_best(self, network: SegmentationNetwork) -> None:
        """Write the weights as those of the best validation so far.

        Args:
            network: The network.
        """
        self.check()
        if self.is_writer:
            save_weights(network.adapter(), self.folder.checkpoint(BEST))

    def save_final(self, network: SegmentationNetwork, has_best: bool) -> None:
        """Write the final weights, and delete what only an unfinished run needs.

        Args:
            network: The network.
            has_best: Whether those of the best validation are the final ones, where they are there.
        """
        self.check()
        if not self.is_writer:
            return
        best = self.folder.checkpoint(BEST)
        final = load_weights(best) if has_best and best.is_file() else network.adapter()
        save_weights(final, self.folder.checkpoint(FINAL))
        self.folder.checkpoint(PREVIOUS).unlink(missing_ok=True)
