"""How much memory a training step takes at most, by counting values: without torch, in no time.

A dry run (`samnet.training.dry_run`) is exact, and takes seconds. Most steps take a small part of
the memory that there is; for them this is enough. The factors are generous: the estimate is one and
a half to twenty times what a dry run measures.
"""

from __future__ import annotations

from math import ceil

from samnet.plan.backbones import BACKBONES, EMBEDDING_CHANNELS, PATCH, WINDOW, Backbone
from samnet.plan.configuration import Configuration
from samnet.planning.planned_step import PlannedStep, rows_of_step

_BYTES = 4  # of a value; half precision takes no more
# Copies of each weight: itself, its gradient, Adam's two averages, and one while it is updated.
_WEIGHT_COPIES = 5
_HEAD_WEIGHTS = 2.5e7  # of the largest head
# Values of a block for each token and channel of it: kept ones, and what LoRA adds to them.
_TOKEN_COPIES = 40
_ATTENTION_COPIES = 3
# Values of the head and of the first convolutions for each pixel of the input: so many, and so many
# for each output.
_PIXEL_COPIES = 100
_OUTPUT_COPIES = 32


def estimate_step(step: PlannedStep) -> float:
    """Return an amount of memory that a training step does not exceed.

    Args:
        step: The step.

    Returns:
        GiB of all tensors at the peak of the step, or more.
    """
    configuration = step.configuration
    backbone = BACKBONES[configuration.backbone]
    images = _values_of_image(backbone, configuration, step.num_outputs)
    copies = _WEIGHT_COPIES + (configuration.weight_average > 0)
    values = copies * _num_weights(backbone, configuration)
    values += rows_of_step(configuration) * configuration.depth * images
    return values * _BYTES / 2**30


def _num_weights(backbone: Backbone, configuration: Configuration) -> float:
    """Count the weights of encoder and adapters; more than there are of the head."""
    width, grid = backbone.width, configuration.input_size // PATCH
    block = 12 * width**2 + 20 * width + 4 * max(grid, WINDOW) * width
    adapters = 20 * width * configuration.lora_rank
    if configuration.depth > 1:
        adapters += configuration.depth_adapters * width**2
    first = (3 * PATCH**2 + grid**2) * width
    last = EMBEDDING_CHANNELS * (width + 9 * EMBEDDING_CHANNELS)
    return backbone.depth * (block + adapters) + first + last + _HEAD_WEIGHTS


def _values_of_image(backbone: Backbone, configuration: Configuration, num_outputs: int) -> float:
    """Count the values that exist for each image of the batch."""
    size = configuration.input_size
    grid = size // PATCH
    num_tokens = (ceil(grid / WINDOW) * WINDOW) ** 2  # with those that fill windows
    num_global = len(backbone.global_blocks)
    num_keys = num_global * num_tokens + (backbone.depth - num_global) * (WINDOW**2 + 1)
    tokens = _TOKEN_COPIES * backbone.depth * backbone.width * num_tokens
    attention = _ATTENTION_COPIES * backbone.heads * num_tokens * num_keys
    return tokens + attention + size**2 * (_PIXEL_COPIES + _OUTPUT_COPIES * num_outputs)
