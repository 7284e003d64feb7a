"""Batches of training samples: two individuals of each anatomy, with prompts on their regions."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.data import Dataset

from samnet.pretraining.anatomies import draw_anatomies
from samnet.pretraining.appearance import draw_appearances
from samnet.pretraining.draws import Draws
from samnet.pretraining.label_maps import draw_individuals
from samnet.pretraining.prompts import draw_prompts
from samnet.pretraining.rendering import render

INDIVIDUALS = 2
STRIDE = 4
# Scenes of the same seed differ between versions. Those of version 1, by which the weights
# `small_v1` were trained, were drawn one by one by numpy.
SCENES_VERSION = 2


# Scenes that are drawn at once have about this number of pixels in all their images.
BLOCK_PIXELS = 1_700_000


class Scenes(Dataset[list[dict[str, Tensor]]]):
    """An endless data set of blocks of synthetic scenes.

    The batches of a block are drawn at once, which takes less time than one after the other. Block
    `i` depends only on the seed, the size and `i`, on one kind of device: not on the process or the
    order of reading.

    Attributes:
        seed: Seed of all scenes.
        size: Edge of the square images in pixels.
        num_prompts: Number of prompts on each image.
        batch_size: Number of scenes in a batch.
        spread: Factor on the bounds of artefacts, textures and differences of individuals.
        batches: Number of batches in a block.
        device: Where they are drawn.
    """

    def __init__(
        self,
        seed: int,
        size: int,
        num_prompts: int,
        batch_size: int,
        *,
        spread: float = 1.0,
        device: torch.device | None = None,
    ) -> None:
        """Define the scenes.

        Args:
            seed: Seed of all scenes.
            size: Edge of the square images in pixels, a multiple of 8.
            num_prompts: Number of prompts on each image.
            batch_size: Number of scenes in a batch, B.
            spread: Factor on the bounds of what is drawn.
            device: Where to draw them; None for the CPU.
        """
        self.seed, self.size, self.num_prompts = seed, size, num_prompts
        self.batch_size, self.spread = batch_size, spread
        self.batches = max(1, BLOCK_PIXELS // (INDIVIDUALS * batch_size * size**2))
        self.device = device or torch.device("cpu")

    @torch.no_grad()
    def __getitem__(self, number: int) -> list[dict[str, Tensor]]:
        """Draw a block.

        Args:
            number: Number of the block.

        Returns:
            Its batches: tensors on the device whose first axes are the scene and the individual.
            `image` is `(B, 2, 3, S, S)`, `classes` is `(B, 2, S, S)`, and there are the fields of
            `Prompts`.
        """
        draws = Draws([self.seed, self.size, number], self.device)
        count = self.batches * self.batch_size
        anatomies = draw_anatomies(count, draws, self.spread)
        appearances = draw_appearances(count, draws, self.spread)
        labels = draw_individuals(anatomies, INDIVIDUALS, self.size, draws)
        prompts = draw_prompts(labels.regions, self.num_prompts, STRIDE, draws)
        owner = torch.arange(count).repeat_interleave(INDIVIDUALS)
        image = render(labels, appearances[owner], draws)
        block = {"image": image, "classes": labels.classes, **vars(prompts)}
        batches: list[dict[str, Tensor]] = [{} for _ in range(self.batches)]
        for name, values in block.items():
            parts = values.unflatten(0, (self.batches, self.batch_size, INDIVIDUALS))
            for batch, part in zip(batches, parts, strict=True):
                batch[name] = part
        return batches
