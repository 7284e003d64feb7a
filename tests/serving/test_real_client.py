"""The client package of MONAI Label, which its module for 3D Slicer uses, against a server.

It is installed without its dependencies in a folder of its own: the client needs neither torch nor
MONAI.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders.serving import NAME, files_below, listening, make_service, write_served_dataset
from builders.tiny import prepare_dataset

from samnet.dataset.images import read_image, read_labels
from samnet.inference.predictor import Predictor

SCRIPT = Path(__file__).with_name("monai_client.py")
PACKAGES = ["monailabel==0.8.5", "requests", "urllib3", "idna", "certifi", "charset-normalizer"]
# `cgi`, which the client needs, was removed from Python 3.13.
PACKAGES += ["legacy-cgi"] if sys.version_info >= (3, 13) else []
SITE = """
from samnet.plan.backbones import BACKBONES, Backbone

BACKBONES["tiny"] = Backbone("tiny", 32, 2, 2, (1,), None)
"""


@pytest.fixture(scope="module")
def client_packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the client package."""
    folder = tmp_path_factory.mktemp("client")
    options = ["--quiet", "--no-deps", "--no-compile", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "install", *options, "--target", str(folder), *PACKAGES]
    try:
        process = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    except subprocess.TimeoutExpired:
        pytest.skip("the client of MONAI Label cannot be installed: pip takes too long")
    if process.returncode:
        pytest.skip(f"the client of MONAI Label cannot be installed: {process.stderr[-300:]}")
    return folder


@pytest.fixture
def tiny_for_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let commands that the server starts know the tiny backbone."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(SITE, encoding="utf-8")
    root = Path(__file__).resolve().parents[2]
    known = [str(site), str(root), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(known))


def run_client(packages: Path, *arguments: str) -> dict[str, Any]:
    environment = os.environ | {"PYTHONPATH": str(packages)}
    process = subprocess.run(
        [sys.executable, str(SCRIPT), *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert process.returncode == 0, process.stderr[-2000:]
    told: dict[str, Any] = json.loads(process.stdout.splitlines()[-1])
    return told


def test_user_of_slicer_labels_predicts_and_trains(
    client_packages: Path,
    tiny_for_commands: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = write_served_dataset(tmp_path, monkeypatch)
    settings = {"initial_weights": "random", "precision": "float32"}
    prepare_dataset(tmp_path, 501, monkeypatch, views=[0], slicing_axis=0, **settings)
    service = make_service(folder)
    images = folder.raw / "imagesUnlabelled"
    label, new = tmp_path / "truth" / "case_03.nii.gz", tmp_path / "new.nii.gz"
    new.write_bytes((folder.training_images / "case_00_0000.nii.gz").read_bytes())
    received = tmp_path / "received"
    received.mkdir()
    image = read_image([images / "case_03_0000.nii.gz"])
    expected = Predictor.from_folder(folder.model("lora"), device="cpu").predict_on_grid(
        image.array, image.grid
    )
    with listening(service) as url:
        told = run_client(client_packages, url, str(new), str(label), str(received))

    assert told["info"]["name"] == NAME
    assert told["info"]["models"]["lora"]["labels"] == {"one": 1, "two": 2}
    assert told["info"]["datastore"] == {"total": 6, "completed": 3, "label_tags": {"final": 3}}
    assert told["auth"] is False
    assert told["sample"]["id"] == "case_03"
    assert Path(told["sample"]["path"]) == images / "case_03_0000.nii.gz"

    predicted = read_labels(Path(told["file"]))
    assert predicted.grid.difference(image.grid) is None
    assert np.array_equal(predicted.array[0], expected)
    assert expected.any()
    assert told["params"]["label_names"] == {"one": 1, "two": 2}

    saved = read_labels(folder.training_labels / "case_03.nii.gz")
    assert np.array_equal(saved.array, read_labels(label).array)
    assert told["saved"] == {"image": "case_03", "label": "case_03", "tag": "final"}
    assert "final" in told["datastore"]["objects"]["case_03"]["labels"]
    assert np.array_equal(read_labels(Path(told["downloaded"])).array, saved.array)
    assert told["next"]["id"] == "case_04"

    assert told["session"]["image"] == "0000.nii.gz"
    assert Path(told["session_file"]).is_file()
    assert told["uploaded"] == {"image": "5_new_scan"}
    assert Path(told["file_of_uploaded"]).is_file()

    assert told["train"]["status"] in ("SUBMITTED", "RUNNING")
    assert told["running"] == [True]
    assert told["trained"]["status"] == "DONE", told["trained"]["details"]
    assert told["stopped"] is None
    assert "fold_all" in told["models"]["lora"]["description"]
    record = json.loads((folder.model("lora") / "fold_all" / "run.json").read_text())
    assert "case_03" in record["request"]["training_cases"]
    assert record["request"]["start_from"]["folder"].endswith("lora/fold_0")
    assert files_below(folder.preprocessed / "serving") == {"training.log"}
