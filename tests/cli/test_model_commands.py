"""The commands for checkpoints and shared models, with the options that users type."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from builders.models import DATASET, LORA, add_tiny_sam, make_model, make_plan

from samnet.cli import download_checkpoint, export_model, import_samed, install_model, predict
from samnet.models import download
from samnet.models.base import Base, save_base
from samnet.models.model_folder import RunFolder
from samnet.models.registry import CHECKPOINTS, PACKAGED


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a finished model. The weights it builds on are in `checkpoints`."""
    add_tiny_sam(tmp_path / "checkpoints", monkeypatch)
    monkeypatch.setenv("samnet_results", str(tmp_path / "results"))
    monkeypatch.chdir(tmp_path)
    return make_model(tmp_path / "results" / DATASET / "lora", make_plan(**LORA))


def test_download_checkpoint_lists_the_checkpoints(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / CHECKPOINTS["vit_b"].file_name).touch()
    assert download_checkpoint.main(["--list", "-o", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "vit_b  sam_vit_b_01ec64.pth  358 MiB  Apache-2.0  is here"
    assert lines[1].strip() == CHECKPOINTS["vit_b"].url
    assert "vit_l  sam_vit_l_0b3195.pth  size unknown  Apache-2.0  is not here" in lines
    assert lines[-1] == f"folder: {tmp_path}"


@pytest.mark.parametrize("names", [[], ["vit_x"], ["vit_b", "sam"]])
def test_download_checkpoint_refuses_unknown_names(
    names: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert download_checkpoint.main([*names, "-o", str(tmp_path)]) == 2
    assert "choose from vit_b, vit_l, vit_h" in capsys.readouterr().err


def test_download_checkpoint_without_a_network(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "FIRST_WAIT_SECONDS", 0.0)
    monkeypatch.setenv("no_proxy", "*")
    assert (
        download_checkpoint.main(["vit_b", "-o", str(tmp_path), "--mirror", "http://127.0.0.1:9"])
        == 1
    )
    printed = capsys.readouterr()
    assert "http://127.0.0.1:9/sam_vit_b_01ec64.pth cannot be downloaded" in printed.err
    assert "Traceback" not in printed.err
    assert printed.out == ""


def test_download_checkpoint_prints_the_path_of_a_file_that_is_there(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert download_checkpoint.main(["tiny_sam"]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'checkpoints' / 'sam_tiny.pth'}\n"


def test_export_model_and_install_model(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert export_model.main(["-o", "model.zip"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"model.zip: {DATASET}, lora, fold_0, ")
    assert "also needs sam_tiny.pth (the released tiny_sam, sha256 " in printed

    assert install_model.main(["model.zip"]) == 2
    assert "is there already" in capsys.readouterr().err
    shutil.rmtree(model)
    assert install_model.main(["model.zip"]) == 0
    printed = capsys.readouterr().out
    assert f"installed: {model} (fold_0)" in printed
    assert f"{tmp_path / 'checkpoints' / 'sam_tiny.pth'} is that file" in printed

    (tmp_path / "checkpoints" / "sam_tiny.pth").write_bytes(b"another")
    assert install_model.main(["model.zip", "--name", "again"]) == 0
    printed = capsys.readouterr().out
    assert "it is not here. Run samnet_download_checkpoint tiny_sam" in printed
    assert "sam_tiny.pth has another content" in printed
    (tmp_path / "image.nii.gz").touch()
    assert (
        predict.main(["-i", "image.nii.gz", "-o", "out", "-m", str(model), "--device", "cpu"]) == 2
    )
    assert "was trained on sam_tiny.pth (the released tiny_sam" in capsys.readouterr().err


def test_export_model_says_that_packaged_weights_come_with_samnet(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = PACKAGED["small"]
    save_base(Base("small", small.file_name, small.sha256), RunFolder(model / "fold_0"))
    assert export_model.main(["-o", "model.zip"]) == 0
    printed = capsys.readouterr().out
    assert f"it builds on {small.file_name}, which comes with samnet" in printed
    assert "also needs" not in printed


def test_export_model_takes_the_model_options_of_predict(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_model(model.with_name("other"), make_plan("other", **LORA), ("fold_0", "fold_1"))
    assert export_model.main(["-o", "model.zip"]) == 2
    assert f"-d {DATASET} -c other" in capsys.readouterr().err
    assert export_model.main(["-o", "model.zip", "-d", DATASET, "-c", "other", "-f", "1"]) == 0
    assert "other, fold_1, " in capsys.readouterr().out


def test_import_samed_refuses_other_files(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    described = {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, "a": 1},
        "file_ending": ".nii.gz",
    }
    Path("dataset.json").write_text(json.dumps(described))
    torch.save({"a": torch.zeros(1)}, "other.pth")
    typed = ["--dataset-json", "dataset.json", "-o", "imported"]
    assert import_samed.main(["other.pth", *typed]) == 2
    assert "other.pth: no file of SAMed" in capsys.readouterr().err
    assert import_samed.main(["other.pth", *typed, "--dataset-name", "Organs"]) == 2
    assert "expected DatasetXXX_Name" in capsys.readouterr().err
