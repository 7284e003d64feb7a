from __future__ import annotations

import pytest
import torch

from samnet.models.out_of_memory import compute_in_less_memory, is_out_of_memory

ERRORS = [
    torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore"),
    RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes."),
    MemoryError(),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_computation_is_repeated_after_each_fallback(error: Exception) -> None:
    calls: list[str] = []

    def compute() -> int:
        calls.append("compute")
        if len(calls) < 6:
            raise error
        return 7

    found = compute_in_less_memory(compute, calls.append, lambda: calls.append("clean up"))
    assert found == 7
    reason = "CUDA out of memory. Tried to allocate 2.00 GiB."
    assert calls[:3] == ["compute", "clean up", calls[2]]
    assert calls[2] in (reason, str(error), "MemoryError")
    assert calls[3:] == [*calls[:3], "compute"]


def test_other_errors_are_not_taken_for_a_lack_of_memory() -> None:
    assert not is_out_of_memory(RuntimeError("shapes"))
    assert not is_out_of_memory(ValueError("full"))

    def compute() -> None:
        raise RuntimeError("shapes")

    def fall_back(reason: str) -> None:
        raise AssertionError("nothing has run out")

    with pytest.raises(RuntimeError, match="shapes"):
        compute_in_less_memory(compute, fall_back)
