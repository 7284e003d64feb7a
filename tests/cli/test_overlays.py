from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from builders.data import write_dataset
from skimage import io

from samnet.cli.evaluate import main as evaluate
from samnet.cli.overlays import main


@pytest.fixture
def dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a data set of four test images, with predictions in `preds` that are shifted."""
    folder = write_dataset(tmp_path / "raw", num_cases=1, num_test=4, file_ending=".png")
    (tmp_path / "preds").mkdir()
    for index, file in enumerate(sorted((folder / "labelsTs").iterdir())):
        labels = np.zeros((24, 20), np.uint8)
        labels[5:15, 3:10] = 1
        io.imsave(file, labels, check_contrast=False)
        prediction = np.roll(labels, 2 * index, axis=1)
        io.imsave(tmp_path / "preds" / file.name, prediction, check_contrast=False)
    monkeypatch.chdir(tmp_path)
    return folder


def run(dataset: Path, *options: str) -> int:
    words = ["-p", "preds", "-i", str(dataset / "imagesTs"), "-np", "0"]
    return main([*words, *options])


def drawn(folder: str) -> list[str]:
    return sorted(file.name for file in Path(folder).glob("0*.png"))


def test_overlays_draws_the_worst_case_first(
    dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    references = str(dataset / "labelsTs")
    assert run(dataset, "-r", references, "--number", "2") == 0
    # The worst case is shifted most; the other one is the median.
    assert drawn("preds/figures") == ["01_case_04.png", "02_case_02.png"]
    printed = capsys.readouterr().out
    assert "2 cases drawn, all of them in preds/figures/index.png" in printed
    assert run(dataset, "-r", references, "-o", "out", "--cases", "case_01", "case_03") == 0
    assert drawn("out") == ["01_case_03.png", "02_case_01.png"]


def test_overlays_needs_no_references(dataset: Path) -> None:
    assert run(dataset, "--number", "2", "-o", "out") == 0
    assert drawn("out") == ["01_case_01.png", "02_case_04.png"]


def test_overlays_names_what_is_missing(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(dataset, "--cases", "other") == 2
    assert "has no case 'other'" in capsys.readouterr().err
    assert run(dataset, "-r", "absent") == 2
    assert "absent: no such folder" in capsys.readouterr().err
    Path("empty").mkdir()
    assert run(dataset, "-r", "empty") == 2
    assert "has no label map in preds and empty" in capsys.readouterr().err


def test_overlays_names_damaged_files_and_draws_the_others(
    dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("preds/case_02.png").write_bytes(b"no image")
    assert run(dataset, "-r", str(dataset / "labelsTs"), "--number", "1") == 1
    assert "preds/case_02.png: cannot be read" in capsys.readouterr().err
    assert drawn("preds/figures") == ["01_case_04.png"]


def test_evaluate_draws_the_worst_case_next_to_the_summary(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    references = str(dataset / "labelsTs")
    command = ["-p", "preds", "-r", references, "-np", "0"]
    assert evaluate([*command, "-o", "none", "--no-figures"]) == 0
    assert not Path("none/figures").exists()
    assert evaluate([*command, "-o", "out"]) == 0
    assert "worst cases and of a choice: out/figures" in capsys.readouterr().out
    assert drawn("out/figures") == ["01_case_04.png"]
    elsewhere = shutil.copytree(references, tmp_path / "truth")
    command = ["-p", "preds", "-r", str(elsewhere), "-np", "0"]
    command += ["--dataset-json", str(dataset / "dataset.json")]
    assert evaluate([*command, "-o", "without"]) == 0
    assert not Path("without/figures").exists()
    assert evaluate([*command, "-o", "given", "--images", str(dataset / "imagesTs")]) == 0
    assert drawn("given/figures") == ["01_case_04.png"]


def test_evaluate_is_complete_where_nothing_can_be_drawn(dataset: Path) -> None:
    Path("out").mkdir()
    Path("out/figures").write_text("in the way of the folder")
    for file in (dataset / "imagesTs").iterdir():
        file.write_bytes(b"damaged")
    command = ["-p", "preds", "-r", str(dataset / "labelsTs"), "-np", "0"]
    assert evaluate([*command, "-o", "out"]) == 0
    assert Path("out/summary.json").is_file()
