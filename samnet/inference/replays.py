"""What networks make of full batches, without launch overhead on a CUDA device."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass

import torch
from torch import Tensor

from samnet.models.cuda_graph import Record, Replay, record_graph, try_to_record

Network = Callable[[Tensor], Tensor]
# Batches that are computed in the ordinary way before a recording: kernels choose their algorithms
# in them, and a recording takes about as long as one of them. Few volumes have more of them.
WARM_UP_BATCHES = 2


class NetworkReplays:
    """Records what networks do with a full batch as CUDA graphs, and replays them.

    It holds for all volumes that the same networks predict. Other batches are computed as usual,
    and so are all on other devices, where recording fails, and once memory has run out.
    """

    def __init__(self, device: torch.device, record: Record | None = None) -> None:
        """Begin without a recording.

        Args:
            device: Where the networks are.
            record: Returns a function that repeats some work; None for `record_graph` on a CUDA
                device, and for no recording elsewhere.
        """
        if record is None and device.type == "cuda":
            record = record_graph
        self._record = record
        self._num_computed: dict[Hashable, int] = {}
        self._recorded: dict[Hashable, _RecordedNetwork] = {}

    @property
    def is_recording(self) -> bool:
        """Whether full batches are recorded and replayed."""
        return self._record is not None

    def compute(self, name: Hashable, network: Network, inputs: Tensor) -> Tensor:
        """Compute what a network makes of a full batch.

        Args:
            name: Tells the networks apart.
            network: The network, with whatever follows it. It neither waits for the device nor
                depends on anything but its inputs.
            inputs: The batch, on the device.

        Returns:
            What the network returns.
        """
        if self._record is None:
            return network(inputs)
        key = (name, inputs.shape, inputs.dtype)
        if key not in self._recorded:
            count = self._num_computed.get(key, 0)
            self._num_computed[key] = count + 1
            if count < WARM_UP_BATCHES:
                return network(inputs)
            recorded = _record(self._record, network, inputs)
            if recorded is None:
                self.stop()
                return network(inputs)
            self._recorded[key] = recorded
        return self._recorded[key].compute(inputs)

    def stop(self) -> None:
        """Release the memory of all recordings, and record nothing any more."""
        self._record = None
        self._recorded.clear()


@dataclass(frozen=True)
class _RecordedNetwork:
    """A network on fixed buffers. It holds neither the network nor what the network belongs to."""

    inputs: Tensor
    outputs: list[Tensor]  # the one tensor that a replay writes to
    replay: Replay

    def compute(self, inputs: Tensor) -> Tensor:
        """Replay the network with a batch."""
        self.inputs.copy_(inputs)
        self.replay()
        return self.outputs[0].clone()  # the next replay writes to the same memory


def _record(record: Record, network: Network, inputs: Tensor) -> _RecordedNetwork | None:
    """Record a network for batches of a form; None where this fails."""
    fixed = inputs.clone()
    outputs: list[Tensor] = []

    def work() -> None:
        outputs[:] = [network(fixed)]

    replay = try_to_record(record, work, "networks")
    return None if replay is None else _RecordedNetwork(fixed, outputs, replay)
