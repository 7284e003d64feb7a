"""`samnet_train --from`: another model's weights as the start."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from builders.models import LORA, add_tiny_sam, make_model, make_plan
from builders.tiny import (
    add_tiny_backbone,
    make_configuration,
    one_process,
    prepare_dataset,
    use_folders,
)
from torch import Tensor

from samnet.cli import train as command
from samnet.core.errors import UserError
from samnet.models.base import BASE_FILE, find_base_file, load_base
from samnet.models.network import build_network, load_weights
from samnet.training import run
from samnet.training.run import TrainingOptions, train
from samnet.training.warm_start import Source, choose_source, start_from


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, make_dataset: Any) -> Iterator[Path]:
    """A data set of one class and one of two, prepared, and a finished training on the first."""
    folder = tmp_path_factory.mktemp("start")
    with pytest.MonkeyPatch.context() as patch:
        add_tiny_backbone(patch)
        one_process(patch)
        make_dataset(folder / "raw", number=1, name="One", num_cases=4)
        make_dataset(
            folder / "raw",
            number=2,
            name="Two",
            num_cases=4,
            labels={"background": 0, "ball": 1, "other": 2},
        )
        for number in (1, 2):
            prepare_dataset(folder, number, patch, steps=2)
        train("Dataset001_One", "scratch", "0", TrainingOptions(device="cpu", workers=0))
        yield folder


@pytest.fixture
def source(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the trained model; new trainings go elsewhere."""
    use_folders(root, tmp_path / "results", monkeypatch)
    one_process(monkeypatch)
    return root / "results" / "Dataset001_One" / "scratch"


def train_two(source: Path | None, **given: Any) -> Path:
    options = TrainingOptions(start_from=source, device="cpu", workers=0, **given)
    return train("Dataset002_Two", "scratch", "0", options)


class Stopped(Exception):
    pass


@pytest.fixture
def stopped(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Tensor]]:
    """Trainings end before their first step, as if killed; the weights they would have begun with."""
    begun: list[dict[str, Tensor]] = []

    def stop(trainer: Any) -> None:
        begun.append({name: value.clone() for name, value in trainer.network.adapter().items()})
        raise Stopped

    monkeypatch.setattr(run.Trainer, "run", stop)
    return begun


