"""What values of the plan may be, where a range or a list of choices does not say it."""

from __future__ import annotations

import re

INITIAL_WEIGHTS = ("pretrained", "random")
WEIGHT_ENDINGS = (".pth", ".pt", ".safetensors")
BLOCK_GROUPS = ("all", "last_half", "last_quarter")


def are_axes(value: tuple[int, ...]) -> bool:
    """Tell whether numbers are canonical axes, each at most once.

    Args:
        value: The numbers.
    """
    return len(set(value)) == len(value) and set(value) <= {0, 1, 2}


def are_labels(value: tuple[int, ...]) -> bool:
    """Tell whether numbers are labels of foreground, each at most once.

    Args:
        value: The numbers.
    """
    return len(set(value)) == len(value) and all(label > 0 for label in value)


def is_weights(value: str) -> bool:
    """Tell whether a text says from which weights a training run starts.

    Args:
        value: The text: one of `INITIAL_WEIGHTS`, or a file with one of `WEIGHT_ENDINGS`.
    """
    return value in INITIAL_WEIGHTS or value.endswith(WEIGHT_ENDINGS)


def are_blocks(value: str) -> bool:
    """Tell whether a text names blocks of an encoder.

    Args:
        value: The text: one of `BLOCK_GROUPS`, or numbers with commas between them.
    """
    return value in BLOCK_GROUPS or re.fullmatch(r"\d+(,\d+)*", value) is not None
