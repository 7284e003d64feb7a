"""The options of `samnet_train` on their way to the training, without a training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from samnet.cli.train import main
from samnet.training.options import TrainingOptions


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> list[tuple]:
    """Return the data set, configuration, fold and options of each training that is requested."""
    noted: list[tuple] = []

    def note(
        dataset: str, configuration: str, fold: str, options: TrainingOptions, began: float
    ) -> None:
        noted.append((dataset, configuration, fold, options))

    monkeypatch.setattr("samnet.training.run.train_folds", note)
    return noted


def test_no_options_request_what_is_planned(requests: list[tuple]) -> None:
    assert main(["8", "lora"]) == 0
    assert requests == [("8", "lora", "0", TrainingOptions())]


def test_options_reach_the_training(requests: list[tuple]) -> None:
    words = "8 lora 3 --epochs 4 --max-time 2m --lr 0.01 --batch-size 6 --backbone vit_b"
    words += " --set zoom=2 --seed 5 --device cpu --num-cases 7 --from models/other --workers 1"
    words += " --cache-size 3G --save-every 10s --multiply-batch --continue"
    assert main(words.split()) == 0
    settings = {"zoom": 2, "learning_rate": 0.01, "batch_size": 6, "backbone": "vit_b"}
    expected = TrainingOptions(
        settings=settings,
        epochs=4,
        max_seconds=120.0,
        seed=5,
        device="cpu",
        num_cases=7,
        start_from=Path("models/other"),
        workers=1,
        cache_size=3.0,
        save_seconds=10.0,
        multiply_batch=True,
        resume=True,
    )
    assert requests == [("8", "lora", "3", expected)]


@pytest.mark.parametrize(
    ("words", "values"),
    [
        ("--num-patients 7 --restart", {"num_patients": 7, "restart": True}),
        ("--no-cache", {"cache_size": 0.0}),
        ("--steps 4", {"settings": {"steps": 4}}),
        ("--set steps=9 --steps 4", {"settings": {"steps": 4}}),
        ("--steps 4 --set steps=9", {"settings": {"steps": 4}}),
    ],
)
def test_option_is_requested_as(requests: list[tuple], words: str, values: dict[str, Any]) -> None:
    assert main(["8", "lora", *words.split()]) == 0
    assert requests == [("8", "lora", "0", TrainingOptions(**values))]


def test_processes_are_launched_once(
    requests: list[tuple], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of them has the same command, and trains."""
    launched: list[tuple] = []
    monkeypatch.setattr("samnet.training.launch.launch", lambda *given: launched.append(given))
    words = ["8", "lora", "--gpus", "2", "--device", "cpu", "--steps", "4"]
    assert main(words) == 0
    assert launched == [(2, "cpu", ["train", *words])]
    assert requests == []
    for name, value in (("WORLD_SIZE", "2"), ("RANK", "1"), ("LOCAL_RANK", "1")):
        monkeypatch.setenv(name, value)
    assert main(words) == 0
    assert len(launched) == len(requests) == 1
    monkeypatch.delenv("WORLD_SIZE")
    assert main(["8", "lora", "--gpus", "1"]) == 0
    assert (len(launched), len(requests)) == (1, 2)
