"""Starts a network from another model's weights, and lists what fits and what does not."""

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
    """The outcome of copying another model's weights.

    Attributes:
        loaded: Names of the weights that were copied.
        left_out: Name of each weight that was not copied, with the reason.
        untouched: Names of this network's weights for which nothing was found.
    """

    loaded: list[str] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    untouched: list[str] = field(default_factory=list)

    def report(self) -> str:
        """Return a text for the log: the counts, and the first names of what does not fit."""
        lines = [
            f"{len(self.loaded)} weights taken over, {len(self.left_out)} left out, "
            f"{len(self.untouched)} new"
        ]
        for name, reason in list(self.left_out.items())[:_SHOWN]:
            lines.append(f"  left out: {name}: {reason}")
        for name in self.untouched[:_SHOWN]:
            lines.append(f"  new: {name}")
        hidden = max(0, len(self.left_out) - _SHOWN) + max(0, len(self.untouched) - _SHOWN)
        if hidden:
            lines.append(f"  and {hidden} more")
        return "\n".join(lines)


def transfer_weights(network: SegmentationNetwork, weights: dict[str, Tensor]) -> Transfer:
    """Copy the weights of another model's `adapter()` that fit a network.

    The other model may have other classes, channels, another head or another input size. Only
    weights that this network trains, and therefore saves, are replaced: the frozen part stays the
    base that its adapter needs. The encoder's position tables are resized. Parts that depend on the
    classes are copied too if they have the same shape: the weights of one class are a start for
    another.

    Args:
        network: The network to fill.
        weights: Tensors by name.

    Returns:
        The names that were copied, left out and not found.
    """
    own = network.adapter()
    every_name = set(network.state_dict())
    fitting: dict[str, Tensor] = {}
    left_out: dict[str, str] = {}
    for name, value in weights.items():
        if name not in own:
            is_frozen = name in every_name
            left_out[name] = "is frozen here" if is_frozen else "this network has no such weight"
            continue
        expected = own[name]
        resized = resize_position_table(name.removeprefix("encoder."), value, expected.shape)
        if resized.shape == expected.shape:
            fitting[name] = resized.to(expected)
        else:
            left_out[name] = f"has shape {tuple(resized.shape)}, here it is {tuple(expected.shape)}"
    network.load_state_dict(fitting, strict=False)
    return Transfer(sorted(fitting), left_out, sorted(set(own) - set(fitting)))
