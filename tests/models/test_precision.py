"""The precision in which networks compute on a device."""

from __future__ import annotations

import pytest
import torch

from samnet.models.precision import autocast, used_precision


@pytest.mark.parametrize(
    ("device", "capability", "planned", "used"),
    [
        ("cuda", (9, 0), "bfloat16", "bfloat16"),
        ("cuda:1", (8, 0), "bfloat16", "bfloat16"),
        ("cuda", (7, 5), "bfloat16", "float32"),
        ("cuda", (9, 0), "float32", "float32"),
        ("cpu", None, "bfloat16", "float32"),
        ("mps", None, "bfloat16", "float32"),
    ],
)
def test_bfloat16_is_used_on_devices_that_compute_in_it(
    device: str,
    capability: tuple[int, int] | None,
    planned: str,
    used: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Torch says this of every GPU.
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *_: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    assert used_precision(planned, torch.device(device)) == used


def test_no_autocast_is_made_for_devices_that_compute_in_single_precision(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """torch 2.4 has no autocast for `mps`, as no version has one for `meta`."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: pytest.fail("an autocast was made"))
    for name in ("mps", "cpu", "meta"):
        with autocast("bfloat16", torch.device(name)):
            pass


def test_autocast_leaves_a_cpu_in_single_precision() -> None:
    with autocast("bfloat16", torch.device("cpu")):
        assert not torch.is_autocast_enabled("cpu")
        assert torch.nn.Linear(2, 2)(torch.zeros(1, 2)).dtype == torch.float32
