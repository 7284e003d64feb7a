"""The planned precision, where the device has it."""

from __future__ import annotations

import torch

_AMPERE = 8  # compute capability of the first GPUs with bfloat16


def used_precision(planned: str, device: torch.device) -> str:
    """What networks compute in on a device: as planned, but `float32` where it has no bfloat16.

    Torch says that GPUs before Ampere support it, as they can hold such numbers: but they compute slowly with them, and
    have neither convolutions nor fused attention for them.
    """
    if (
        planned == "bfloat16"
        and device.type == "cuda"
        and torch.cuda.get_device_capability(device)[0] >= _AMPERE
    ):
        return planned
    return "float32"


def autocast(planned: str, device: torch.device) -> torch.autocast:
    """The context in which networks compute on a device."""
    return torch.autocast(
        device.type, torch.bfloat16, enabled=used_precision(planned, device) == "bfloat16"
    )
