"""Starting from another model's weights: what fits is taken over, what does not is listed."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

from torch import Tensor

from samnet.models.checkpoints import resize_position_table
from samnet.models.network import SegmentationNetwork

log = logging.getLogger(__name__)
_SHOWN = 8


@dataclass(frozen=True)
class Transfer:
    """What became of another model's weights.

    loaded: names that were taken over. left_out: name -> why it was not.
    untouched: names of this network's own weights that nothing was found for.
    """

    loaded: list[str] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    untouched: list[str] = field(default_factory=list)

    def report(self) -> str:
        """For the log of a training: counts, and the first names of what does not fit."""
        lines = [
            f"{len(self.loaded)} weights taken over, {len(self.left_out)} left out, {len(self.untouched)} new"
        ]
        lines += [
            f"  left out: {name}: {reason}" for name, reason in list(self.left_out.items())[:_SHOWN]
        ]
        lines += [f"  new: {name}" for name in self.untouched[:_SHOWN]]
        hidden = max(0, len(self.left_out) - _SHOWN) + max(0, len(self.untouched) - _SHOWN)
        return "\n".join([*lines, f"  and {hidden} more"] if hidden else lines)


def transfer_weights(network: SegmentationNetwork, weights: dict[str, Tensor]) -> Transfer:
    """Take over an `adapter()` of another model, with other classes, channels, head or input size, where it fits.

    Only what this network trains, and so saves, is replaced: its frozen part stays the base that its own adapter needs.
    The encoder's position tables are resized. Of parts that depend on the classes, what has the same shape is taken
    over too: an output's weights are a start for another class's.
    """
    own = network.adapter()
    everything = network.state_dict()
    fitting: dict[str, Tensor] = {}
    left_out: dict[str, str] = {}
    for name, value in weights.items():
        if name not in own:
            left_out[name] = (
                "is frozen here" if name in everything else "this network has no such weight"
            )
            continue
        wanted = own[name]
        value = resize_position_table(name.removeprefix("encoder."), value, wanted.shape)
        if value.shape == wanted.shape:
            fitting[name] = value.to(wanted)
        else:
            left_out[name] = f"has shape {tuple(value.shape)}, here it is {tuple(wanted.shape)}"
    network.load_state_dict(fitting, strict=False)
    return Transfer(sorted(fitting), left_out, sorted(set(own) - set(fitting)))
