"""The command that lists models and base weights."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from builders.models import DATASET, LORA, add_tiny_sam, make_model, make_plan

from samnet.cli.models import main
from samnet.models.model_folder import FINAL, ModelFolder


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelFolder:
    """A model of two folds, adapters on `tiny_sam`, whose weights are in `checkpoints`."""
    add_tiny_sam(tmp_path / "checkpoints", monkeypatch)
    monkeypatch.setenv("samnet_results", str(tmp_path / "results"))
    folder = tmp_path / "results" / DATASET / "lora"
    return ModelFolder(make_model(folder, make_plan(**LORA), ("fold_0", "fold_1")))


def listed(capsys: pytest.CaptureFixture[str]) -> tuple[list[dict], list[dict]]:
    """Return models and base weights as JSON."""
    assert main(["--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    return content["models"], content["base_weights"]


def test_models_of_an_empty_machine(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("samnet_results", str(tmp_path / "none"))
    monkeypatch.setenv("samnet_checkpoints", str(tmp_path / "none too"))
    assert main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"no models in {tmp_path / 'none'} (samnet_results is ")
    assert ["vit_b", "358"] in [line.split()[:2] for line in lines]
    assert "samnet_download_checkpoint vit_h" in lines[-1]
    assert listed(capsys)[0] == []


def test_models_shows_what_is_installed(
    model: ModelFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for fold, days in (("0", 365.5), ("1", 400.5)):
        os.utime(model.run(fold).checkpoint(FINAL), (86_400 * days, 86_400 * days))
    (tmp_path / "checkpoints" / "medsam.pth").write_bytes(b"another")
    size = sum(model.run(fold).checkpoint(FINAL).stat().st_size for fold in "01")
    [found], weights = listed(capsys)
    assert found == {
        "dataset": DATASET,
        "configuration": "lora",
        "folder": str(model),
        "folds": ["0", "1"],
        "unfinished_folds": [],
        "dice": None,
        "num_cases": None,
        "date": "1971-02-05",
        "size": size,
        "base": "sam_tiny.pth",
        "base_state": "here",
        "how_to_get_base": "",
        "fault": "",
    }
    by_file = {Path(entry["file"]).name: entry for entry in weights}
    assert by_file["sam_tiny.pth"]["is_here"]
    assert by_file["sam_tiny.pth"]["name"] == "tiny_sam"
    assert by_file["medsam.pth"] == {
        "name": None,
        "file": str(tmp_path / "checkpoints" / "medsam.pth"),
        "is_here": True,
        "size": 7,
        "how_to_get": "",
    }
    assert not by_file["sam_vit_b_01ec64.pth"]["is_here"]
    assert main([]) == 0
    row = capsys.readouterr().out.splitlines()[1].split()
    assert row[:6] == [f"{DATASET}/lora", "0,", "1", "-", "-", "1971-02-05"]
    assert row[-2:] == ["sam_tiny.pth", "here"]


def test_models_says_how_to_get_the_base(
    model: ModelFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "checkpoints" / "sam_tiny.pth").write_bytes(b"another")
    model.run("1").checkpoint(FINAL).unlink()
    [found], _ = listed(capsys)
    assert found["base_state"] == "missing"
    assert found["how_to_get_base"].startswith("Run samnet_download_checkpoint tiny_sam")
    assert (found["folds"], found["unfinished_folds"]) == (["0"], ["1"])
    assert main([]) == 0
    printed = capsys.readouterr().out
    assert "0 (1 unfinished)" in printed
    assert "sam_tiny.pth missing\nRun samnet_download_checkpoint tiny_sam" in printed


def test_models_shows_damaged_models_among_others(
    model: ModelFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    make_model(model.path.with_name("scratch"), make_plan("scratch"))
    model.run("0").plan_file.write_text("{")
    damaged, good = listed(capsys)[0]
    assert "not valid JSON" in damaged["fault"]
    assert (good["base"], good["base_state"], good["fault"]) == (None, "not needed", "")
    assert main([]) == 0
    printed = capsys.readouterr().out
    assert "damaged" in printed
    assert "plan.json: not valid JSON" in printed
