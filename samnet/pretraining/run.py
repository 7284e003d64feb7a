"""The pre-training run of the small backbone; it can be resumed and is reproducible by its seed."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from samnet.core.errors import UserError
from samnet.core.files import atomic_path, read_json, write_json
from samnet.core.progress import ProgressBar
from samnet.core.records import from_json, to_json
from samnet.models.model_folder import RunFolder
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
# Edges of the images in pixels. The first steps use images of a quarter of the pixels. They cost a
# third, and most of what the network has to learn shows in them too.
COARSE_SIZE, FINE_SIZE = 112, 224
WARMUP_STEPS = 200
DECAY_SHARE = 0.15
_BETAS = (0.9, 0.98)
_MAX_GRADIENT_NORM = 1.0


@dataclass(frozen=True)
class Recipe:
    """All settings on which the weights depend.

    Attributes:
        coarse_steps: Number of optimiser steps on small images, which come first.
        fine_steps: Number of optimiser steps on full-size images.
        seed: Seed of the initial weights and of the scenes.
        batch_size: Number of anatomies in a step, with two individuals each.
        num_prompts: Number of prompts on each image, half of them boxes.
        learning_rate: Peak learning rate.
        weight_decay: Weight decay of AdamW.
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
        """Number of all optimiser steps."""
        return self.coarse_steps + self.fine_steps

    def image_size_at(self, step: int) -> int:
        """Return the edge of the images in a step.

        Args:
            step: Number of the step, from 0.

        Returns:
            The edge in pixels.
        """
        return COARSE_SIZE if step < self.coarse_steps else FINE_SIZE

    def learning_rate_at(self, step: int) -> float:
        """Return the learning rate of a step.

        It rises linearly, stays constant, and falls linearly in the last `DECAY_SHARE` of all
        steps. The constant part is long, so that a training run can be prolonged: a longer run
        passes through the same states first.

        Args:
            step: Number of the step, from 0.

        Returns:
            The learning rate.
        """
        fall = (self.steps - step) / max(1.0, self.steps * DECAY_SHARE)
        return self.learning_rate * min(1.0, (step + 1) / WARMUP_STEPS, fall)


def pretrain(
    folder: Path,
    recipe: Recipe,
    device: torch.device,
    workers: int,
    *,
    log_every: int = LOG_EVERY,
    save_every_seconds: float = SAVE_EVERY_SECONDS,
    on_save: Callable[[int], None] | None = None,
) -> Path:
    """Pre-train the small backbone, or resume where an earlier call in the same folder ended.

    The folder then holds the loss curve (`pretraining.jsonl`), the recipe, the state to resume
    from, and the weights.

    Args:
        folder: Where to write.
        recipe: The settings.
        device: Where to train.
        workers: Number of worker processes that draw scenes; 0 draws them in this process.
        log_every: Number of steps from one point of the loss curve to the next.
        save_every_seconds: Time after which the state is saved again, in seconds.
        on_save: Called during training after each save, with the number of finished steps.

    Returns:
        The file of the weights, in half precision.

    Raises:
        UserError: The folder holds a training run by another recipe; only the numbers of steps may
            be raised.
    """
    _keep_recipe(folder, recipe)
    torch.manual_seed(recipe.seed)
    state = find_state(RunFolder(folder))
    progress = read_progress(state) if state else Progress()
    network, optimizer = _build(recipe, recipe.image_size_at(max(0, progress.step - 1)), device)
    if state:
        load_training(state, network, optimizer)
    curve = _Curve(folder / CURVE, progress.step, log_every)
    saved_at = time.monotonic()
    with ProgressBar(
        total=recipe.steps, initial=progress.step, desc="pre-training", unit="step"
    ) as bar:
        for size, batch in _batches(recipe, progress.step, device, workers):
            if size != network.size:
                network, optimizer = _resize(network, optimizer, recipe, size, device)
            started_at = time.monotonic()
            learning_rate = recipe.learning_rate_at(progress.step)
            losses = _train_step(network, optimizer, batch, progress.step, learning_rate)
            progress.step += 1
            progress.seconds += time.monotonic() - started_at
            curve.add(progress, size, losses)
            bar.update()
            # Only where the curve has a point, so that a resumed run has the same points.
            at_point = progress.step % log_every == 0
            if at_point and time.monotonic() - saved_at > save_every_seconds:
                save_training(RunFolder(folder), network, optimizer, progress)
                saved_at = time.monotonic()
                if on_save:
                    on_save(progress.step)
    save_training(RunFolder(folder), network, optimizer, progress)
    save_weights(network.released(), folder / WEIGHTS, {"recipe": json.dumps(to_json(recipe))})
    return folder / WEIGHTS


