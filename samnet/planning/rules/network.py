"""Encoder, adaptation, head, and the size of the network's input.

Every rule takes the `Facts` and returns the value and the reason.
"""

from __future__ import annotations

import numpy as np

from samnet.plan.backbones import BACKBONES, PATCH, WINDOW
from samnet.planning.memory import BACKBONES_BY_SIZE, INPUT_SIZES
from samnet.planning.rules.facts import Facts

TOKENS_PER_STRUCTURE = 2
HEAD_STRIDE = 4
MIN_OUTPUT_PIXELS = 3.0
ENLARGED = 3.0
MIN_ENLARGEMENT = 1.5
ALIKE = 1.3  # slices count as alike when nearly all are within this factor of the median
NARROW = 384
LARGE_GPU_GIB = 39  # a GPU sold with 40 GB reports less, an A100 39.5 GiB
STACK = 3
LORA_TARGETS = ("q", "k", "v", "projection", "mlp")


def backbone(facts: Facts) -> tuple[str, str]:
    """Take the small backbone on a CPU, ViT-B on a GPU, ViT-L on a large GPU.

    A smaller one where a training step does not fit at any input size.
    """
    machine = facts.machine
    if machine.device == "cpu":
        return "small", f"{machine}: SAM's encoders take seconds a slice on a CPU"
    wanted = "vit_b" if machine.memory < LARGE_GPU_GIB else "vit_l"
    if facts.level.smaller_backbones:
        position = BACKBONES_BY_SIZE.index(wanted) + facts.level.smaller_backbones
        return BACKBONES_BY_SIZE[position], f"with a larger one {facts.reason_for_less}"
    if wanted == "vit_b":
        return wanted, f"{machine}: the size of the backbone matters little (arXiv 2404.09957)"
    return wanted, f"{machine}: room and speed for ViT-L"


def initial_weights(facts: Facts) -> tuple[str, str]:
    """Start from released weights where there are any."""
    name = facts.values["backbone"]
    if BACKBONES[name].has_weights:
        return "pretrained", (
            f"{name} has released weights, and few labels teach little by themselves"
        )
    return "random", f"{name} has no pre-trained weights"


def encoder_tuning(facts: Facts) -> tuple[str, str]:
    """Adapt a pre-trained encoder with LoRA; train all of one that starts from random weights."""
    if facts.values["initial_weights"] == "random":
        return "full", (
            f"the {facts.values['backbone']} encoder starts from random weights: LoRA could not "
            "teach it to see"
        )
    if facts.level.frozen and facts.values.get("depth", 1) == 1:  # stacks need a trained encoder
        return "frozen", f"with LoRA {facts.reason_for_less}"
    return "lora", (
        "tuning encoder and decoder beats the decoder alone (arXiv 2404.09957), with a small "
        "adapter"
    )


def lora_rank(facts: Facts) -> tuple[int, str]:
    """Take 4 for SAM's encoders, more for a narrow one.

    The layers of a narrow encoder are smaller and further from the data.
    """
    if _is_small(facts):
        name = facts.values["backbone"]
        return 16, f"{name} is narrow, and was trained on synthetic images only"
    return 4, (
        "results are nearly flat between ranks 1 and 64 (arXiv 2502.00418); "
        f"{facts.labelled_slices} labelled slices"
    )


def lora_scale(facts: Facts) -> tuple[float, str]:
    """Add the updates unscaled."""
    return 1.0, "the updates are added unscaled, as in SAMed, whatever their rank"


def lora_targets(facts: Facts) -> tuple[tuple[str, ...], str]:
    """Adapt q and v, as SAMed; every layer of a narrow encoder."""
    if _is_small(facts):
        return LORA_TARGETS, f"every layer of {facts.values['backbone']}'s blocks, at little cost"
    return ("q", "v"), "SAMed's choice (arXiv 2304.13785)"


def _is_small(facts: Facts) -> bool:
    return BACKBONES[facts.values["backbone"]].width < NARROW


def lora_blocks(facts: Facts) -> tuple[str, str]:
    """Adapt all blocks; the last half or quarter where a training step does not fit.

    Late blocks alone are nearly as good (finetune-SAM, arXiv 2404.09957).
    """
    if facts.values["encoder_tuning"] != "lora" or facts.level.lora_blocks == "all":
        return "all", f"{facts.machine}: room for the gradients of every block"
    return facts.level.lora_blocks, f"with more blocks {facts.reason_for_less}"


def depth(facts: Facts) -> tuple[int, str]:
    """Show slices in stacks of `STACK` where structures have look-alikes within their slices.

    Their structures take up a small part of the volume, and they have views across all three axes,
    so their slices are close. There, a slice and its neighbours tell more than the slice alone.
    Elsewhere a step learns more from slices of many places than from neighbours that are nearly
    alike. Measured on one data set of each kind (docs/measurements.md).
    """
    if facts.values["encoder_tuning"] == "frozen":
        return 1, "a frozen encoder sees every slice by itself"
    if len(facts.values["views"]) == 1 or facts.position_identifies:
        return 1, "position tells structures apart (see views): slices of many places teach more"
    if facts.level.single_slices:
        return 1, f"with stacks of {STACK} {facts.reason_for_less}"
    return STACK, (
        "structures have look-alikes in single slices (see views): the slices next to them help"
    )


