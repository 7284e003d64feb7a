"""Whether a CPU computes faster in bfloat16: by what it has, and by a product."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from samnet.core import cpu_bfloat16
from samnet.core.cpu_bfloat16 import (
    VARIABLE,
    computes_faster_in_bfloat16,
    cpu_features,
    is_faster_in_bfloat16,
    time_products,
)
from samnet.core.errors import UserError

INTEL = """processor	: 0
model name	: Intel(R) Xeon(R) Processor
flags		: fpu avx512f avx512_bf16 amx_bf16 amx_tile
bugs		: none

processor	: 1
flags		: fpu
"""
ARM = """processor	: 0
Features	: fp asimd bf16
"""


@pytest.mark.parametrize(
    ("features", "single", "half", "is_faster"),
    [
        ({"avx512f", "amx_bf16", "amx_tile"}, 8.0, 1.0, True),
        ({"avx512_bf16"}, 1.5, 1.0, True),
        ({"avx512_bf16"}, 1.4, 1.0, False),
        ({"amx_bf16", "avx512_bf16"}, 1.0, 3.0, False),
    ],
)
def test_units_for_bfloat16_count_where_a_product_is_clearly_faster(
    features: set[str], single: float, half: float, is_faster: bool
) -> None:
    assert is_faster_in_bfloat16(features, lambda: (single, half)) is is_faster


@pytest.mark.parametrize("features", [set(), {"avx512f", "avx512_vnni"}, {"bf16", "asimd"}])
def test_nothing_is_measured_on_a_cpu_without_units(features: set[str]) -> None:
    assert not is_faster_in_bfloat16(features, lambda: pytest.fail("a product was timed"))


def test_features_of_a_cpu_are_read_from_linux(tmp_path: Path) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text(INTEL)
    assert cpu_features(file) == {"fpu", "avx512f", "avx512_bf16", "amx_bf16", "amx_tile"}
    file.write_text(ARM)
    assert cpu_features(file) == frozenset()


def test_features_of_a_cpu_are_those_of_torch_without_linux(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = {"amx_bf16": True, "avx512_bf16": False, "architecture": "x86_64", "l1d_cache_size": 1}
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: known, raising=False)
    assert cpu_features(tmp_path / "none") == {"amx_bf16"}
    # As of torch before 2.11.
    monkeypatch.delattr(torch.cpu, "get_capabilities")
    assert cpu_features(tmp_path / "none") == frozenset()


def test_features_of_this_cpu_are_texts() -> None:
    assert all(isinstance(name, str) for name in cpu_features())


def test_products_are_timed_in_both_precisions() -> None:
    single, half = time_products()
    assert min(single, half) > 0


@pytest.mark.parametrize(("value", "expected"), [("1", True), ("0", False)])
def test_the_variable_decides_without_a_measurement(
    value: str, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu_bfloat16, "cpu_features", lambda: pytest.fail("the CPU was looked at"))
    monkeypatch.setenv(VARIABLE, value)
    assert computes_faster_in_bfloat16() is expected


def test_another_value_of_the_variable_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "yes")
    with pytest.raises(UserError, match=r"samnet_cpu_bfloat16 is 'yes': set it to 1 .* to 0"):
        computes_faster_in_bfloat16()


def load_again() -> ModuleType:
    """Return the module as a new process has it, which has measured nothing."""
    specification = importlib.util.spec_from_file_location("measured", cpu_bfloat16.__file__)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[float, float]]:
    """A user with an empty cache; the times of each measured product are noted."""
    monkeypatch.delenv(VARIABLE)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    return []


def measure_again(
    monkeypatch: pytest.MonkeyPatch, timed: list[tuple[float, float]], unit: str = "amx_bf16"
) -> bool:
    """Return what a new process finds on a CPU, twice."""
    module = load_again()

    def measure() -> tuple[float, float]:
        timed.append((2.0, 1.0))
        return timed[-1]

    monkeypatch.setattr(module, "cpu_features", lambda: {unit})
    monkeypatch.setattr(module, "time_products", measure)
    first, second = (module.computes_faster_in_bfloat16() for _ in range(2))
    assert first is second
    return first


@pytest.mark.parametrize(("instructions", "is_faster"), [("AVX512", True), ("AVX2", False)])
def test_a_cpu_is_measured_once_if_torch_uses_its_instructions(
    instructions: str, is_faster: bool, monkeypatch: pytest.MonkeyPatch, timed: list
) -> None:
    """Torch's kernels of attention in bfloat16 fail where it may not use AVX-512."""
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: instructions)
    assert measure_again(monkeypatch, timed) is is_faster
    assert len(timed) == is_faster


def test_later_processes_need_no_torch_to_know_a_measured_cpu(
    monkeypatch: pytest.MonkeyPatch, timed: list
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    assert measure_again(monkeypatch, timed)
    monkeypatch.setitem(sys.modules, "torch", None)  # importing it is an error
    assert measure_again(monkeypatch, timed)
    assert len(timed) == 1


def test_another_cpu_or_restriction_is_measured_as_well(
    monkeypatch: pytest.MonkeyPatch, timed: list
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    for _ in range(2):
        measure_again(monkeypatch, timed)
        measure_again(monkeypatch, timed, "avx512_bf16")
    assert len(timed) == 2
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    measure_again(monkeypatch, timed)
    assert len(timed) == 3


@pytest.mark.parametrize("content", ["", "[]", "{"])
def test_a_damaged_memory_is_measured_again(
    content: str, monkeypatch: pytest.MonkeyPatch, timed: list, tmp_path: Path
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    file = tmp_path / ".cache" / "samnet" / "cpu_bfloat16.json"
    file.parent.mkdir(parents=True)
    file.write_text(content)
    assert measure_again(monkeypatch, timed)
    assert measure_again(monkeypatch, timed)
    assert len(timed) == 1


def test_a_cpu_is_measured_where_nothing_can_be_kept(
    monkeypatch: pytest.MonkeyPatch, timed: list, tmp_path: Path
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    (tmp_path / ".cache").write_text("no folder")
    assert measure_again(monkeypatch, timed)
    assert measure_again(monkeypatch, timed)
    assert len(timed) == 2