def _keep_recipe(folder: Path, recipe: Recipe) -> None:
    """Write the recipe; raise UserError where the folder's run cannot be resumed with it."""
    file = folder / RECIPE
    state = find_state(RunFolder(folder))
    if state:
        earlier = from_json(Recipe, read_json(file), str(file))
        with_new_steps = replace(
            earlier, coarse_steps=recipe.coarse_steps, fine_steps=recipe.fine_steps
        )
        past_coarse_steps = read_progress(state).step > earlier.coarse_steps
        coarse_steps_differ = recipe.coarse_steps != earlier.coarse_steps
        if with_new_steps != recipe or (coarse_steps_differ and past_coarse_steps):
            raise UserError(
                f"{folder} holds a pre-training run by another recipe, {earlier}; choose another "
                "folder"
            )
    folder.mkdir(parents=True, exist_ok=True)
    write_json(file, to_json(recipe))


def _batches(
    recipe: Recipe, step: int, device: torch.device, workers: int
) -> Iterator[tuple[int, dict[str, Tensor]]]:
    """Yield the size of the images and the batch of every remaining step."""
    begin = 0
    for size, end in ((COARSE_SIZE, recipe.coarse_steps), (FINE_SIZE, recipe.steps)):
        if step < end:
            for batch in _batches_of_size(recipe, size, step - begin, end - begin, device, workers):
                yield size, batch
        step, begin = max(step, end), end


def _batches_of_size(
    recipe: Recipe, size: int, first: int, end: int, device: torch.device, workers: int
) -> Iterator[dict[str, Tensor]]:
    """Yield the batches from `first` to before `end` of those of a size."""
    on_gpu = device.type == "cuda"
    place = device if on_gpu else torch.device("cpu")
    scenes = Scenes(recipe.seed, size, recipe.num_prompts, recipe.batch_size, place)
    blocks = range(first // scenes.batches, -(-end // scenes.batches))
    loader = DataLoader(
        scenes,
        batch_size=None,
        sampler=blocks,
        num_workers=0 if on_gpu else workers,
        prefetch_factor=2 if workers and not on_gpu else None,
    )
    number = blocks.start * scenes.batches
    for block in loader:
        for batch in block:
            if first <= number < end:
                yield batch
            number += 1


def _train_step(
    network: PretrainingNetwork,
    optimizer: torch.optim.Optimizer,
    batch: dict[str, Tensor],
    step: int,
    learning_rate: float,
) -> dict[str, Tensor]:
    """Do one optimiser step and return the losses by name."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
    device = network.log_scale.device
    batch = {name: value.to(device) for name, value in batch.items()}
    losses = scene_losses(network, batch, step)
    optimizer.zero_grad(set_to_none=True)
    (losses["mask"] + losses["iou"] + losses["prototype"]).backward()
    torch.nn.utils.clip_grad_norm_(network.parameters(), _MAX_GRADIENT_NORM)
    optimizer.step()
    return losses


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
    """Return network and optimiser for images of another size.

    The optimiser's moments of position tables are dropped, because the tables change their shape.
    """
    resized, new_optimizer = _build(recipe, size, device)
    resized.load_adapter(network.adapter(), "")
    for old, new in zip(network.parameters(), resized.parameters(), strict=True):
        if old.shape == new.shape and old in optimizer.state:
            new_optimizer.state[new] = optimizer.state[old]
    return resized, new_optimizer


class _Curve:
    """The file of the loss curve: mean losses of every `log_every` steps, one JSON object a line.

    Points beyond `step` are removed at the start: the steps after the last saved state run again.
    """

    def __init__(self, file: Path, step: int, log_every: int) -> None:
        self.file = file
        self.log_every = log_every
        self.sums: dict[str, float] = {}
        lines = file.read_text(encoding="utf-8").splitlines() if step and file.is_file() else []
        with atomic_path(file) as temporary:
            kept = [line for line in lines if json.loads(line)["step"] <= step]
            temporary.write_text("".join(line + "\n" for line in kept), encoding="utf-8")

    def add(self, progress: Progress, size: int, losses: dict[str, Tensor]) -> None:
        for name, value in losses.items():
            self.sums[name] = self.sums.get(name, 0.0) + float(value.detach())
        if progress.step % self.log_every:
            return
        row = {"step": progress.step, "seconds": round(progress.seconds, 1), "size": size}
        row |= {name: round(total / self.log_every, 4) for name, total in self.sums.items()}
        self.sums = {}
        with self.file.open("a", encoding="utf-8") as handle:
            handle.write(json.dumps(row) + "\n")
