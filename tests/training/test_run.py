"""A training run from the request to the scores, as scripts call it."""

from __future__ import annotations

from pathlib import Path

import pytest
from builders.data import write_dataset
from builders.tiny import prepare_dataset, use_folders

from samnet.planning.planned_dataset import PlannedDataset
from samnet.training.options import TrainingOptions
from samnet.training.run import train


def test_run_of_a_script_has_one_progress_bar(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Bars of its stages would estimate the time of a training that a limit ends before."""
    with monkeypatch.context() as patch:
        use_folders(tmp_path, tmp_path / "results", patch)
        write_dataset(tmp_path / "raw", number=1, name="One", num_cases=4)
        prepare_dataset(tmp_path, 1, patch, steps=2)
        options = TrainingOptions(device="cpu", workers=0)
        capsys.readouterr()
        train(PlannedDataset.find("Dataset001_One"), "scratch", "0", options)
    bars = {line.split(":")[0] for line in capsys.readouterr().err.splitlines() if "passed" in line}
    assert bars == {"scratch, fold 0"}