def depth_blocks(facts: Facts) -> tuple[str, str]:
    """Take the last half: each block with an adapter makes predictions encode another margin."""
    return "last_half", (
        "without effect at depth 1; above it, each such block lets a slice see one more on either "
        "side, which a prediction has to encode at the edges of its chunks"
    )


def depth_adapters(facts: Facts) -> tuple[int, str]:
    """Take one: a second one lets a slice see twice as many, all of which have to be encoded."""
    return 1, (
        "without effect at depth 1; above it, a second one in each block (as in MA-SAM, arXiv "
        "2309.08842) doubles the slices that a prediction encodes at the edges of its chunks"
    )


def input_size(facts: Facts) -> tuple[int, str]:
    """Take the smallest size of whole windows that shows a whole slice and small structures.

    The smallest class has to cover two tokens. Smaller where a training step does not fit. On a CPU
    half a token has to do: the next size costs more than four times as much, and in the same time a
    network learns more from four times as many slices. For that reason slices that lose nothing in
    it get half a window, where the backbone was trained for that; there a quarter of a token does
    (docs/measurements.md).
    """
    extent, _ = _slice_extent(facts)
    allowed = _allowed_sizes(facts, extent)
    name, diameter = facts.smallest_diameter()
    fitting = (size for size in allowed if diameter * size / extent >= _wanted_pixels(facts, size))
    size = next(fitting, allowed[-1])
    reached, wanted = diameter * size / extent, _wanted_pixels(facts, size)
    reason = (
        f"slices are {extent:.0f} pixels wide, the smallest class {name!r} {diameter:.1f} in its "
        f"10th percentile: at {size} it covers {reached:.0f} ({wanted} wanted)"
    )
    if size == facts.level.largest_input and reached < wanted:
        return size, f"{reason}; at the next size {facts.reason_for_less}"
    if size == allowed[-1]:
        return size, f"{reason}; {size} is the largest for {facts.machine}"
    return size, reason


def _wanted_pixels(facts: Facts, size: int) -> int:
    """Return how many pixels of an input of some size the smallest class has to cover."""
    if facts.machine.device != "cpu":
        return PATCH * TOKENS_PER_STRUCTURE
    return PATCH // 4 if size < WINDOW * PATCH else PATCH // 2


def _allowed_sizes(facts: Facts, extent: float) -> tuple[int, ...]:
    sizes = INPUT_SIZES[:2] if facts.machine.device == "cpu" else INPUT_SIZES
    smallest = BACKBONES[facts.values["backbone"]].smallest_input
    if sizes[0] > smallest >= MIN_ENLARGEMENT * extent:
        sizes = (smallest, *sizes)
    largest = facts.level.largest_input
    return sizes if largest is None else tuple(size for size in sizes if size <= largest)


def _slice_extent(facts: Facts) -> tuple[float, bool]:
    """Return the edge in pixels of the slice that has to fit, and whether nearly all slices do.

    Nearly all have to fit where sizes are alike, else the median; larger ones are tiled.
    """
    extents = facts.slice_extents()
    nearly_all, median = float(np.percentile(extents, 99)), float(np.median(extents))
    are_alike = nearly_all <= ALIKE * median
    return (nearly_all if are_alike else median), are_alike


def zoom(facts: Facts) -> tuple[float, str]:
    """Enlarge slices as far as they fit: it costs nothing within a given input size."""
    extent, are_alike = _slice_extent(facts)
    size = facts.values["input_size"]
    value = round(size / extent, 3)
    if are_alike:
        return value, (
            f"99 % of the slices, up to {extent:.0f} pixels wide, fit into the {size}-pixel input"
        )
    return value, (
        f"the median slice, {extent:.0f} pixels wide, fills the {size}-pixel input; larger slices "
        "are tiled"
    )


def frame(facts: Facts) -> tuple[str, str]:
    """Show all slices at one scale."""
    return "scale", "all slices at one scale: organs keep their sizes and proportions"


def orientation(facts: Facts) -> tuple[str, str]:
    """Take the patient's axes."""
    return "patient", "slices are turned alike, however files store them"


def head(facts: Facts) -> tuple[str, str]:
    """Take SAM's mask decoder for LoRA, a convolutional head otherwise.

    Finer resolution where structures are thin. A backbone that comes with trained features of the
    upsampling heads gets one of these (docs/measurements.md).
    """
    name, thickness = facts.thinnest()
    zoom, backbone = facts.values["zoom"], facts.values["backbone"]
    pixels = thickness * zoom / HEAD_STRIDE
    thin = f"{name!r} is {pixels:.1f} pixels thick at a quarter of the input's resolution"
    is_random = facts.values["initial_weights"] == "random"
    if is_random or BACKBONES[backbone].trained_upsampling:
        why = f"{backbone} comes with its features"
        if is_random:
            why = "it learns fastest from random weights"
        if zoom >= ENLARGED:
            return "upsampling_quarter", (
                f"{why}; slices are enlarged {zoom:.1f} times: nothing finer is in them"
            )
        return "upsampling", why
    if pixels < MIN_OUTPUT_PIXELS:
        return "upsampling", thin
    if facts.values["encoder_tuning"] == "frozen":
        return "cnn_slim", f"a frozen encoder needs a head that learns much; {thin}"
    return "mask_decoder", f"SAM's own, pre-trained; {thin}"
