"""`samnet_next`, from images to the table."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pytest
from builders.confidence import fit, held_out_cases
from builders.data import write_dataset
from builders.tiny import TWO_CLASSES, make_model, tiny_backbone, use_folders

from samnet.annotation.strategies import STRATEGIES
from samnet.cli.main import main
from samnet.confidence.calibration import Expectation
from samnet.confidence.files import read_confidence, read_signals, record_confidence

__all__ = ["tiny_backbone"]
Rows = list[dict[str, str]]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data set of two labelled and three unlabelled cases; the commands run in this folder."""
    dataset = write_dataset(
        tmp_path / "raw", num_cases=5, shape=(3, 24, 20), labels=TWO_CLASSES.labels
    )
    for number in (2, 3, 4):
        (dataset / "labelsTr" / f"case_{number:02d}.nii.gz").unlink()
    use_folders(tmp_path, tmp_path / "results", monkeypatch)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def train(root: Path) -> Path:
    model = root / "results" / "Dataset501_Tiny" / "lora"
    make_model(model / "fold_all")
    return model


def call(words: str = "", expected: int = 0) -> None:
    images = "raw/Dataset501_Tiny/imagesTr"
    assert main(["next", "-d", "501", "-i", images, "--device", "cpu", *words.split()]) == expected


def read(folder: Path) -> Rows:
    with (folder / "next.csv").open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


def test_without_a_model_and_options_cases_are_drawn(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call("-n 2")
    rows = read(root / "next")
    assert list(rows[0]) == ["case", "rank", "score", "why"]
    assert sorted(row["case"] for row in rows) == ["case_02", "case_03", "case_04"]
    assert [row["rank"] for row in rows] == ["1", "2", "3"]
    printed = capsys.readouterr().out
    assert rows[1]["case"] in printed
    assert rows[2]["case"] not in printed
    assert "all 3 cases: next/next.csv" in printed
    assert not (root / "next" / "predictions").exists()


@pytest.mark.parametrize("strategy", ["unlike", "typical"])
def test_without_a_model_images_are_compared_by_statistics(
    root: Path, strategy: str, capsys: pytest.CaptureFixture[str]
) -> None:
    call(f"--strategy {strategy}")
    assert "has no trained model: images are compared by spacing, size" in capsys.readouterr().err
    assert float(read(root / "next")[0]["score"]) > 0


def test_without_a_model_other_strategies_are_refused(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call("--strategy doubtful", expected=2)
    assert "no trained model for -d 501" in capsys.readouterr().err
    call("--strategy best", expected=2)
    assert "choose from random" in capsys.readouterr().err
    call("-p nowhere", expected=2)
    assert "-p nowhere: no such folder" in capsys.readouterr().err


@pytest.mark.parametrize("strategy", ["doubtful", "mixed", "foreground", "unlike"])
def test_trained_model_looks_at_the_images(root: Path, strategy: str) -> None:
    train(root)
    call(f"--strategy {strategy} -o out")
    assert len(read(root / "out")) == 3
    predictions = root / "out" / "predictions"
    assert predictions.exists() == STRATEGIES[strategy].needs_predictions
    if predictions.exists():
        assert set(read_signals(predictions)) == {"case_02", "case_03", "case_04"}


def test_calibrated_model_tells_the_expected_dice(root: Path) -> None:
    model = train(root)
    held_out = [*held_out_cases(12, "one"), *held_out_cases(12, "two")]
    fit(held_out, "one", "two").save(model / "confidence.json")
    call("--strategy doubtful")
    confidence = read_confidence(root / "next" / "predictions")
    assert set(confidence) == {"case_02", "case_03", "case_04"}
    scores = [float(row["score"]) for row in read(root / "next")]
    assert scores == sorted(scores, reverse=True)


def test_continue_keeps_predictions(root: Path) -> None:
    train(root)
    call("--strategy doubtful")
    label_map = root / "next" / "predictions" / "case_02.nii.gz"
    first = label_map.stat().st_mtime_ns
    before = read(root / "next")
    call("--strategy doubtful --continue")
    assert label_map.stat().st_mtime_ns == first
    assert read(root / "next") == before
    call("--strategy doubtful")
    assert label_map.stat().st_mtime_ns != first


def test_predictions_of_another_folder_are_used_and_left_unchanged(root: Path) -> None:
    train(root)
    done = root / "done"
    done.mkdir()
    for number, dice in ((2, 0.9), (3, 0.3), (4, 0.6)):
        expected = {"one": Expectation(dice, dice, dice, False, "")}
        record_confidence(done, f"case_{number:02d}", expected)
    before = (done / "confidence.csv").read_bytes()
    call("--strategy doubtful -p done")
    rows = read(root / "next")
    assert [row["case"] for row in rows] == ["case_03", "case_04", "case_02"]
    assert rows[0]["why"] == "one: expected Dice 0.30"
    assert (done / "confidence.csv").read_bytes() == before
    assert not (root / "next" / "predictions").exists()


def test_model_of_other_channels_is_refused(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = train(root)
    write_dataset(root / "raw", 502, num_cases=1, channels=("T1", "T2"))
    images = root / "raw" / "Dataset502_Tiny" / "imagesTr"
    images.rename(root / "new")
    shutil.rmtree(root / "raw" / "Dataset502_Tiny" / "labelsTr")
    words = ["next", "-d", "502", "-i", "new", "-m", str(model), "--strategy", "unlike"]
    assert main([*words, "--device", "cpu"]) == 2
    assert "trained on MRI, the data set has T1, T2" in capsys.readouterr().err


def test_image_that_cannot_be_read_is_last(root: Path) -> None:
    train(root)
    broken = root / "raw" / "Dataset501_Tiny" / "imagesTr" / "case_03_0000.nii.gz"
    broken.write_bytes(b"no image")
    call("--strategy mixed")
    assert read(root / "next")[-1]["case"] == "case_03"


def test_help_names_every_strategy(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["next", "--help"])
    printed = " ".join(capsys.readouterr().out.split())
    *others, last = STRATEGIES
    assert f"{', '.join(others)} or {last}" in printed
