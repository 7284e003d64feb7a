"""Choice of the device, detection of its memory, and sizes of memory as users write them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from samnet.core.errors import UserError
from samnet.core.machine import Machine, choose_device, detect_machine, parse_memory


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretend that this machine has two GPUs, of 8 and 24 GiB, and no MPS."""
    pretend_devices(monkeypatch, gpus=[8, 24])


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretend that this machine has neither a GPU nor MPS."""
    pretend_devices(monkeypatch, gpus=[])


def pretend_devices(monkeypatch: pytest.MonkeyPatch, gpus: list[int], mps: bool = False) -> None:
    """Let torch report GPUs of the given memories in GiB, and MPS or none."""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(gpus))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: bool(gpus))
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    monkeypatch.setattr(
        torch.cuda,
        "get_device_properties",
        lambda index: SimpleNamespace(
            total_memory=gpus[index] * 2**30, multi_processor_count=40 + index
        ),
    )


@pytest.mark.usefixtures("two_gpus")
@pytest.mark.parametrize(
    ("device", "machine"),
    [
        (None, Machine("cuda", 8, multiprocessors=40)),
        ("cuda", Machine("cuda", 8, multiprocessors=40)),
        ("cuda:1", Machine("cuda", 24, multiprocessors=41)),
    ],
)
def test_detect_machine_returns_kind_memory_and_multiprocessors_of_a_gpu(
    device: str | None, machine: Machine
) -> None:
    assert detect_machine(device) == machine


@pytest.mark.usefixtures("no_gpu")
def test_gpu_of_another_machine_has_unknown_multiprocessors() -> None:
    assert detect_machine("cuda", 80) == Machine("cuda", 80, multiprocessors=0)


@pytest.mark.usefixtures("two_gpus")
def test_choose_device_keeps_the_number_of_a_gpu() -> None:
    assert choose_device("cuda:1") == "cuda:1"
    with pytest.raises(UserError, match=r"--device cuda:2: not on this machine .*cuda:0 to 1"):
        choose_device("cuda:2")


@pytest.mark.parametrize(("mps", "device"), [(False, "cpu"), (True, "mps")])
def test_machine_without_a_gpu_uses_mps_or_the_cpu(
    mps: bool, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend_devices(monkeypatch, gpus=[], mps=mps)
    assert choose_device(None) == device
    machine = detect_machine()
    assert machine.device == device
    assert machine.memory > 0.5
    assert detect_machine(memory=4) == Machine(device, 4)


@pytest.mark.usefixtures("two_gpus")
def test_choose_device_ignores_a_gpu_that_torch_cannot_use(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With a driver that is too old, torch still counts the GPUs."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device(None) == "cpu"
    with pytest.raises(UserError, match=r"--device cuda: not on this machine \(available: cpu\)"):
        choose_device("cuda")


@pytest.mark.usefixtures("no_gpu")
def test_missing_device_is_refused_unless_its_memory_is_given() -> None:
    with pytest.raises(UserError, match=r"--device cuda: not on this machine \(available: cpu\)"):
        choose_device("cuda")
    with pytest.raises(UserError, match=r"not on this machine.*--memory 16G"):
        detect_machine("cuda")
    assert detect_machine("cuda", 16) == Machine("cuda", 16)


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:x", "", "CPU"])
@pytest.mark.parametrize("memory", [None, 8])
def test_unknown_device_is_refused(device: str, memory: float | None) -> None:
    with pytest.raises(UserError, match="choose cuda, mps or cpu"):
        detect_machine(device, memory)
    with pytest.raises(UserError, match="choose cuda, mps or cpu"):
        choose_device(device)


@pytest.mark.parametrize(
    ("text", "size"), [("8", 8), ("16G", 16), ("16GB", 16), ("11.5 GiB", 11.5), ("80g", 80)]
)
def test_parse_memory_reads_sizes_in_gib(text: str, size: float) -> None:
    assert parse_memory(text) == size


@pytest.mark.parametrize("text", ["", "0", "8M", "-8G", "much", "8G8", "1e3"])
def test_parse_memory_refuses_other_texts(text: str) -> None:
    with pytest.raises(UserError, match="write the size in GiB, for example 8G"):
        parse_memory(text)


def test_machine_as_text_names_device_and_memory() -> None:
    assert str(Machine("cuda", 15.9)) == "cuda with 16 GiB"
    assert str(Machine("cpu", 15.9, True)) == "cpu with 16 GiB and units for bfloat16"


@pytest.mark.usefixtures("no_gpu", "cpu_bfloat16")
def test_detect_machine_looks_for_units_for_bfloat16_in_this_cpu_alone() -> None:
    assert detect_machine().cpu_bfloat16
    assert detect_machine("cpu").cpu_bfloat16
    # Another machine may be meant.
    assert not detect_machine("cpu", 16).cpu_bfloat16


@pytest.mark.usefixtures("two_gpus", "cpu_bfloat16")
def test_units_of_the_cpu_do_not_matter_on_a_gpu() -> None:
    assert detect_machine("cuda") == Machine("cuda", 8, multiprocessors=40)


def test_detect_machine_does_not_import_torch_when_device_and_memory_are_given() -> None:
    program = (
        "import sys; from samnet.core.machine import detect_machine; detect_machine('cuda', 8); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


FAKE_TORCH = """
from types import SimpleNamespace
cuda = SimpleNamespace(is_available=lambda: True, device_count=lambda: 1)
backends = SimpleNamespace(mps=SimpleNamespace(is_available=lambda: False))
"""
PROGRAM = """
import glob, sys
sys.platform, present, device = sys.argv[1:4]
glob.glob = lambda pattern: [pattern] if present and pattern.startswith(present) else []
from samnet.core.machine import choose_device
print(choose_device(device or None), "torch" in sys.modules)
"""


@pytest.mark.parametrize(
    ("platform", "present", "device", "expected"),
    [
        ("linux", "", "", "cpu False"),
        ("linux", "", "cpu", "cpu False"),
        ("linux", "/dev/nvidia", "", "cuda True"),
        ("linux", "/dev/nvhost", "", "cuda True"),
        ("linux", "/dev/dxg", "", "cuda True"),
        ("linux", "/dev/kfd", "", "cuda True"),
        ("linux", "", "cuda", "cuda True"),
        ("win32", "", "", "cuda True"),
        ("darwin", "", "", "cuda True"),
    ],
)
def test_choose_device_imports_torch_only_where_there_may_be_a_gpu(
    platform: str, present: str, device: str, expected: str, tmp_path: Path
) -> None:
    (tmp_path / "torch.py").write_text(FAKE_TORCH)
    path = os.pathsep.join([str(tmp_path), *sys.path])
    process = subprocess.run(
        [sys.executable, "-c", PROGRAM, platform, present, device],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    assert process.stdout.strip() == expected
