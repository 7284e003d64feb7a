"""The benchmark for GPUs runs through on a CPU, and tells what limits what."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gpu
import gpu_encoders
import pytest
import torch
from builders.tiny import make_configuration, prepare_dataset
from frozen_head import describe_bound
from gpu_dataset import describe_cores, describe_prediction, describe_training
from gpu_rows import KernelCost, name_limit, sum_kernels
from measuring import Cost
from operations import count_encoder, count_step
from roofline import count_operations
from torch.autograd import DeviceType

from samnet.models.encoder import build_encoder
from samnet.plan.backbones import BACKBONES

Run = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Runs the script with tiny sizes, and returns its exit code and the rows by section."""

    def run(*words: str) -> tuple[int, dict[str, Any]]:
        file = tmp_path / "result.json"
        tiny = ["gpu.py", "--tiny", "--device", "cpu", "--output", str(file)]
        monkeypatch.setattr("sys.argv", [*tiny, *words])
        with pytest.raises(SystemExit) as end:
            gpu.main()
        return int(end.value.code or 0), json.loads(file.read_text(encoding="utf-8"))["sections"]

    return run


@pytest.fixture
def folders_of_samnet(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Puts samnet's variables back after the test: the script lets them point to its data."""
    for kind in ("raw", "preprocessed", "results"):
        monkeypatch.setenv(f"samnet_{kind}", str(tmp_path / "absent"))


@pytest.mark.usefixtures("folders_of_samnet")
def test_gpu_benchmark_measures_every_line_and_skips_those_without_raw_data(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    code, sections = run()
    assert code == 0
    assert list(sections) == list(gpu.SECTIONS)
    networks = [row for name in gpu.SECTIONS[:-1] for row in sections[name]]
    assert len(networks) == 12
    assert all(row["value"] > 0 and row["limit"] for row in networks)
    reasons = {row["skipped"] for row in sections["dataset"]}
    [reason] = reasons
    assert "no raw data of data set 4" in reason
    assert f"skipped: {reason}" in capsys.readouterr().out


@pytest.mark.usefixtures("folders_of_samnet")
def test_gpu_benchmark_trains_and_predicts_a_data_set(
    run: Run,
    make_dataset: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make_dataset(tmp_path / "raw", num_cases=2, num_test=2, shape=(3, 24, 20))
    settings = {"backbone": "small", "input_size": 32, "views": [0], "mirror_axes": []}
    prepare_dataset(tmp_path, 501, monkeypatch, **settings)
    prepared = str(tmp_path / "preprocessed")
    code, sections = run("--sections", "dataset", "--dataset", "501", "--preprocessed", prepared)
    rows = sections["dataset"]
    assert code == 0, rows
    assert [row["work"] for row in rows] == [
        "training run",
        "predicting 2 cases",
        "Dice of the test cases",
    ]
    training, predicting, scores = rows
    assert training["details"]["steps"] == 1
    assert "the loader" in training["limit"]
    assert predicting["value"] > 0
    assert "reading" in predicting["limit"]
    assert 0 <= scores["value"] <= 1


@pytest.mark.usefixtures("folders_of_samnet")
def test_line_of_the_gpu_benchmark_that_fails_stops_no_other(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(backbone: str, size: int) -> torch.nn.Module:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    ways = {"full": full, **gpu_encoders.ENCODERS}
    monkeypatch.setattr(gpu_encoders, "ENCODERS", ways)
    code, sections = run("--sections", "product", "encoders")
    assert code == 1
    found = [row["failure"] for row in sections["encoders"]]
    assert found == ["OutOfMemoryError: CUDA out of memory", None, None] * 2
    assert "FAILED: OutOfMemoryError: CUDA out of memory" in capsys.readouterr().out


@pytest.mark.parametrize("size", [224, 240])
def test_operations_of_an_encoder_are_counted_without_computing_it(size: int) -> None:
    encoder = build_encoder(BACKBONES["small"], size).eval()
    with torch.inference_mode():
        expected = count_operations(encoder, torch.rand(1, 3, size, size))
    assert count_encoder("small", size) == expected


def test_operations_of_a_step_grow_with_the_batch_and_fall_with_the_cache() -> None:
    values = {"backbone": "small", "encoder_tuning": "frozen", "input_size": 64, "batch_size": 1}
    one = make_configuration(**values)
    two = make_configuration(**values | {"batch_size": 2})
    trained = make_configuration(**values | {"encoder_tuning": "full"})
    whole, cached = count_step(one, 1, 3), count_step(one, 1, 3, from_cache=True)
    assert count_step(two, 1, 3) == 2 * whole
    assert whole - cached == count_encoder("small", 64)
    # The backward pass of the encoder has two products for each of the forward pass, except for
    # the first layer, whose input needs no gradient.
    backward = count_step(trained, 1, 3) - whole
    assert 1.5 * count_encoder("small", 64) < backward <= 2 * count_encoder("small", 64)


@pytest.mark.parametrize(
    ("kernel_seconds", "share", "limit"),
    [
        (0.010, 0.03, "launches: kernels 10.0 of 50.0 ms, 900 launches; 0.03 of the bf16 peak"),
        (0.049, 0.60, "arithmetic: 0.60 of the bf16 peak; kernels 49.0 of 50.0 ms"),
        (0.049, 0.20, "kernels other than large products: kernels 49.0 of 50.0 ms"),
        (None, 0.30, "the processor: 0.30 of the bf16 peak"),
    ],
)
def test_limit_is_named_by_the_time_in_kernels_and_the_share_of_the_peak(
    kernel_seconds: float | None, share: float, limit: str
) -> None:
    kernels = None if kernel_seconds is None else KernelCost(kernel_seconds, 900)
    assert name_limit(0.05, kernels, share, "bf16").startswith(limit)


def test_kernels_of_a_profile_are_those_of_the_gpu_without_names_of_stretches() -> None:
    def event(where: DeviceType, seconds: float, count: int, is_name: bool) -> SimpleNamespace:
        return SimpleNamespace(
            device_type=where,
            self_device_time_total=1e6 * seconds,
            count=count,
            is_user_annotation=is_name,
        )

    events = [
        event(DeviceType.CUDA, 1.0, 10, False),
        event(DeviceType.CUDA, 0.5, 3, False),
        event(DeviceType.CUDA, 1.5, 1, True),
        event(DeviceType.CPU, 7.0, 50, False),
    ]
    assert sum_kernels(events) == KernelCost(1.5, 13)


def test_limits_of_commands_are_what_takes_most_of_the_time() -> None:
    assert describe_training(60, 30, 5).startswith("the loader: steps 42%")
    assert describe_training(60, 2, 5).startswith("steps: ")
    assert describe_cores(Cost(10, 2)).startswith("disk and waiting: 0.2 of")
    assert describe_cores(Cost(10, 25)).startswith("the processor: 2.5 of")
    assert describe_prediction(10, 9, KernelCost(2, 5)).startswith("disk (reading): ")
    assert describe_prediction(10, 2, KernelCost(9, 5)).startswith("kernels: ")
    assert describe_prediction(10, 2, KernelCost(2, 5)).startswith("launches and the processor: ")
    assert describe_prediction(10, 2, None).startswith("the processor: ")


def test_bound_of_a_head_is_stated_where_its_arithmetic_forbids_the_target() -> None:
    assert "no more than 6.0 x" in describe_bound(6)
    assert "no more" not in describe_bound(60)
