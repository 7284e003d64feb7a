"""The check of values of a plan: each by the declaration of its key, and all of them together."""

from __future__ import annotations

import difflib
import sys
from typing import Any

from samnet.core.errors import UserError
from samnet.core.records import convert
from samnet.plan.backbones import BACKBONES
from samnet.plan.configuration import PLAN_KEYS, Configuration, IntensityWindow

INTENSITY_SCHEMES = ("fixed", "percentiles", "slice_range")
# How many image channels a layout takes; layouts that are not listed take any number.
LAYOUT_CHANNELS = {"neighbours": 1, "repeat": 1, "pair_mean": 2, "as_is": 3}


def check_value(key: str, value: Any, where: str) -> Any:
    """Check a value of a key.

    Args:
        key: The key.
        value: The value as JSON has it, or in its own type.
        where: What to call the place in messages.

    Returns:
        The value in its own type.

    Raises:
        UserError: The key is unknown, or the value has the wrong type or is not allowed.
    """
    declared = PLAN_KEYS.get(key)
    if declared is None:
        similar = difflib.get_close_matches(key, PLAN_KEYS, 1)
        hint = f"did you mean {similar[0]!r}?" if similar else f"known are {', '.join(PLAN_KEYS)}"
        raise UserError(f"{where}: unknown key {key!r}; {hint}")
    converted = convert(declared.kind, value, f"{where}: {key}")
    declared.check(converted, where)
    return converted


def build_configuration(values: dict[str, Any], num_channels: int, where: str) -> Configuration:
    """Build a checked configuration.

    Args:
        values: A value for every key.
        num_channels: Number of image channels of the data set.
        where: What to call the place in messages.

    Returns:
        The configuration.

    Raises:
        UserError: As `check_value`; or a key is missing, or values contradict each other.
    """
    checked = {key: check_value(key, value, where) for key, value in values.items()}
    missing = [key for key in PLAN_KEYS if key not in checked]
    if missing:
        raise UserError(f"{where}: the key {missing[0]!r} is missing")
    configuration = Configuration(**checked)
    _check_channels(configuration, num_channels, where)
    for window in configuration.intensity:
        _check_window(window, where)
    if configuration.slicing_axis not in configuration.views:
        raise UserError(
            f"{where}: views {list(configuration.views)} lack the slicing_axis "
            f"{configuration.slicing_axis}"
        )
    has_weights = BACKBONES[configuration.backbone].has_weights
    if configuration.initial_weights == "pretrained" and not has_weights:
        raise UserError(
            f"{where}: the backbone {configuration.backbone} has no pre-trained weights; use random"
        )
    if configuration.depth > 1 and configuration.encoder_tuning == "frozen":
        raise UserError(
            f"{where}: depth is {configuration.depth} with a frozen encoder, whose embeddings are "
            "those of single slices; use depth 1, or encoder_tuning lora or full"
        )
    if configuration.structure_copying and not configuration.copied_labels:
        raise UserError(
            f"{where}: structure_copying is {configuration.structure_copying:g}, but copied_labels "
            "names no label; add for example copied_labels=[1], or take structure_copying 0"
        )
    return configuration


def _check_channels(configuration: Configuration, num_channels: int, where: str) -> None:
    if len(configuration.intensity) != num_channels:
        raise UserError(
            f"{where}: intensity has {len(configuration.intensity)} windows for "
            f"{num_channels} channels"
        )
    expected = LAYOUT_CHANNELS.get(configuration.channel_layout, num_channels)
    if num_channels != expected:
        raise UserError(
            f"{where}: channel_layout {configuration.channel_layout!r} needs {expected} "
            f"channel(s), the data set has {num_channels}"
        )


def _check_window(window: IntensityWindow, where: str) -> None:
    if window.scheme not in INTENSITY_SCHEMES:
        raise UserError(
            f"{where}: intensity has the scheme {window.scheme!r}; possible are "
            f"{', '.join(INTENSITY_SCHEMES)}"
        )
    are_percentiles = window.scheme == "percentiles"
    largest = sys.float_info.max  # neither NaN nor infinity lies within these limits
    lowest, highest = (0.0, 100.0) if are_percentiles else (-largest, largest)
    if not lowest <= window.lower < window.upper <= highest:
        span = " from 0 to 100" if are_percentiles else ""
        raise UserError(
            f"{where}: intensity goes from {window.lower:g} to {window.upper:g}; lower has to be "
            f"below upper{span}"
        )
