"""A training step as planning knows it: all that its memory depends on."""

from __future__ import annotations

import json
from dataclasses import dataclass

from samnet.core.records import to_json
from samnet.plan.configuration import Configuration, keys_with
from samnet.plan.plan_key import Role


@dataclass(frozen=True)
class PlannedStep:
    """A training step of a configuration on the data of a data set.

    Attributes:
        configuration: The configuration to train. Its `precision` is the one that the device
            computes in.
        num_channels: Number of image channels of the data set.
        num_outputs: Classes with the background, or regions.
        has_regions: Whether the outputs are regions.
        device: `cpu`, `cuda` or `mps`.
    """

    configuration: Configuration
    num_channels: int
    num_outputs: int
    has_regions: bool
    device: str

    @property
    def memory_key(self) -> str:
        """A text that differs between any two steps that may take different memory."""
        values = {key: to_json(getattr(self.configuration, key)) for key in keys_with(Role.MEMORY)}
        kind = "regions" if self.has_regions else "classes"
        return json.dumps([self.device, self.num_channels, self.num_outputs, kind, values])


def rows_of_step(configuration: Configuration) -> int:
    """Return the rows of a batch: labelled slices or stacks, and slices without labels.

    Args:
        configuration: The values of a plan.
    """
    return configuration.batch_size + unlabelled_rows(configuration)


def unlabelled_rows(configuration: Configuration) -> int:
    """Return the slices without labels in a step; 0 where they have no weight.

    Args:
        configuration: The values of a plan.
    """
    if not configuration.unlabelled_weight:
        return 0
    return max(1, round(configuration.unlabelled_share * configuration.batch_size))
