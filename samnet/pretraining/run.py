"""The pre-training run of the small backbone; it can be resumed and is reproducible by its seed."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from samnet.core.errors import UserError
from samnet.core.files import read_json, write_json
from samnet.core.progress import ProgressBar
from samnet.core.records import from_json, to_json
from samnet.models.model_folder import RunFolder
from samnet.models.network import save_weights
from samnet.plan.backbones import BACKBONES
from samnet.pretraining.averaging import AveragedNetwork
from samnet.pretraining.curve import Curve
from samnet.pretraining.network import PretrainingNetwork
from samnet.pretraining.objectives import scene_losses
from samnet.pretraining.recipe import Recipe
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
_BETAS = (0.9, 0.98)
_MAX_GRADIENT_NORM = 1.0


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
        workers: Number of worker processes that draw scenes; 0 draws them in this process. On a
            CUDA device they are drawn there, in this process.
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
    size = recipe.image_size_at(max(0, progress.step - 1))
    networks, optimizer = _build(recipe, size, device)
    if state:
        load_training(state, networks, optimizer)
    curve = Curve(folder / CURVE, progress.step, log_every)
    saved_at = ended_at = time.monotonic()
    with ProgressBar(
        total=recipe.steps, initial=progress.step, desc="pre-training", unit="step"
    ) as bar:
        for size, batch in _batches(recipe, progress.step, device, workers):
            if size != networks.network.size:
                networks, optimizer = _resize(networks, optimizer, recipe, size, device)
            waited = time.monotonic() - ended_at
            losses = _train_step(networks, optimizer, batch, progress.step, recipe)
            now = time.monotonic()
            computed = now - ended_at - waited
            progress.step += 1
            progress.seconds += computed
            curve.add_time(batch["image"].shape[:2].numel(), waited, computed)
            curve.add(progress, size, losses)
            bar.update()
            # Only where the curve has a point, so that a resumed run has the same points.
            at_point = progress.step % log_every == 0
            if at_point and now - saved_at > save_every_seconds:
                save_training(RunFolder(folder), networks, optimizer, progress)
                saved_at = time.monotonic()
                if on_save:
                    on_save(progress.step)
            ended_at = time.monotonic()
    save_training(RunFolder(folder), networks, optimizer, progress)
    released = networks.average.released()
    save_weights(released, folder / WEIGHTS, {"recipe": json.dumps(to_json(recipe))})
    return folder / WEIGHTS


def _keep_recipe(folder: Path, recipe: Recipe) -> None:
    """Write the recipe; raise UserError where the folder's run cannot be resumed with it."""
    file = folder / RECIPE
    state = find_state(RunFolder(folder))
    if state:
        # Recipes did not name the version of the scenes while there was only the first one.
        earlier = from_json(Recipe, {"scenes": 1} | read_json(file), str(file))
        with_new_steps = replace(
            earlier, coarse_steps=recipe.coarse_steps, fine_steps=recipe.fine_steps
        )
        first_end = min(earlier.stages[0].end, recipe.stages[0].end)
        past_coarse_steps = read_progress(state).step > first_end
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
    for size, begin, end in recipe.stages:
        if step < end:
            first = max(step - begin, 0)
            for batch in _batches_of_size(recipe, size, first, end - begin, device, workers):
                yield size, batch


def _batches_of_size(
    recipe: Recipe, size: int, first: int, end: int, device: torch.device, workers: int
) -> Iterator[dict[str, Tensor]]:
    """Yield the batches from `first` to before `end` of those of a size."""
    on_gpu = device.type == "cuda"
    scenes = Scenes(
        recipe.seed,
        size,
        recipe.num_prompts,
        recipe.batch_size,
        spread=recipe.spread,
        device=device if on_gpu else torch.device("cpu"),
    )
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
    networks: AveragedNetwork,
    optimizer: torch.optim.Optimizer,
    batch: dict[str, Tensor],
    step: int,
    recipe: Recipe,
) -> dict[str, Tensor]:
    """Do one optimiser step and return the losses by name."""
    network = networks.network
    for group in optimizer.param_groups:
        group["lr"] = recipe.learning_rate_at(step)
    device = network.log_scale.device
    batch = {name: value.to(device) for name, value in batch.items()}
    losses = scene_losses(network, batch, step)
    optimizer.zero_grad(set_to_none=True)
    prototype = recipe.prototype_weight * losses["prototype"]
    (losses["mask"] + losses["iou"] + prototype).backward()
    torch.nn.utils.clip_grad_norm_(network.parameters(), _MAX_GRADIENT_NORM)
    optimizer.step()
    networks.update(step + 1)
    return losses


def _build(
    recipe: Recipe, size: int, device: torch.device
) -> tuple[AveragedNetwork, torch.optim.Optimizer]:
    network = PretrainingNetwork(BACKBONES[BACKBONE], size).to(device)
    optimizer = torch.optim.AdamW(
        network.parameters(),
        lr=recipe.learning_rate,
        betas=_BETAS,
        weight_decay=recipe.weight_decay,
    )
    return AveragedNetwork(network, recipe.averaging), optimizer


def _resize(
    networks: AveragedNetwork,
    optimizer: torch.optim.Optimizer,
    recipe: Recipe,
    size: int,
    device: torch.device,
) -> tuple[AveragedNetwork, torch.optim.Optimizer]:
    """Return network and optimiser for images of another size.

    The optimiser's moments of position tables are dropped, because the tables change their shape.
    """
    resized, new_optimizer = _build(recipe, size, device)
    resized.load_adapter(networks.adapter(), "")
    pairs = zip(networks.network.parameters(), resized.network.parameters(), strict=True)
    for old, new in pairs:
        if old.shape == new.shape and old in optimizer.state:
            new_optimizer.state[new] = optimizer.state[old]
    return resized, new_optimizer
