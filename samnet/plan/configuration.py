"""Everything that defines one training, as plain values: what a plan decides, without the reasons."""

from __future__ import annotations

import difflib
import re
import sys
from dataclasses import dataclass
from typing import Any, get_type_hints

from samnet.core.errors import UserError
from samnet.core.records import convert
from samnet.plan.backbones import BACKBONES, PATCH


@dataclass(frozen=True)
class IntensityWindow:
    """How one channel becomes numbers from 0 to 1.

    scheme: `fixed`: clip to [lower, upper] in the image's own units; `percentiles`: lower and upper are percentiles of
        the image's own non-zero voxels, taken anew for every case; `slice_range`: from the lowest to the highest value
        of each slice (lower and upper, 0 and 100, change nothing).
    """

    scheme: str
    lower: float
    upper: float


@dataclass(frozen=True)
class Configuration:
    """The values of one configuration; axes are canonical: 0 = Z (to the head), 1 = Y (to the front), 2 = X (right).

    slicing_axis: the axis the slices lie across; views: all axes a network sees slices of, probabilities averaged.
    in_plane_spacing: mm of a pixel before enlarging. zoom: pixels of the network's input for each such pixel.
    input_size: edge of the network's square input in pixels. tile_overlap: their overlap where a slice needs several.
    channel_layout: `neighbours`, `repeat`, `pair_mean`, `as_is` or `stem`: how the channels fill SAM's three.
    intensity: one window for each channel. pixel_statistics: `sam` or `none`.
    mirror_axes: axes along which an image may be mirrored, in training and (mirror_at_prediction) prediction.
    initial_weights: `pretrained` (SAM's released ones), `random`, or a .pth or .safetensors file of the same shape: its
        path, or its name in the checkpoints folder. encoder_tuning: `full`, `lora` or `frozen`.
    lora_blocks: `all`, `last_half` or `last_quarter` of the encoder's blocks, or numbers from 0 with commas.
    steps: optimiser steps; steps_per_epoch: between two validations; patience: epochs without a better one before the
        training stops early, 0 for never.
    optimizer: `adamw` or `adam`. learning_rate: its peak; warmup_steps: linear rise to it. schedule: afterwards
        `polynomial`: `(1 - decay_share p)^decay_power` with p the share of the steps after the warm-up that is gone;
        or `plateau`: a tenth whenever the training loss has not fallen for ten epochs.
    loss: `samed`: cross-entropy and Dice over all classes with squared denominators; `autosam`: cross-entropy and soft
        Dice over the foreground of the whole batch; both weighted by cross_entropy_weight and dice_weight.
    lora_scale: factor of the low-rank updates, alpha / rank in the words of the LoRA paper (arXiv 2106.09685).
    gradient_clip: largest norm of all gradients together, 0 for no limit.
    foreground_share: share of training slices chosen so that they show a class, every class equally often.
    """

    slicing_axis: int
    views: tuple[int, ...]
    in_plane_spacing: float
    channel_layout: str
    intensity: tuple[IntensityWindow, ...]
    mirror_axes: tuple[int, ...]
    backbone: str
    initial_weights: str
    encoder_tuning: str
    lora_rank: int
    lora_scale: float
    lora_targets: tuple[str, ...]
    lora_blocks: str
    input_size: int
    zoom: float
    head: str
    pixel_statistics: str
    batch_size: int
    precision: str
    gradient_checkpointing: bool
    steps: int
    steps_per_epoch: int
    patience: int
    learning_rate: float
    warmup_steps: int
    weight_decay: float
    decay_power: float
    decay_share: float
    optimizer: str
    schedule: str
    loss: str
    gradient_clip: float
    cross_entropy_weight: float
    dice_weight: float
    foreground_share: float
    augmentation: str
    tile_overlap: float
    mirror_at_prediction: bool


SCHEMES = ("fixed", "percentiles", "slice_range")
CHOICES: dict[str, tuple[str, ...]] = {
    "channel_layout": ("neighbours", "repeat", "pair_mean", "as_is", "stem"),
    "backbone": tuple(BACKBONES),
    "encoder_tuning": ("full", "lora", "frozen"),
    "lora_targets": ("q", "k", "v", "projection", "mlp"),
    "head": (
        "mask_decoder",
        "mask_decoder_lora",
        "vit",
        "cnn",
        "cnn_slim",
        "linear",
        "upsampling",
        "upsampling_quarter",
    ),
    "pixel_statistics": ("sam", "none"),
    "precision": ("float32", "bfloat16"),
    "optimizer": ("adamw", "adam"),
    "schedule": ("polynomial", "plateau"),
    "loss": ("samed", "autosam"),
    "augmentation": ("planned", "samed", "none"),
}
INITIAL_WEIGHTS = ("pretrained", "random")
WEIGHT_ENDINGS = (".pth", ".pt", ".safetensors")
BLOCK_GROUPS = ("all", "last_half", "last_quarter")
# (lowest, highest) allowed; None: open.
_RANGES: dict[str, tuple[float, float | None]] = {
    "slicing_axis": (0, 2),
    "in_plane_spacing": (1e-6, None),
    "lora_rank": (1, 1024),
    "input_size": (PATCH, 4096),
    "zoom": (1e-3, 1e3),
    "batch_size": (1, None),
    "steps": (1, None),
    "steps_per_epoch": (1, None),
    "patience": (0, None),
    "learning_rate": (1e-12, None),
    "warmup_steps": (0, None),
    "weight_decay": (0, None),
    "decay_power": (0, None),
    "decay_share": (0, 1),
    "lora_scale": (0, None),
    "gradient_clip": (0, None),
    "cross_entropy_weight": (0, None),
    "dice_weight": (0, None),
    "foreground_share": (0, 1),
    "tile_overlap": (0, 0.9),
}
_TYPES = get_type_hints(Configuration)
KEYS = tuple(_TYPES)


