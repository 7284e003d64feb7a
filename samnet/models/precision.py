"""The planned precision, on devices that have it."""

from __future__ import annotations

import torch

_AMPERE = 8  # compute capability of the first GPUs with bfloat16


def used_precision(planned: str, device: torch.device) -> str:
    """Return the precision in which networks compute on a device.

    Torch says that GPUs before Ampere support bfloat16 as well, since they can store such numbers.
    But they compute slowly with them, and have neither convolutions nor fused attention for them.

    Args:
        planned: The plan's `precision`, `bfloat16` or `float32`.
        device: The device to compute on.

    Returns:
        The planned precision, or `float32` on a device without bfloat16.
    """
    if planned != "bfloat16" or device.type != "cuda":
        return "float32"
    has_bfloat16 = torch.cuda.get_device_capability(device)[0] >= _AMPERE
    return "bfloat16" if has_bfloat16 else "float32"


def autocast(planned: str, device: torch.device) -> torch.autocast:
    """Return the context in which networks compute on a device.

    Args:
        planned: The plan's `precision`.
        device: The device to compute on.

    Returns:
        An autocast to bfloat16, disabled where `used_precision` is `float32`.
    """
    is_half = used_precision(planned, device) == "bfloat16"
    return torch.autocast(device.type, torch.bfloat16, enabled=is_half)
