"""Training samples: two individuals of one anatomy, with prompts on their regions."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from samnet.pretraining.anatomies import Anatomy, draw_anatomy
from samnet.pretraining.appearance import Appearance, draw_appearance, render
from samnet.pretraining.label_maps import draw_individual
from samnet.pretraining.prompts import draw_prompts

INDIVIDUALS = 2
STRIDE = 4


class Scenes(Dataset[dict[str, Tensor]]):
    """An endless data set of synthetic scenes.

    Scene `i` depends only on the seed and on `i`, not on the process or the order of reading.

    Attributes:
        seed: Seed of all scenes.
        size: Edge of the square images in pixels.
        num_prompts: Number of prompts on each image.
    """

    def __init__(self, seed: int, size: int, num_prompts: int) -> None:
        """Define the scenes.

        Args:
            seed: Seed of all scenes.
            size: Edge of the square images in pixels.
            num_prompts: Number of prompts on each image.
        """
        self.seed, self.size, self.num_prompts = seed, size, num_prompts

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Draw a scene.

        Args:
            index: Number of the scene.

        Returns:
            Tensors whose first axis is the individual: `image` `(2, 3, S, S)`, `classes`
            `(2, S, S)`, and the fields of `Prompts`.
        """
        generator = np.random.default_rng([self.seed, index])
        anatomy = draw_anatomy(generator)
        appearance = draw_appearance(anatomy.num_classes, generator)
        individuals = []
        for _ in range(INDIVIDUALS):
            individuals.append(self._draw_individual(anatomy, appearance, generator))
        scene = {}
        for key in individuals[0]:
            arrays = [individual[key] for individual in individuals]
            scene[key] = torch.from_numpy(np.stack(arrays))
        return scene

    def _draw_individual(
        self, anatomy: Anatomy, appearance: Appearance, generator: np.random.Generator
    ) -> dict[str, np.ndarray]:
        labels = draw_individual(anatomy, generator, self.size)
        prompts = draw_prompts(labels.regions, self.num_prompts, STRIDE, generator)
        image = render(labels, appearance, generator)
        return {"image": image, "classes": labels.classes, **vars(prompts)}
