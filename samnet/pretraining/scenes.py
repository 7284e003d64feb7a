"""Training samples: two individuals of one anatomy, with prompts on their regions."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from samnet.pretraining.appearance import draw_appearance, render
from samnet.pretraining.label_maps import draw_anatomy, draw_individual
from samnet.pretraining.prompts import draw_prompts

INDIVIDUALS = 2
STRIDE = 4


class Scenes(Dataset[dict[str, Tensor]]):
    """Sample `i` is always the same for a seed, whoever asks for it and in whatever order.

    Each is a dictionary of tensors whose first axis is the individual: `image` `(2, 3, S, S)`, `classes` `(2, S, S)`,
    and the fields of `Prompts`.
    """

    def __init__(self, seed: int, size: int, num_prompts: int) -> None:
        self.seed, self.size, self.num_prompts = seed, size, num_prompts

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        generator = np.random.default_rng([self.seed, index])
        anatomy = draw_anatomy(generator)
        appearance = draw_appearance(anatomy.num_classes, generator)
        individuals = []
        for _ in range(INDIVIDUALS):
            labels = draw_individual(anatomy, generator, self.size)
            prompts = draw_prompts(labels.regions, self.num_prompts, STRIDE, generator)
            individuals.append(
                {
                    "image": render(labels, appearance, generator),
                    "classes": labels.classes,
                    **vars(prompts),
                }
            )
        return {
            key: torch.from_numpy(np.stack([one[key] for one in individuals]))
            for key in individuals[0]
        }
