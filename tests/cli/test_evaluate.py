from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from skimage import io

from samnet.cli.evaluate import main


@pytest.fixture
def dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """2D label maps of one class in `labelsTs`, and in `preds` the same, shifted by one column."""
    folder = tmp_path / "raw" / "Dataset007_Synthetic"
    (folder / "labelsTs").mkdir(parents=True)
    (tmp_path / "preds").mkdir()
    description = {
        "channel_names": {"0": "MRI"},
        "labels": {"background": 0, "cell": 1},
        "file_ending": ".png",
    }
    (folder / "dataset.json").write_text(json.dumps(description))
    for name in ("a", "b"):
        reference = np.zeros((9, 9), dtype=np.uint8)
        reference[2:6, 2:6] = 1
        prediction = np.roll(reference, 1, axis=1)
        io.imsave(folder / "labelsTs" / f"{name}.png", reference, check_contrast=False)
        io.imsave(tmp_path / "preds" / f"{name}.png", prediction, check_contrast=False)
    monkeypatch.setenv("samnet_raw", str(tmp_path / "raw"))
    monkeypatch.chdir(tmp_path)
    return folder


def run(dataset: Path, *options: str) -> int:
    return main(["-p", "preds", "-r", str(dataset / "labelsTs"), "-np", "0", *options])


def test_evaluate_prints_a_table_and_writes_next_to_the_predictions(
    dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(dataset) == 0
    printed = capsys.readouterr().out
    assert "0.7500  0.7500 to 0.7500" in printed
    assert "distances in pixels" in printed
    assert "worst cases" in printed
    assert "2 cases, policy standard" in printed
    summary = json.loads(Path("preds/summary.json").read_text())
    assert summary["foreground_mean"]["Dice"] == 0.75
    assert Path("preds/metrics.csv").is_file()


def test_evaluate_says_why_there_are_no_figures(
    dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(dataset) == 0
    assert "no figures: no images were found; --images FOLDER names" in capsys.readouterr().out
    assert run(dataset, "--no-figures") == 0
    assert "no images were found" not in capsys.readouterr().out


def test_evaluate_options(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(dataset, "-o", "out", "--policy", "synapse_legacy", "--nsd-tolerance", "2.5") == 0
    summary = json.loads(Path("out/summary.json").read_text())
    assert (summary["policy"], summary["nsd_tolerance"]) == ("synapse_legacy", 2.5)
    assert "distances in voxels" in capsys.readouterr().out
    assert not Path("preds/summary.json").exists()


def test_evaluate_finds_the_description(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    references = shutil.copytree(dataset / "labelsTs", tmp_path / "elsewhere" / "references")
    command = ["-p", "preds", "-r", str(references), "-np", "0"]
    assert main(command) == 2
    message = capsys.readouterr().err
    assert str(tmp_path / "elsewhere") in message
    assert "-d ID" in message
    assert "--dataset-json" in message

    assert main([*command, "-d", "7"]) == 0
    assert main([*command, "--dataset-json", str(dataset / "dataset.json")]) == 0
    shutil.copy(dataset / "dataset.json", "preds")
    assert main(command) == 0
    assert main([*command, "--dataset-json", "absent.json"]) == 2


def test_evaluate_refuses_a_prediction_of_another_shape(
    dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    io.imsave("preds/b.png", np.zeros((5, 9), dtype=np.uint8), check_contrast=False)
    assert run(dataset) == 2
    message = capsys.readouterr().err
    assert "preds/b.png: shape (1, 5, 9)" in message
    assert "Traceback" not in message
    assert not Path("preds/summary.json").exists()


def test_evaluate_names_a_missing_prediction(
    dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("preds/b.png").unlink()
    assert run(dataset) == 2
    assert "preds/b.png: missing" in capsys.readouterr().err
    assert run(dataset, "--missing", "skip") == 0
    assert "1 skipped" in capsys.readouterr().out


def test_evaluate_names_an_unreadable_file_after_the_others_are_scored(
    dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("preds/b.png").write_bytes(b"no image")
    assert run(dataset) == 1
    captured = capsys.readouterr()
    assert "cell" in captured.out
    assert "1 failed" in captured.out
    assert "preds/b.png: cannot be read" in captured.err
    assert not Path("preds/summary.json").exists()


def test_evaluate_names_a_missing_folder_before_it_looks_for_the_description(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["-p", "absent", "-r", "absent"]) == 2
    assert "absent: no such folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    "options",
    [
        ["--polcy", "standard"],
        ["--policy", "nicest"],
        ["--nsd-tolerance", "0"],
        ["-d", "7", "--dataset-json", "x"],
    ],
)
def test_evaluate_refuses_bad_options(dataset: Path, options: list[str]) -> None:
    with pytest.raises(SystemExit) as exit_information:
        run(dataset, *options)
    assert exit_information.value.code == 2


def test_evaluate_help_states_the_policies_and_imports_nothing_heavy() -> None:
    code = """
import sys
from samnet.cli.evaluate import main
heavy = {"numpy", "torch", "scipy", "nibabel", "surface_distance"}
try:
    main(["--help"])
finally:
    print("heavy:", sorted(heavy & set(sys.modules)))
"""
    root = Path(__file__).resolve().parents[2]
    printed = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    ).stdout
    words = " ".join(printed.split())
    assert "the diagonal of the image" in words
    assert "a missed class, and one in neither label map, counts Dice 0 and HD95 0" in words
    assert "heavy: []" in printed
