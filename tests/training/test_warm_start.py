"""`samnet_train --from`: another model's weights as the start."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from builders.data import write_dataset
from builders.models import LORA, add_tiny_sam, make_model, make_plan
from builders.runs import read_rows
from builders.tiny import add_tiny_backbone, make_configuration, prepare_dataset, use_folders
from torch import Tensor

from samnet.cli import train as command
from samnet.core.errors import UserError
from samnet.models.base import find_base_file, load_base
from samnet.models.model_folder import FINAL, RunFolder
from samnet.models.network import build_network, load_weights
from samnet.planning.planned_dataset import PlannedDataset
from samnet.training.distributed import Distributed
from samnet.training.open_run import open_run
from samnet.training.options import TrainingOptions
from samnet.training.resolve import resolve_run
from samnet.training.run import train
from samnet.training.run_record import RunRecord
from samnet.training.warm_start import Source, choose_source, warm_start


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prepare a data set of one class and one of two, and train a model on the first."""
    folder = tmp_path_factory.mktemp("start")
    with pytest.MonkeyPatch.context() as patch:
        add_tiny_backbone(patch)
        two_classes = {"background": 0, "ball": 1, "other": 2}
        write_dataset(folder / "raw", number=1, name="One", num_cases=4)
        write_dataset(folder / "raw", number=2, name="Two", num_cases=4, labels=two_classes)
        for number in (1, 2):
            prepare_dataset(folder, number, patch, steps=2, depth=1)
        options = TrainingOptions(device="cpu", workers=0)
        train(PlannedDataset.find("Dataset001_One"), "scratch", "0", options)
    return folder