def check_value(key: str, value: Any, where: str) -> Any:
    """The value of a key in its right type, when it is allowed.

    Raises:
        UserError: the key is unknown, or the value has the wrong type or lies outside what is allowed.
    """
    if key not in KEYS:
        similar = difflib.get_close_matches(key, KEYS, 1)
        hint = f"did you mean {similar[0]!r}?" if similar else f"known are {', '.join(KEYS)}"
        raise UserError(f"{where}: unknown key {key!r}; {hint}")
    value = convert(_TYPES[key], value, f"{where}: {key}")
    if key in CHOICES:
        wrong = [
            entry
            for entry in (value if isinstance(value, tuple) else (value,))
            if entry not in CHOICES[key]
        ]
        if wrong:
            raise UserError(
                f"{where}: {key} is {wrong[0]!r}; possible are {', '.join(CHOICES[key])}"
            )
    if key in _RANGES:
        lowest, highest = _RANGES[key]
        if (
            not lowest <= value <= (sys.float_info.max if highest is None else highest)
        ):  # neither is NaN, nor infinity
            limits = (
                f"at least {lowest:g}" if highest is None else f"from {lowest:g} to {highest:g}"
            )
            raise UserError(f"{where}: {key} is {value}; it has to be {limits}")
    if key == "input_size" and value % PATCH:
        raise UserError(
            f"{where}: input_size is {value}; it has to be a multiple of {PATCH}, best of 224"
        )
    if (
        key == "initial_weights"
        and value not in INITIAL_WEIGHTS
        and not value.endswith(WEIGHT_ENDINGS)
    ):
        raise UserError(
            f"{where}: initial_weights is {value!r}; possible are {', '.join(INITIAL_WEIGHTS)}, or a file ending in "
            f"{' or '.join(WEIGHT_ENDINGS)}"
        )
    if (
        key == "lora_blocks"
        and value not in BLOCK_GROUPS
        and not re.fullmatch(r"\d+(,\d+)*", value)
    ):
        raise UserError(
            f"{where}: lora_blocks is {value!r}; write {', '.join(BLOCK_GROUPS)}, or numbers from 0 such as 2,5,8,11"
        )
    if key == "lora_targets" and not value:
        raise UserError(
            f"{where}: lora_targets is empty; it lists some of {', '.join(CHOICES[key])}"
        )
    if key in ("views", "mirror_axes") and (
        len(set(value)) < len(value) or not set(value) <= {0, 1, 2}
    ):
        raise UserError(
            f"{where}: {key} is {list(value)}; it lists some of the axes 0, 1, 2, each once"
        )
    return value


def build_configuration(values: dict[str, Any], num_channels: int, where: str) -> Configuration:
    """A checked configuration from values by key.

    Raises:
        UserError: as `check_value`; or a key is missing, or values contradict each other.
    """
    checked = {key: check_value(key, value, where) for key, value in values.items()}
    missing = [key for key in KEYS if key not in checked]
    if missing:
        raise UserError(f"{where}: the key {missing[0]!r} is missing")
    configuration = Configuration(**checked)
    if len(configuration.intensity) != num_channels:
        raise UserError(
            f"{where}: intensity has {len(configuration.intensity)} windows for {num_channels} channels"
        )
    if configuration.slicing_axis not in configuration.views:
        raise UserError(
            f"{where}: views {list(configuration.views)} lack the slicing_axis {configuration.slicing_axis}"
        )
    layout_channels = {"neighbours": (1,), "repeat": (1,), "pair_mean": (2,), "as_is": (3,)}
    fitting = layout_channels.get(configuration.channel_layout, (num_channels,))
    if num_channels not in fitting:
        raise UserError(
            f"{where}: channel_layout {configuration.channel_layout!r} needs {fitting[0]} channel(s), "
            f"the data set has {num_channels}"
        )
    for window in configuration.intensity:
        _check_window(window, where)
    if (
        configuration.initial_weights == "pretrained"
        and not BACKBONES[configuration.backbone].has_weights
    ):
        raise UserError(
            f"{where}: the backbone {configuration.backbone} has no pre-trained weights; use random"
        )
    return configuration


def _check_window(window: IntensityWindow, where: str) -> None:
    if window.scheme not in SCHEMES:
        raise UserError(
            f"{where}: intensity has the scheme {window.scheme!r}; possible are {', '.join(SCHEMES)}"
        )
    limits = (
        (0.0, 100.0)
        if window.scheme == "percentiles"
        else (-sys.float_info.max, sys.float_info.max)
    )
    if not limits[0] <= window.lower < window.upper <= limits[1]:
        span = " from 0 to 100" if window.scheme == "percentiles" else ""
        raise UserError(
            f"{where}: intensity goes from {window.lower:g} to {window.upper:g}; lower has to be below upper{span}"
        )
