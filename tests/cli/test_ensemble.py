"""`samnet_ensemble` of saved probabilities, against `samnet_predict` of both models."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
from builders.data import write_dataset
from builders.tiny import make_model, tiny_backbone

from samnet.cli.main import main

__all__ = ["tiny_backbone"]


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two images, and two models of other inputs where samnet looks for them."""
    for name in ("raw", "preprocessed", "results"):
        monkeypatch.setenv(f"samnet_{name}", str(tmp_path / name))
    write_dataset(tmp_path / "raw", num_cases=2, shape=(4, 20, 24), spacing=(3.0, 1.0, 1.0))
    results = tmp_path / "results" / "Dataset501_Tiny"
    make_model(results / "lora" / "fold_0")
    make_model(results / "frozen" / "fold_0", 1, input_size=48, zoom=2.0, views=(0, 1, 2))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "raw" / "Dataset501_Tiny" / "imagesTr"


def run(words: str) -> int:
    return main(words.split())


def read(folder: str, case: str) -> tuple[np.ndarray, np.ndarray]:
    """Return labels `(Z, Y, X)` and probabilities `(K, Z, Y, X)`."""
    labels = np.asarray(nibabel.load(f"{folder}/{case}.nii.gz").dataobj).T
    return labels, np.load(f"{folder}/{case}.npz")["probabilities"].astype(float)


def test_ensemble_of_saved_probabilities_is_the_prediction_by_both_models(images: Path) -> None:
    predict = f"predict -i {images} --device cpu --save-probabilities -d 501"
    assert run(f"{predict} -o one -c lora") == 0
    assert run(f"{predict} -o other -c frozen") == 0
    assert run(f"{predict} -o both -c lora frozen") == 0
    assert run("ensemble -i one other -o mean --save-probabilities") == 0
    for case in ("case_00", "case_01"):
        singles = [read(folder, case)[1] for folder in ("one", "other")]
        labels, probabilities = read("both", case)
        of_files, mean = read("mean", case)
        assert np.abs(singles[0] - singles[1]).max() > 0.05
        assert np.abs(np.mean(singles, axis=0) - probabilities).max() < 1e-3
        assert np.abs(mean - probabilities).max() < 1e-3
        assert (labels != of_files).mean() < 0.01
        assert (of_files != mean.argmax(0)).mean() < 0.01


def test_ensemble_weighs_folders_and_refuses_missing_cases(
    images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    predict = f"predict -i {images} --device cpu --save-probabilities -d 501"
    assert run(f"{predict} -o one -c lora") == run(f"{predict} -o other -c frozen") == 0
    assert run("ensemble -i one other -o mean --weights 1 1000000 --save-probabilities") == 0
    assert np.array_equal(read("mean", "case_00")[1], read("other", "case_00")[1])
    Path("other/case_01.npz").unlink()
    assert run("ensemble -i one other -o again") == 2
    assert "other/case_01.npz" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        run("ensemble -i one other -o again --weights 1 0")
