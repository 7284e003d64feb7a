from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from samnet.core.errors import UserError
from samnet.models.checkpoints import load_checkpoint, load_sam_weights
from samnet.models.encoder import build_encoder
from samnet.models.heads import build_head
from samnet.plan.backbones import BACKBONES
from samnet.pretraining import run
from samnet.pretraining.run import CURVE, Recipe, pretrain

SHORT = Recipe(coarse_steps=2, fine_steps=2, batch_size=1, num_prompts=2)
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def points_at_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "LOG_EVERY", 1)
    monkeypatch.setattr(run, "SAVE_EVERY_SECONDS", -1.0)


def curve(folder: Path) -> list[dict[str, float]]:
    rows = [json.loads(line) for line in (folder / CURVE).read_text().splitlines()]
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "LOG_EVERY", 1)
        pretrain(folder, SHORT, CPU, 0)
    return folder


def test_the_same_seed_gives_the_same_curve_also_after_an_interruption(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save, calls = run.save_training, []

    def interrupt(*arguments: object) -> None:
        save(*arguments)  # type: ignore[arg-type]
        calls.append(arguments)
        if len(calls) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(run, "save_training", interrupt)
    with pytest.raises(KeyboardInterrupt):
        pretrain(tmp_path, SHORT, CPU, 0)
    assert len(curve(tmp_path)) == 1
    weights = pretrain(tmp_path, SHORT, CPU, 0)
    assert curve(tmp_path) == curve(whole)
    assert [row["size"] for row in curve(whole)] == [112, 112, 224, 224]
    expected = load_file(whole / weights.name)
    assert all((value == expected[name]).all() for name, value in load_file(weights).items())


def test_another_seed_gives_another_curve(whole: Path, tmp_path: Path) -> None:
    pretrain(tmp_path, replace(SHORT, seed=1, fine_steps=0), CPU, 0)
    assert curve(tmp_path)[0]["prototype"] != curve(whole)[0]["prototype"]


def test_a_training_can_be_prolonged_and_not_changed(tmp_path: Path) -> None:
    short = replace(SHORT, fine_steps=0)
    pretrain(tmp_path, short, CPU, 0)
    pretrain(tmp_path, replace(SHORT, fine_steps=1), CPU, 0)
    assert [row["step"] for row in curve(tmp_path)] == [1, 2, 3]
    for other in (replace(SHORT, seed=1), replace(SHORT, coarse_steps=5)):
        with pytest.raises(UserError, match="another recipe"):
            pretrain(tmp_path, other, CPU, 0)


def test_the_rate_rises_stays_and_falls() -> None:
    recipe = Recipe(coarse_steps=1000, fine_steps=1000, learning_rate=0.5)
    assert recipe.rate(0) == pytest.approx(0.5 / 200)
    assert recipe.rate(500) == recipe.rate(1699) == 0.5
    assert recipe.rate(1850) == pytest.approx(0.25)
    assert recipe.rate(1999) == pytest.approx(0.5 / 300)


@pytest.mark.parametrize("head", ["mask_decoder", "upsampling", "upsampling_quarter"])
def test_the_weights_fill_the_small_backbone_and_its_heads(whole: Path, head: str) -> None:
    weights = load_checkpoint(whole / "small.safetensors")
    assert all(value.dtype == torch.float16 for value in weights.values())
    encoder = build_encoder(BACKBONES["small"], 448)
    built = build_head(head, 3, 28, BACKBONES["small"])
    load_sam_weights(encoder, built, weights, "file")
    name = (
        "mask_decoder.output_upscaling.0.weight"
        if head == "mask_decoder"
        else "upsampling.project.weight"
    )
    assert torch.equal(built.state_dict()[name], weights[name].float())
    assert torch.equal(
        encoder.blocks[0].mlp.lin1.weight, weights["image_encoder.blocks.0.mlp.lin1.weight"].float()
    )
