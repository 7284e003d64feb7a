"""The pre-training run: reproducible, resumable, and with weights that samnet can load."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from samnet.core.errors import UserError
from samnet.models.checkpoints import load_checkpoint, load_sam_weights
from samnet.models.encoder import build_encoder
from samnet.models.heads import build_head
from samnet.models.model_folder import LAST, RunFolder
from samnet.plan.backbones import BACKBONES
from samnet.pretraining import scenes
from samnet.pretraining.network import PretrainingNetwork
from samnet.pretraining.recipe import Recipe
from samnet.pretraining.run import CURVE, RECIPE, pretrain

SHORT = Recipe(coarse_steps=2, fine_steps=2, batch_size=1, num_prompts=2, sizes=(64, 96))
CPU = torch.device("cpu")


def run(folder: Path, recipe: Recipe = SHORT, on_save: Callable[[int], None] | None = None) -> Path:
    """Pre-train on the CPU, with a point of the curve and a saved state after every step."""
    return pretrain(folder, recipe, CPU, 0, log_every=1, save_every_seconds=-1.0, on_save=on_save)


def curve(folder: Path) -> list[dict[str, float]]:
    """Return the points of a loss curve without their times."""
    rows = []
    for line in (folder / CURVE).read_text().splitlines():
        row = json.loads(line)
        for name in ("seconds", "images_per_second", "waiting"):
            del row[name]
        rows.append(row)
    return rows


@pytest.fixture(autouse=True, scope="module")
def small_blocks() -> Iterator[None]:
    """Draw three scenes at once, so that a resumed run starts within a block."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scenes, "BLOCK_PIXELS", 3 * 2 * 64**2)
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that was not interrupted."""
    folder = tmp_path_factory.mktemp("finished")
    run(folder)
    return folder


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that was interrupted after its first step."""

    def interrupt(step: int) -> None:
        raise KeyboardInterrupt

    folder = tmp_path_factory.mktemp("begun")
    with pytest.raises(KeyboardInterrupt):
        run(folder, on_save=interrupt)
    return folder


def test_pretrain_resumes_an_interrupted_run_with_equal_results(
    finished: Path, begun: Path, tmp_path: Path
) -> None:
    shutil.copytree(begun, tmp_path, dirs_exist_ok=True)
    assert len(curve(tmp_path)) == 1
    weights = run(tmp_path)
    assert curve(tmp_path) == curve(finished)
    expected = load_file(finished / weights.name)
    assert all((value == expected[name]).all() for name, value in load_file(weights).items())


def test_pretrain_starts_with_small_images(finished: Path) -> None:
    assert [row["size"] for row in curve(finished)] == [64, 64, 96, 96]


def test_pretrain_calls_on_save_after_every_saved_state(tmp_path: Path) -> None:
    steps: list[int] = []
    run(tmp_path, replace(SHORT, fine_steps=0), on_save=steps.append)
    assert steps == [1, 2]


def test_pretrain_depends_on_the_seed(finished: Path, tmp_path: Path) -> None:
    run(tmp_path, replace(SHORT, seed=1, fine_steps=0))
    assert curve(tmp_path)[0]["prototype"] != curve(finished)[0]["prototype"]


def test_pretrain_prolongs_a_run_but_does_not_change_its_recipe(tmp_path: Path) -> None:
    run(tmp_path, replace(SHORT, fine_steps=0))
    run(tmp_path, replace(SHORT, fine_steps=1))
    assert [row["step"] for row in curve(tmp_path)] == [1, 2, 3]
    for other in (replace(SHORT, seed=1), replace(SHORT, coarse_steps=5)):
        with pytest.raises(UserError, match="another recipe"):
            run(tmp_path, other)


def test_pretrain_does_not_resume_a_run_with_the_scenes_of_the_first_version(
    begun: Path, tmp_path: Path
) -> None:
    shutil.copytree(begun, tmp_path, dirs_exist_ok=True)
    recipe = json.loads((tmp_path / RECIPE).read_text())
    for key in ("scenes", "averaging", "prototype_weight", "spread"):
        del recipe[key]
    (tmp_path / RECIPE).write_text(json.dumps(recipe))
    with pytest.raises(UserError, match=r"another recipe.*scenes=1"):
        run(tmp_path)


def test_pretrain_logs_its_speed_and_how_long_it_waits_for_images(finished: Path) -> None:
    rows = [json.loads(line) for line in (finished / CURVE).read_text().splitlines()]
    assert all(row["images_per_second"] > 0 for row in rows)
    assert all(0 <= row["waiting"] < 1 for row in rows)
    assert rows[0]["waiting"] > 0  # the first block is drawn


def test_pretrain_has_equal_results_with_a_worker(finished: Path, tmp_path: Path) -> None:
    pretrain(tmp_path, replace(SHORT, coarse_steps=1, fine_steps=0), CPU, 1, log_every=1)
    for name in ("mask", "prototype"):
        expected = [row[name] for row in curve(finished)[:1]]
        assert [row[name] for row in curve(tmp_path)[:1]] == pytest.approx(expected, rel=1e-3)


