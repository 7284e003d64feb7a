"""Encoder, adaptation, head, and the size of the network's input."""

from __future__ import annotations

import numpy as np

from samnet.plan.backbones import BACKBONES, PATCH
from samnet.planning.memory import BACKBONE_LADDER, INPUT_SIZES
from samnet.planning.rules.facts import Facts

TOKENS_PER_STRUCTURE = 2
HEAD_STRIDE = 4
MIN_OUTPUT_PIXELS = 3.0
ENLARGED = 3.0
MIN_ENLARGEMENT = 1.5
NARROW = 384
LARGE_GPU_GIB = 40
LORA_TARGETS = ("q", "k", "v", "projection", "mlp")


def backbone(facts: Facts) -> tuple[str, str]:
    """Small on a CPU; on a GPU ViT-B, or ViT-L on a large one; smaller where a step of it does not fit at any size."""
    machine = facts.machine
    if machine.device == "cpu":
        return "small", f"{machine}: SAM's encoders take seconds a slice on a CPU"
    wanted = "vit_b" if machine.memory < LARGE_GPU_GIB else "vit_l"
    if facts.level.smaller_backbones:
        name = BACKBONE_LADDER[BACKBONE_LADDER.index(wanted) + facts.level.smaller_backbones]
        return name, f"with a larger one {facts.too_much}"
    if wanted == "vit_b":
        return wanted, f"{machine}: the size of the backbone matters little (arXiv 2404.09957)"
    return wanted, f"{machine}: room and speed for ViT-L"


def initial_weights(facts: Facts) -> tuple[str, str]:
    name = facts.values["backbone"]
    if BACKBONES[name].has_weights:
        return (
            "pretrained",
            f"{name} has released weights, and few labels teach little by themselves",
        )
    return "random", f"{name} has no pre-trained weights"


def encoder_tuning(facts: Facts) -> tuple[str, str]:
    """LoRA on a pre-trained encoder; everything where there is nothing pre-trained to adapt."""
    if facts.values["initial_weights"] == "random":
        return (
            "full",
            f"the {facts.values['backbone']} encoder starts from random weights: LoRA could not teach it to see",
        )
    if facts.level.frozen:
        return "frozen", f"with LoRA {facts.too_much}"
    return (
        "lora",
        "tuning encoder and decoder beats the decoder alone (arXiv 2404.09957), with a small adapter",
    )


def lora_rank(facts: Facts) -> tuple[int, str]:
    """4 for SAM's encoders; more for a narrow one, whose layers are smaller and further from the data."""
    if _is_small(facts):
        return 16, f"{facts.values['backbone']} is narrow, and was trained on made images only"
    return (
        4,
        f"results are nearly flat between ranks 1 and 64 (arXiv 2502.00418); {facts.labelled_slices} labelled slices",
    )


def lora_scale(facts: Facts) -> tuple[float, str]:
    return 1.0, "the updates are added as they are, as in SAMed, whatever their rank"


def lora_targets(facts: Facts) -> tuple[tuple[str, ...], str]:
    if _is_small(facts):
        return (
            LORA_TARGETS,
            f"every layer of {facts.values['backbone']}'s blocks, which cost little",
        )
    return ("q", "v"), "SAMed's choice (arXiv 2304.13785)"


def _is_small(facts: Facts) -> bool:
    return BACKBONES[facts.values["backbone"]].width < NARROW


def lora_blocks(facts: Facts) -> tuple[str, str]:
    """All; where a step does not fit, the last half, nearly as good, or quarter (finetune-SAM, arXiv 2404.09957)."""
    if facts.values["encoder_tuning"] != "lora" or facts.level.lora_blocks == "all":
        return "all", f"{facts.machine}: room for the gradients of every block"
    return facts.level.lora_blocks, f"with more blocks {facts.too_much}"


def input_size(facts: Facts) -> tuple[int, str]:
    """The smallest size of whole windows at which the smallest class covers two tokens and a whole slice fits.

    Smaller where a training step does not fit. On a CPU half a token has to do: the next size costs more than four
    times as much, and in the same time a network learns more from four times as many slices. For that reason slices
    that lose nothing in it get half a window, where the backbone was trained for that.
    """
    extent, _ = _slice_extent(facts)
    allowed = _allowed_sizes(facts, extent)
    name, diameter = facts.smallest_diameter()
    wanted = PATCH // 2 if facts.machine.device == "cpu" else PATCH * TOKENS_PER_STRUCTURE
    size = next((size for size in allowed if diameter * size / extent >= wanted), allowed[-1])
    reached = diameter * size / extent
    reason = (
        f"slices are {extent:.0f} pixels wide, the smallest class {name!r} {diameter:.1f} in its 10th percentile: "
        f"at {size} it covers {reached:.0f} ({wanted} wanted)"
    )
    if size == facts.level.largest_input and reached < wanted:
        return size, f"{reason}; at the next size {facts.too_much}"
    return size, reason if size != allowed[
        -1
    ] else f"{reason}; {size} is the largest for {facts.machine}"


def _allowed_sizes(facts: Facts, extent: float) -> tuple[int, ...]:
    sizes = INPUT_SIZES[:2] if facts.machine.device == "cpu" else INPUT_SIZES
    smallest = BACKBONES[facts.values["backbone"]].smallest_input
    if smallest < sizes[0] and smallest >= MIN_ENLARGEMENT * extent:
        sizes = (smallest, *sizes)
    largest = facts.level.largest_input
    return sizes if largest is None else tuple(size for size in sizes if size <= largest)


def _slice_extent(facts: Facts) -> tuple[float, str]:
    """The slice that has to fit: nearly all of them where sizes are alike, else the median (larger ones are tiled)."""
    extents = facts.slice_extents()
    nearly_all, median = float(np.percentile(extents, 99)), float(np.median(extents))
    if nearly_all <= 1.3 * median:
        return nearly_all, "99 % of the slices"
    return median, "a median slice (larger ones are tiled)"


def zoom(facts: Facts) -> tuple[float, str]:
    """As large as the slice that has to fit allows: enlarging costs nothing inside a given input size."""
    extent, which = _slice_extent(facts)
    size = facts.values["input_size"]
    value = round(size / extent, 3)
    return value, f"{which} ({extent:.0f} pixels) fill the input of {size}"


def head(facts: Facts) -> tuple[str, str]:
    """SAM's mask decoder for LoRA, a convolutional head otherwise; finer resolution where structures are thin.

    A backbone that comes with trained features of the upsampling heads has one of these: docs/planning.md.
    """
    name, thickness = facts.thinnest()
    zoom, backbone = facts.values["zoom"], facts.values["backbone"]
    pixels = thickness * zoom / HEAD_STRIDE
    thin = f"{name!r} is {pixels:.1f} pixels thick at a quarter of the input's resolution"
    random = facts.values["initial_weights"] == "random"
    upsampling = (
        "it learns fastest from random weights" if random else f"{backbone} comes with its features"
    )
    if random or BACKBONES[backbone].trained_upsampling:
        if zoom >= ENLARGED:
            enlarged = f"slices are enlarged {zoom:.1f} times: nothing finer is in them"
            return "upsampling_quarter", f"{upsampling}; {enlarged}"
        return "upsampling", upsampling
    if pixels < MIN_OUTPUT_PIXELS:
        return "upsampling", thin
    if facts.values["encoder_tuning"] == "frozen":
        return "cnn_slim", f"a frozen encoder needs a head that learns much; {thin}"
    return "mask_decoder", f"SAM's own, pre-trained; {thin}"