@pytest.fixture
def source(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of the trained model. New training runs go elsewhere."""
    use_folders(root, tmp_path / "results", monkeypatch)
    return root / "results" / "Dataset001_One" / "scratch"


def train_two(source: Path | None, configuration: str = "scratch", **given: Any) -> RunFolder:
    """Train on the data set of two classes."""
    options = TrainingOptions(start_from=source, device="cpu", workers=0, **given)
    return train(PlannedDataset.find("Dataset002_Two"), configuration, "0", options)


def begin_two(
    source: Path | None, configuration: str = "scratch", **given: Any
) -> dict[str, Tensor]:
    """Open a run on the data set of two classes, and return the weights that it begins with.

    It ends before its first step, as if it were killed.
    """
    options = TrainingOptions(start_from=source, device="cpu", workers=0, **given)
    run = resolve_run(PlannedDataset.find("Dataset002_Two"), configuration, "0", options)
    with open_run(run, Distributed()) as trainer:
        return {name: value.clone() for name, value in trainer.network.adapter().items()}


def test_warm_start_begins_with_the_weights_that_fit(
    source: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    begun = begin_two(source)
    theirs = load_weights(RunFolder(source / "fold_0").checkpoint(FINAL))
    same = {name for name, value in begun.items() if value.shape == theirs[name].shape}
    assert all(torch.equal(begun[name], theirs[name]) for name in same)
    assert {name.split(".")[1] for name in set(begun) - same} == {"classify"}
    assert "left out: head.classify.weight: has shape (2, " in caplog.text


def test_warm_start_of_a_killed_run_begins_with_the_same_weights_again(source: Path) -> None:
    first = begin_two(source)
    for again in (begin_two(source), begin_two(None, resume=True)):
        assert all(torch.equal(value, again[name]) for name, value in first.items())


def test_restart_begins_with_the_weights_of_the_other_model_again(source: Path) -> None:
    first = begin_two(source)
    train_two(source)
    again = begin_two(source, restart=True)
    assert all(torch.equal(value, again[name]) for name, value in first.items())


def test_record_of_a_run_names_the_model_it_started_from(source: Path) -> None:
    folder = train_two(source / "fold_0")
    record = RunRecord.load(folder)
    assert record is not None
    assert record.request.start_from == choose_source(source)
    before = folder.checkpoint(FINAL).read_bytes()
    train_two(source)
    train_two(None, resume=True)
    assert folder.checkpoint(FINAL).read_bytes() == before
    with pytest.raises(UserError, match="with other settings"):
        train_two(None)
    assert not folder.base_file.exists()  # the run builds on random weights alone


def test_option_from_names_a_model_folder(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    typed = ["2", "scratch", "--workers", "0", "--device", "cpu", "--from"]
    assert command.main([*typed, str(tmp_path / "none")]) == 2
    assert "no such model folder" in capsys.readouterr().err
    assert command.main([*typed, str(source)]) == 0


def test_choose_source_needs_a_single_finished_fold(source: Path, tmp_path: Path) -> None:
    model = shutil.copytree(source, tmp_path / "model")
    shutil.copytree(model / "fold_0", model / "fold_1")
    with pytest.raises(UserError, match="has fold_0, fold_1; name the folder of one"):
        choose_source(model)
    RunFolder(model / "fold_1").checkpoint(FINAL).unlink()
    assert choose_source(model).folder == str(model / "fold_0")


def test_warm_start_refuses_a_model_that_has_changed(source: Path) -> None:
    network = build_network(make_configuration(), 1, 3)
    for folder in (source / "fold_0", source / "fold_9"):
        with pytest.raises(UserError, match="has changed, or is gone, since this run began"):
            warm_start(network, Source(str(folder), "0" * 64), None)


def test_warm_start_refuses_an_adapter_of_another_base(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_tiny_sam(tmp_path / "checkpoints", monkeypatch)
    plan = make_plan(**LORA)
    model = make_model(tmp_path / "lora", plan)
    configuration = plan.configuration("lora")
    network, file = build_network(configuration, 1, 3), find_base_file(configuration)
    found = choose_source(model)
    assert len(warm_start(network, found, file).loaded) == len(network.adapter())

    base_file = RunFolder(model / "fold_0").base_file
    other = vars(load_base(base_file)) | {"sha256": "0" * 64, "file_name": "medsam.pth"}
    base_file.write_text(json.dumps(other))
    message = r"is an adapter of medsam\.pth .*, but this run starts from"
    with pytest.raises(UserError, match=message):
        warm_start(network, found, file)


def test_warm_start_refuses_a_model_of_which_nothing_fits(source: Path) -> None:
    configuration = make_configuration(encoder_tuning="frozen", head="linear")
    frozen = build_network(configuration, 1, 2)
    frozen.trainable_only = True
    with pytest.raises(UserError, match="none of its weights fits this network\n0 weights"):
        warm_start(frozen, choose_source(source), None)


def test_run_records_the_weights_it_builds_on(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_tiny_sam(tmp_path / "checkpoints", monkeypatch)
    settings = {"backbone": "tiny_sam", "input_size": 32, "head": "linear", "steps": 2}
    folder = RunFolder(tmp_path / "results" / "Dataset002_Two" / "lora" / "fold_0")
    released = tmp_path / "checkpoints" / "sam_tiny.pth"
    mine = tmp_path / "medsam.pth"
    mine.write_bytes(released.read_bytes() + b" ")  # another file of the same weights
    for initial_weights, name in (("pretrained", released.name), (str(mine), mine.name)):
        given = settings | {"initial_weights": initial_weights, "encoder_tuning": "lora"}
        begin_two(None, "lora", settings=given)
        assert load_base(folder.base_file).file_name == name


def test_resumed_run_keeps_the_weights_it_builds_on(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_tiny_sam(tmp_path / "checkpoints", monkeypatch)
    file = tmp_path / "checkpoints" / "sam_tiny.pth"
    given = {
        "backbone": "tiny_sam",
        "initial_weights": "pretrained",
        "encoder_tuning": "lora",
        "head": "linear",
        "input_size": 32,
        "steps": 2,
    }
    folder = train_two(None, "lora", settings=given)
    before = folder.base_file.read_text()
    train_two(None, "lora", settings={"steps": 3}, resume=True)
    weights = torch.load(file, weights_only=True)
    torch.save({key: value * 2 for key, value in weights.items()}, file)
    message = r"was trained on sam_tiny\.pth .* has another content"
    with pytest.raises(UserError, match=message):
        train_two(None, "lora", settings={"steps": 4}, resume=True)
    assert folder.base_file.read_text() == before


def test_resumed_run_does_not_need_the_model_it_started_from(source: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(source, tmp_path / "copied")
    folder = train_two(copied)
    shutil.rmtree(copied)
    train_two(None, resume=True, settings={"steps": 4})
    assert len(read_rows(folder)) == 2
