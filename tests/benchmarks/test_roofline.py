"""How the time of a profile is shared among kinds of operation."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from roofline import shares_of_kinds
from torch.autograd import DeviceType


def event(key: str, where: DeviceType, on_device: float, on_cpu: float = 0.0) -> SimpleNamespace:
    return SimpleNamespace(
        key=key, device_type=where, self_device_time_total=on_device, self_cpu_time_total=on_cpu
    )


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_profile_counts_the_work_of_a_gpu_once(device: str) -> None:
    events = [
        event("aten::addmm", DeviceType.CPU, 3.0, 6.0),
        event("sm90_xmma_gemm_bf16bf16", DeviceType.CUDA, 3.0),
        event("aten::_flash_attention_forward", DeviceType.CPU, 1.0, 2.0),
        event("flash_fwd_kernel", DeviceType.CUDA, 1.0),
        event("aten::_scaled_dot_product_flash_attention", DeviceType.CPU, 0.0),
    ]
    shares = shares_of_kinds(events, torch.device(device))
    assert shares == {"linear layers": 0.75, "fused attention": 0.25}
