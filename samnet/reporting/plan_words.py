"""The decisions of a plan in plain words, with their reasons; the important ones first."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from samnet.core.records import to_json
from samnet.plan.configuration import PLAN_KEYS
from samnet.plan.plan import Plan
from samnet.training.steps_done import show_steps

_AXES = ("head-feet", "front-back", "left-right")
_AXES_2D = ("", "top-bottom", "left-right")
_PLANES = (
    "axial slices (across head-feet)",
    "coronal slices (across front-back)",
    "sagittal slices (across left-right)",
)
_BACKBONES = {
    "small": "samnet's small encoder, pre-trained on synthetic images",
    "vit_b": "SAM's encoder ViT-B",
    "vit_l": "SAM's encoder ViT-L",
    "vit_h": "SAM's encoder ViT-H",
}
_HEADS = {
    "mask_decoder": "SAM's mask decoder",
    "mask_decoder_lora": "SAM's mask decoder, adapted by LoRA",
    "mask_decoder_full": "SAM's mask decoder, with layers that enlarge to the input's resolution",
    "vit": "transformer blocks",
    "cnn": "convolutions",
    "cnn_slim": "a few convolutions",
    "linear": "a linear layer",
    "upsampling": "layers that enlarge the encoder's map step by step",
    "upsampling_quarter": "layers that enlarge the encoder's map to a quarter of the input",
}
_LAYOUTS = {
    "neighbours": "each slice is seen with its two neighbours",
    "repeat": "each slice is seen alone",
    "pair_mean": "two channels and their mean",
    "as_is": "its three channels",
    "stem": "all channels, through an additional first layer",
}
_TUNINGS = {
    "frozen": "the encoder stays as it was pre-trained; only the part after it learns",
    "lora": "the encoder is adapted by small additions to its layers (LoRA)",
    "full": "all of the encoder is trained",
}
_LINK = re.compile(r"\s*\(\[[^\]]*\]\([^)]*\)\)")  # to another page of the documentation


@dataclass(frozen=True)
class PlannedValue:
    """One decision of a plan.

    Attributes:
        key: What the plan file calls it.
        title: What it is.
        value: What was decided.
        reason: Why.
    """

    key: str
    title: str
    value: str
    reason: str


def _plain(value: Any) -> str:
    content = to_json(value)
    if isinstance(content, bool):
        return "yes" if content else "no"
    if isinstance(content, list):
        return ", ".join(map(_plain, content)) or "none"
    if isinstance(content, dict):
        return f"{content.get('scheme')} {content.get('lower')} to {content.get('upper')}"
    return f"{content:,}" if isinstance(content, int) else str(content)


def _slices(value: Any) -> str:
    axes = [value] if isinstance(value, int) else value
    return " and ".join(_PLANES[axis] for axis in axes)


def _mirrors(value: Any) -> str:
    return " and ".join(_AXES[axis] for axis in value) or "none"


def _mirrors_2d(value: Any) -> str:
    return " and ".join(_AXES_2D[axis] for axis in value) or "none"


def _intensity(value: Any) -> str:
    windows = [_plain(window) for window in value]
    return "; ".join(windows)


# The decisions that a reader should know -> their titles, and how their values are written.
_IMPORTANT: dict[str, tuple[str, Callable[[Any], str]]] = {
    "backbone": ("Network that reads the image", lambda value: _BACKBONES.get(value, value)),
    "encoder_tuning": ("What of it is trained", lambda value: _TUNINGS.get(value, value)),
    "head": ("Part that draws the structures", lambda value: _HEADS.get(value, value)),
    "views": ("Slices that are read", _slices),
    "channel_layout": ("What a slice is seen with", lambda value: _LAYOUTS.get(value, value)),
    "in_plane_spacing": ("Size of a pixel in mm", _plain),
    "input_size": ("Width of the network's input in pixels", _plain),
    "zoom": ("Enlargement of a slice", _plain),
    "intensity": ("Range of intensities", _intensity),
    "mirror_axes": ("Mirroring", _mirrors),
    "steps": ("Training steps", _plain),
    "batch_size": ("Slices in a step", _plain),
    "learning_rate": ("Highest learning rate", _plain),
}


def important_values(
    plan: Plan, *, is_2d: bool, steps_done: Sequence[int] = ()
) -> list[PlannedValue]:
    """Return the decisions that a reader should know.

    Args:
        plan: The plan of a single configuration.
        is_2d: Whether the data are 2D images, whose pixels have no size.
        steps_done: The training steps that each run has done, where they are known.
    """
    decisions = plan.configuration_decisions(plan.single_name)
    found = []
    for key, (title, show) in _IMPORTANT.items():
        if key not in decisions or (is_2d and key in ("views", "in_plane_spacing")):
            continue
        decision = decisions[key]
        if is_2d:
            title = title.replace("Slices", "Images").replace("a slice", "an image")
            show = _mirrors_2d if key == "mirror_axes" else show
        value = show(decision.value)
        if key == "steps":
            value = show_steps(steps_done, decision.value)
        found.append(PlannedValue(key, title, value, decision.because))
    return found


def other_values(plan: Plan) -> list[PlannedValue]:
    """Return all other decisions, in the order of the documentation.

    Args:
        plan: The plan of a single configuration.
    """
    decisions = plan.configuration_decisions(plan.single_name)
    found = []
    for key, decision in decisions.items():
        if key not in _IMPORTANT:
            meaning = _LINK.sub("", PLAN_KEYS[key].meaning).replace("`", "")
            found.append(PlannedValue(key, meaning, _plain(decision.value), decision.because))
    return found
