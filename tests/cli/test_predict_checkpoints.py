"""`samnet_predict --checkpoint`: the weights that are named are those that predict."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from builders.data import write_dataset
from builders.tiny import make_configuration, make_model, make_plan, tiny_backbone

from samnet.cli.predict import main
from samnet.models.model_folder import BEST, FINAL, LAST, RunFolder
from samnet.models.network import save_weights
from samnet.training.checkpoint import Progress, save_training

__all__ = ["tiny_backbone"]
SEEDS = {FINAL: 0, BEST: 1, LAST: 2}
CASE = "case_00.nii.gz"


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one image; the working directory is empty."""
    folder = write_dataset(tmp_path / "raw", shape=(4, 20, 24), num_cases=1)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return folder / "imagesTr"


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A run whose final, best and last weights differ."""
    folder = RunFolder(tmp_path / "model" / "fold_0")
    best = make_model(folder.path, SEEDS[BEST])
    save_weights(best.adapter(), folder.checkpoint(BEST))
    last = make_model(folder.path, SEEDS[LAST])
    save_training(folder, last, torch.optim.AdamW(last.parameters()), Progress(step=3))
    make_model(folder.path, SEEDS[FINAL])
    return folder


def predict(images: Path, model: Path, output: str, *options: str) -> np.ndarray:
    words = ["-i", str(images), "-o", output, "-m", str(model), "--device", "cpu", *options]
    assert main(words) == 0
    return nibabel.load(Path(output) / CASE).get_fdata()


@pytest.mark.parametrize("kind", [FINAL, BEST, LAST])
def test_predict_with_the_weights_of_the_named_checkpoint(
    run: RunFolder, images: Path, tmp_path: Path, kind: str
) -> None:
    found = predict(images, run.path.parent, "out", "--checkpoint", kind)
    maps = {}
    for name, seed in SEEDS.items():
        make_model(tmp_path / name / "fold_0", seed)
        maps[name] = predict(images, tmp_path / name, f"out_{name}")
    assert [name for name, labels in maps.items() if np.array_equal(labels, found)] == [kind]


def test_predict_with_the_final_weights_where_none_are_named(run: RunFolder, images: Path) -> None:
    unnamed = predict(images, run.path, "out")
    assert np.array_equal(unnamed, predict(images, run.path, "final", "--checkpoint", FINAL))


def test_unfinished_run_predicts_with_its_best_or_last_weights_only(
    run: RunFolder, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run.checkpoint(FINAL).unlink()
    words = ["-i", str(images), "-o", "out", "-m", str(run.path.parent), "--device", "cpu"]
    assert main(words) == 2
    assert "predict with --checkpoint best or last" in capsys.readouterr().err
    best = predict(images, run.path.parent, "best", "--checkpoint", BEST)
    last = predict(images, run.path.parent, "last", "--checkpoint", LAST)
    assert not np.array_equal(best, last)


def test_folds_without_the_named_checkpoint_are_left_out(
    run: RunFolder, images: Path, tmp_path: Path
) -> None:
    """Fold 1 has only final weights, so the average over folds is that of fold 0 alone."""
    make_model(run.path.parent / "fold_1", 7, make_plan(make_configuration()))
    both = predict(images, run.path.parent, "both")
    best = predict(images, run.path.parent, "best", "--checkpoint", BEST)
    alone = predict(images, run.path, "alone", "--checkpoint", BEST)
    assert np.array_equal(best, alone)
    assert not np.array_equal(both, best)