def test_pretrain_resumes_averaged_weights(tmp_path: Path) -> None:
    recipe = replace(SHORT, averaging=0.9)
    whole, interrupted = tmp_path / "whole", tmp_path / "interrupted"
    run(whole, recipe)

    def interrupt(step: int) -> None:
        if step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(interrupted, recipe, interrupt)
    resumed, expected = load_file(run(interrupted, recipe)), load_file(whole / "small.safetensors")
    assert all((value == expected[name]).all() for name, value in resumed.items())
    last = load_state(whole)
    name = "image_encoder.blocks.0.mlp.lin1.weight"
    assert (expected[name] != last[f"network.{name}"].half()).any()
    averaged = last[f"network.averaged.{name}"]
    assert (expected[name] == averaged.half()).all()
    torch.manual_seed(recipe.seed)
    start = PretrainingNetwork(BACKBONES["small"], 64).adapter()[name]
    assert (
        0 < (averaged - last[f"network.{name}"]).norm() < (start - last[f"network.{name}"]).norm()
    )
    assert (averaged != start).any()


def test_pretrain_weighs_the_objective_from_one_example(begun: Path, tmp_path: Path) -> None:
    """The gradient of its scale, a scalar, comes from this objective alone."""
    run(tmp_path, replace(SHORT, coarse_steps=1, fine_steps=0, prototype_weight=1e-4))
    momenta = []
    for folder in (begun, tmp_path):
        state = load_state(folder)
        scalars = [value for name, value in state.items() if name.endswith("exp_avg")]
        momenta.append(min(scalars, key=lambda value: value.numel()).abs().max())
    assert momenta[1] < 0.01 * momenta[0]


def test_recipe_divides_the_coarse_steps_among_all_sizes_but_the_last() -> None:
    recipe = Recipe(coarse_steps=10, fine_steps=4, sizes=(112, 160, 224))
    assert [tuple(stage) for stage in recipe.stages] == [(112, 0, 5), (160, 5, 10), (224, 10, 14)]
    sizes = [recipe.image_size_at(step) for step in (0, 4, 5, 9, 10, 14)]
    assert sizes == [112, 112, 160, 160, 224, 224]
    assert Recipe(3, 4, sizes=(112,)).stages == ((112, 0, 7),)


def test_recipe_learning_rate_rises_stays_and_falls() -> None:
    recipe = Recipe(coarse_steps=1000, fine_steps=1000, learning_rate=0.5)
    assert recipe.learning_rate_at(0) == pytest.approx(0.5 / 200)
    assert recipe.learning_rate_at(500) == recipe.learning_rate_at(1699) == 0.5
    assert recipe.learning_rate_at(1850) == pytest.approx(0.25)
    assert recipe.learning_rate_at(1999) == pytest.approx(0.5 / 300)


def load_state(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(RunFolder(folder).checkpoint(LAST))


def test_pretrain_takes_its_first_step_by_the_rate_of_the_warm_up(begun: Path) -> None:
    """Adam's first step changes each weight by the rate, 0.001 / 200, apart from its decay."""
    state = load_state(begun)
    torch.manual_seed(SHORT.seed)
    start = PretrainingNetwork(BACKBONES["small"], 64).adapter()
    changes = {name: (state[f"network.{name}"] - start[name]).abs().max() for name in start}
    assert 4e-6 < max(changes.values()) < 8e-6
    for name in ("mask_decoder.iou_prediction_head", "mask_decoder.output_hypernet", "log_scale"):
        assert max(changes[key] for key in changes if key.startswith(name)) > 0


def test_pretrain_keeps_what_the_optimiser_has_learnt_when_the_images_grow(finished: Path) -> None:
    """Only the position tables, which change their shape, begin anew."""
    state = load_state(finished)
    steps = [int(value) for name, value in state.items() if name.endswith(".step")]
    assert steps.count(4) > len(steps) / 2
    assert 2 in steps


@pytest.mark.parametrize("head", ["mask_decoder", "upsampling", "upsampling_quarter"])
def test_pretrain_weights_fill_the_small_backbone_and_its_heads(finished: Path, head: str) -> None:
    weights = load_checkpoint(finished / "small.safetensors")
    assert all(value.dtype == torch.float16 for value in weights.values())
    encoder = build_encoder(BACKBONES["small"], 448)
    built = build_head(head, 3, 28, BACKBONES["small"])
    load_sam_weights(encoder, built, weights, "file")
    name = "upsampling.project.weight"
    if head == "mask_decoder":
        name = "mask_decoder.output_upscaling.0.weight"
    assert torch.equal(built.state_dict()[name], weights[name].float())
    expected = weights["image_encoder.blocks.0.mlp.lin1.weight"].float()
    assert torch.equal(encoder.blocks[0].mlp.lin1.weight, expected)
