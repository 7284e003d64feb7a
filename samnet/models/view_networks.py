"""A network for each view of a volume.

One network that sees slices across several axes has to learn each of them with the same few
weights. Where the plan says so, each axis has a network of its own; they have the same form. Their
probabilities are averaged as those of one network are.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from samnet.core.errors import UserError
from samnet.models.network import SegmentationNetwork, build_network
from samnet.plan.configuration import OWN, Configuration

PREFIX = "by_view."  # of the names of weights, with the axis behind it


class ViewNetworks(nn.Module):
    """The networks of all views. It is trained, stored and loaded as one.

    Attributes:
        by_view: Axis, as text -> the network of the slices across it.
        stride: Input pixels for each output pixel, in all of them.
    """

    def __init__(self, networks: Mapping[int, SegmentationNetwork]) -> None:
        """Put networks together.

        Args:
            networks: Axis -> the network of the slices across it.
        """
        super().__init__()
        self.by_view = nn.ModuleDict({str(axis): each for axis, each in networks.items()})
        self.stride = next(iter(networks.values())).stride

    def of_view(self, axis: int) -> SegmentationNetwork:
        """Return the network that sees the slices across an axis.

        Args:
            axis: The axis.
        """
        network = self.by_view[str(axis)]
        assert isinstance(network, SegmentationNetwork)
        return network

    @property
    def encoders(self) -> list[nn.Module]:
        """The image encoders of all views."""
        return [self.of_view(int(axis)).encoder for axis in self.by_view]

    def adapter(self) -> dict[str, Tensor]:
        """Return the weights in which the networks differ from their pre-trained start.

        Returns:
            Tensors by name, see `SegmentationNetwork.adapter`, with the view before it.

        Raises:
            SamnetError: The adapter would hold weights that LoRA is merged into.
        """
        return {
            f"{PREFIX}{axis}.{name}": value
            for axis in self.by_view
            for name, value in self.of_view(int(axis)).adapter().items()
        }

    def load_adapter(self, weights: dict[str, Tensor], where: str) -> None:
        """Fill the networks from an `adapter()`.

        Args:
            weights: Tensors by name.
            where: What to call the weights in messages, such as the name of their file.

        Raises:
            UserError: Names or shapes differ; the message names the first that does.
        """
        parts: dict[str, dict[str, Tensor]] = {axis: {} for axis in self.by_view}
        for name, value in weights.items():
            axis, _, rest = name.removeprefix(PREFIX).partition(".")
            if not name.startswith(PREFIX) or axis not in parts:
                raise UserError(f"{where}: does not fit the plan next to it; {name} is unknown")
            parts[axis][rest] = value
        for axis, part in parts.items():
            self.of_view(int(axis)).load_adapter(part, f"{where}, view {axis}")


AnyNetwork = SegmentationNetwork | ViewNetworks


def build_networks(
    configuration: Configuration,
    num_channels: int,
    num_outputs: int,
    *,
    load_pretrained: bool = True,
    base_file: Path | None = None,
) -> AnyNetwork:
    """Assemble the network of a configuration, or those of its views.

    Args:
        configuration: As for `build_network`.
        num_channels: As for `build_network`.
        num_outputs: As for `build_network`.
        load_pretrained: As for `build_network`.
        base_file: As for `build_network`.

    Returns:
        One network that sees all views; with `view_weights` as `own` one for each.

    Raises:
        UserError: Pre-trained weights are needed and are not on this machine.
    """

    def build() -> SegmentationNetwork:
        return build_network(
            configuration,
            num_channels,
            num_outputs,
            load_pretrained=load_pretrained,
            base_file=base_file,
        )

    if configuration.view_weights != OWN:
        return build()
    return ViewNetworks({axis: build() for axis in configuration.views})


def axis_of_step(configuration: Configuration, step: int) -> int | None:
    """Return the view that a training step is about.

    Args:
        configuration: The configuration.
        step: The number of the step, from 0.

    Returns:
        The axis of all its slices, each view in turn; None where a step has slices of all views.
    """
    if configuration.view_weights != OWN:
        return None
    return configuration.views[step % len(configuration.views)]


def spread_over_views(network: AnyNetwork, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Give the weights of a network that sees all views to those of each view.

    Args:
        network: The network to fill.
        weights: Tensors by name, of another model.

    Returns:
        The tensors by the names that they have in `network`; as they are where it has no networks
        of its own for each view, or they have such names.
    """
    if not isinstance(network, ViewNetworks) or any(name.startswith(PREFIX) for name in weights):
        return weights
    return {
        f"{PREFIX}{axis}.{name}": value
        for axis in network.by_view
        for name, value in weights.items()
    }