def test_a_training_begins_with_what_fits(
    source: Path, stopped: list[dict[str, Tensor]], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with pytest.raises(Stopped):
        train_two(source)
    theirs, ours = load_weights(source / "fold_0" / "checkpoint_final.safetensors"), stopped[0]
    same = {name for name, value in ours.items() if value.shape == theirs[name].shape}
    assert all(torch.equal(ours[name], theirs[name]) for name in same)
    assert {name.split(".")[1] for name in set(ours) - same} == {"classify"}
    assert "left out: head.classify.weight: has shape (2, " in caplog.text


def test_a_killed_training_begins_the_same_way_again(
    source: Path, stopped: list[dict[str, Tensor]]
) -> None:
    for resume in (False, False, True):
        with pytest.raises(Stopped):
            train_two(source if not resume else None, resume=resume)
    for other in stopped[1:]:
        assert all(torch.equal(value, other[name]) for name, value in stopped[0].items())


def test_the_record_says_where_it_came_from(source: Path) -> None:
    folder = train_two(source / "fold_0")
    asked = json.loads((folder / "run.json").read_text())["asked"]
    recorded = choose_source(source, {})
    assert recorded is not None
    assert asked["start_from"] == vars(recorded)
    before = (folder / "checkpoint_final.safetensors").read_bytes()
    train_two(source)
    train_two(None, resume=True)
    assert (folder / "checkpoint_final.safetensors").read_bytes() == before
    with pytest.raises(UserError, match="with other settings"):
        train_two(None)
    assert not (folder / BASE_FILE).exists()  # nothing but random weights is below


def test_the_option(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    typed = ["2", "scratch", "--workers", "0", "--device", "cpu", "--from"]
    assert command.main([*typed, str(tmp_path / "none")]) == 2
    assert "no such model folder" in capsys.readouterr().err
    assert command.main([*typed, str(source)]) == 0


def test_which_model(source: Path, tmp_path: Path) -> None:
    assert choose_source(None, {}) is None
    assert choose_source(None, {"start_from": {"folder": "/a", "sha256": "b"}}) == Source("/a", "b")
    model = shutil.copytree(source, tmp_path / "model")
    shutil.copytree(model / "fold_0", model / "fold_1")
    with pytest.raises(UserError, match="has fold_0, fold_1; name the folder of one"):
        choose_source(model, {})
    (model / "fold_1" / "checkpoint_final.safetensors").unlink()
    found = choose_source(model, {})
    assert found is not None
    assert found.folder == str(model / "fold_0")


def test_a_model_that_has_changed(source: Path) -> None:
    network = build_network(make_configuration(), 1, 3)
    for folder in (source / "fold_0", source / "fold_9"):
        with pytest.raises(UserError, match="has changed, or is gone, since this run was begun"):
            start_from(network, Source(str(folder), "0" * 64), None)


def test_an_adapter_of_another_base_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_tiny_sam(tmp_path / "checkpoints", monkeypatch)
    plan = make_plan(**LORA)
    model = make_model(tmp_path / "lora", plan)
    configuration = plan.configuration("lora")
    network, file = build_network(configuration, 1, 3), find_base_file(configuration)
    found = choose_source(model, {})
    assert found is not None
    assert len(start_from(network, found, file).loaded) == len(network.adapter())

    base = load_base(model / "fold_0" / BASE_FILE)
    (model / "fold_0" / BASE_FILE).write_text(
        json.dumps(vars(base) | {"sha256": "0" * 64, "file_name": "medsam.pth"})
    )
    with pytest.raises(
        UserError, match=r"is an adapter of medsam\.pth .*, but this training starts from"
    ):
        start_from(network, found, file)


def test_nothing_that_fits(source: Path) -> None:
    found = choose_source(source, {})
    assert found is not None
    frozen = build_network(
        make_configuration(encoder_tuning="frozen", initial_weights="random", head="linear"), 1, 2
    )
    frozen.trainable_only = True
    with pytest.raises(
        UserError, match="none of its weights fits this network\n0 weights taken over"
    ):
        start_from(frozen, found, None)


def test_a_training_notes_its_base(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stopped: list[dict[str, Tensor]]
) -> None:
    use_folders(root, tmp_path / "results", monkeypatch)
    add_tiny_sam(tmp_path / "checkpoints", monkeypatch)
    settings = {"backbone": "tiny_sam", "input_size": 32, "head": "linear", "steps": 2}
    folder = tmp_path / "results" / "Dataset002_Two" / "lora" / "fold_0"
    released = tmp_path / "checkpoints" / "sam_tiny.pth"
    mine = tmp_path / "medsam.pth"
    mine.write_bytes(released.read_bytes() + b" ")  # another file of the same weights
    for initial_weights, name in (("pretrained", released.name), (str(mine), mine.name)):
        given = settings | {"initial_weights": initial_weights, "encoder_tuning": "lora"}
        with pytest.raises(Stopped):
            train(
                "Dataset002_Two",
                "lora",
                "0",
                TrainingOptions(settings=given, device="cpu", workers=0),
            )
        assert load_base(folder / BASE_FILE).file_name == name


def test_a_run_that_goes_on_keeps_to_its_base(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_folders(root, tmp_path / "results", monkeypatch)
    one_process(monkeypatch)
    add_tiny_sam(tmp_path / "checkpoints", monkeypatch)
    given = {
        "backbone": "tiny_sam",
        "initial_weights": "pretrained",
        "encoder_tuning": "lora",
        "head": "linear",
    }

    def go(**options: Any) -> Path:
        return train(
            "Dataset002_Two", "lora", "0", TrainingOptions(device="cpu", workers=0, **options)
        )

    folder = go(settings=given | {"input_size": 32, "steps": 2})
    before = (folder / BASE_FILE).read_text()
    go(settings={"steps": 3}, resume=True)
    weights = torch.load(tmp_path / "checkpoints" / "sam_tiny.pth", weights_only=True)
    torch.save(
        {key: value * 2 for key, value in weights.items()},
        tmp_path / "checkpoints" / "sam_tiny.pth",
    )
    with pytest.raises(UserError, match=r"was trained on sam_tiny\.pth .* has another content"):
        go(settings={"steps": 4}, resume=True)
    assert (folder / BASE_FILE).read_text() == before


def test_a_run_that_goes_on_needs_its_source_no_more(source: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(source, tmp_path / "copied")
    folder = train_two(copied)
    shutil.rmtree(copied)
    train_two(None, resume=True, settings={"steps": 4})
    assert len((folder / "metrics.jsonl").read_text().splitlines()) == 2
