"""The pre-training of the small backbone: resumable, and the same for the same seed."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

from samnet.core.errors import UserError
from samnet.core.files import atomic_path, read_json, write_json
from samnet.core.records import from_json, to_json
from samnet.models.network import save_weights
from samnet.plan.backbones import BACKBONES
from samnet.pretraining.network import PretrainingNetwork
from samnet.pretraining.objectives import scene_losses
from samnet.pretraining.scenes import Scenes
from samnet.training.checkpoint import (
    Progress,
    find_state,
    load_training,
    read_progress,
    save_training,
)

BACKBONE = "small"
WEIGHTS, CURVE, RECIPE = f"{BACKBONE}.safetensors", "pretraining.jsonl", "recipe.json"
LOG_EVERY = 50
SAVE_EVERY_SECONDS = 120.0
# First on images of a quarter of the pixels, which cost a third: most of what there is to learn shows there too.
COARSE_SIZE, FINE_SIZE = 112, 224
WARMUP_STEPS = 200
DECAY_SHARE = 0.15
_BETAS = (0.9, 0.98)


@dataclass(frozen=True)
class Recipe:
    """What is trained on what, and how.

    coarse_steps, fine_steps: on small images, and then on full ones. batch_size: anatomies in a step, of two
    individuals each. num_prompts: for each image, half of them boxes.
    """

    coarse_steps: int
    fine_steps: int
    seed: int = 0
    batch_size: int = 8
    num_prompts: int = 4
    learning_rate: float = 1e-3
    weight_decay: float = 0.05

    @property
    def steps(self) -> int:
        return self.coarse_steps + self.fine_steps

    def size(self, step: int) -> int:
        """Of the images of a step, from 0."""
        return COARSE_SIZE if step < self.coarse_steps else FINE_SIZE

    def rate(self, step: int) -> float:
        """The learning rate of a step: a linear rise, a constant, and a linear fall in the last `DECAY_SHARE`.

        Constant for so long that a training can be prolonged: a longer one passes through the same states first.
        """
        fall = (self.steps - step) / max(1.0, self.steps * DECAY_SHARE)
        return self.learning_rate * min(1.0, (step + 1) / WARMUP_STEPS, fall)


def pretrain(folder: Path, recipe: Recipe, device: torch.device, workers: int) -> Path:
    """Pre-train the small backbone, from where an earlier call in the same folder was ended.

    Leaves the loss curve (`pretraining.jsonl`), the recipe, the state to go on from, and the weights.

    Returns:
        the file of the weights, in half precision.

    Raises:
        UserError: the folder holds a training by another recipe; only more steps are possible.
    """
    _keep_recipe(folder, recipe)
    torch.manual_seed(recipe.seed)
    state = find_state(folder)
    progress = read_progress(state) if state else Progress()
    network, optimizer = _build(recipe, recipe.size(max(0, progress.step - 1)), device)
    if state:
        load_training(state, network, optimizer)
    curve = _Curve(folder / CURVE, progress.step)
    saved = time.monotonic()
    with tqdm(total=recipe.steps, initial=progress.step, desc="pre-training", unit="step") as bar:
        for size, batch in _batches(recipe, progress.step, workers):
            if size != network.size:
                network, optimizer = _resize(network, optimizer, recipe, size, device)
            began = time.monotonic()
            for group in optimizer.param_groups:
                group["lr"] = recipe.rate(progress.step)
            losses = scene_losses(
                network, {key: value.to(device) for key, value in batch.items()}, progress.step
            )
            optimizer.zero_grad(set_to_none=True)
            (losses["mask"] + losses["iou"] + losses["prototype"]).backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            progress.step += 1
            progress.seconds += time.monotonic() - began
            curve.add(
                progress, size, {name: float(value.detach()) for name, value in losses.items()}
            )
            bar.update()
            # Only where the curve has a point, so that a resumed training has the same points.
            if progress.step % LOG_EVERY == 0 and time.monotonic() - saved > SAVE_EVERY_SECONDS:
                save_training(folder, network, optimizer, progress)
                saved = time.monotonic()
    save_training(folder, network, optimizer, progress)
    save_weights(network.released(), folder / WEIGHTS, {"recipe": json.dumps(to_json(recipe))})
    return folder / WEIGHTS


def _keep_recipe(folder: Path, recipe: Recipe) -> None:
    file = folder / RECIPE
    state = find_state(folder)
    if state:
        earlier = from_json(Recipe, read_json(file), str(file))
        longer = replace(earlier, coarse_steps=recipe.coarse_steps, fine_steps=recipe.fine_steps)
        done = read_progress(state).step
        if longer != recipe or (
            recipe.coarse_steps != earlier.coarse_steps and done > earlier.coarse_steps
        ):
            raise UserError(
                f"{folder} holds a pre-training by another recipe, {earlier}; choose another folder"
            )
    folder.mkdir(parents=True, exist_ok=True)
    write_json(file, to_json(recipe))


def _batches(recipe: Recipe, step: int, workers: int) -> Iterator[tuple[int, dict[str, Tensor]]]:
    """The size of the images and the batch of every step that is left."""
    for size, end in ((COARSE_SIZE, recipe.coarse_steps), (FINE_SIZE, recipe.steps)):
        loader = DataLoader(
            Scenes(recipe.seed, size, recipe.num_prompts),
            batch_size=recipe.batch_size,
            sampler=range(step * recipe.batch_size, end * recipe.batch_size),
            num_workers=workers,
            prefetch_factor=4 if workers else None,
        )
        for batch in loader:
            yield size, batch
        step = max(step, end)


def _build(
    recipe: Recipe, size: int, device: torch.device
) -> tuple[PretrainingNetwork, torch.optim.Optimizer]:
    network = PretrainingNetwork(BACKBONES[BACKBONE], size).to(device)
    optimizer = torch.optim.AdamW(
        network.parameters(),
        lr=recipe.learning_rate,
        betas=_BETAS,
        weight_decay=recipe.weight_decay,
    )
    return network, optimizer


def _resize(
    network: PretrainingNetwork,
    optimizer: torch.optim.Optimizer,
    recipe: Recipe,
    size: int,
    device: torch.device,
) -> tuple[PretrainingNetwork, torch.optim.Optimizer]:
    """The same for images of another size; what the optimiser knows of position tables is forgotten."""
    resized, new_optimizer = _build(recipe, size, device)
    resized.load_adapter(network.adapter(), "")
    for old, new in zip(network.parameters(), resized.parameters(), strict=True):
        if old.shape == new.shape and old in optimizer.state:
            new_optimizer.state[new] = optimizer.state[old]
    return resized, new_optimizer


class _Curve:
    """Mean losses of every `LOG_EVERY` steps, a line of JSON each. step: what a file has beyond it is dropped."""

    def __init__(self, file: Path, step: int) -> None:
        self.file = file
        self.sums: dict[str, float] = {}
        lines = file.read_text(encoding="utf-8").splitlines() if step and file.is_file() else []
        with atomic_path(file) as temporary:
            kept = [line for line in lines if json.loads(line)["step"] <= step]
            temporary.write_text("".join(line + "\n" for line in kept), encoding="utf-8")

    def add(self, progress: Progress, size: int, losses: dict[str, float]) -> None:
        for name, value in losses.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        if progress.step % LOG_EVERY:
            return
        row = {"step": progress.step, "seconds": round(progress.seconds, 1), "size": size}
        row |= {name: round(value / LOG_EVERY, 4) for name, value in self.sums.items()}
        self.sums = {}
        with self.file.open("a", encoding="utf-8") as handle:
            handle.write(json.dumps(row) + "\n")
