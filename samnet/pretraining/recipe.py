"""The settings of a pre-training run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from samnet.pretraining.scenes import SCENES_VERSION

# Edges of the images in pixels. The first steps use images of a quarter of the pixels. They cost a
# third, and most of what the network has to learn shows in them too.
SIZES = (112, 224)
WARMUP_STEPS = 200
DECAY_SHARE = 0.15


class Stage(NamedTuple):
    """Consecutive steps on images of one size.

    Attributes:
        size: Edge of the images in pixels.
        begin: Number of the first step.
        end: Number of the step after the last.
    """

    size: int
    begin: int
    end: int


@dataclass(frozen=True)
class Recipe:
    """All settings on which the weights depend.

    Attributes:
        coarse_steps: Number of optimiser steps on smaller images, which come first. They are
            divided equally among all sizes except the last.
        fine_steps: Number of optimiser steps on images of the last size.
        seed: Seed of the initial weights and of the scenes.
        batch_size: Number of anatomies in a step, with two individuals each.
        num_prompts: Number of prompts on each image, half of them boxes.
        learning_rate: Peak learning rate.
        weight_decay: Weight decay of AdamW.
        sizes: Edges of the images in pixels, in the order of training; multiples of 16.
        averaging: Decay of the exponentially averaged weights, which are then the result; 0 for the
            weights of the last step.
        prototype_weight: Weight of the objective from one example; the others have 1.
        spread: Factor on the bounds within which artefacts, textures and the differences of
            individuals are drawn.
        scenes: Version of the synthetic scenes.
    """

    coarse_steps: int
    fine_steps: int
    seed: int = 0
    batch_size: int = 8
    num_prompts: int = 4
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    sizes: tuple[int, ...] = SIZES
    averaging: float = 0.0
    prototype_weight: float = 1.0
    spread: float = 1.0
    scenes: int = SCENES_VERSION

    @property
    def steps(self) -> int:
        """Number of all optimiser steps."""
        return self.coarse_steps + self.fine_steps

    @property
    def stages(self) -> tuple[Stage, ...]:
        """The parts of the training run, each with images of one size."""
        smaller, found, begin = self.sizes[:-1], [], 0
        for index, size in enumerate(smaller, start=1):
            end = self.coarse_steps * index // len(smaller)
            found.append(Stage(size, begin, end))
            begin = end
        return (*found, Stage(self.sizes[-1], begin, self.steps))

    def image_size_at(self, step: int) -> int:
        """Return the edge of the images in a step.

        Args:
            step: Number of the step, from 0.

        Returns:
            The edge in pixels.
        """
        for stage in self.stages:
            if step < stage.end:
                return stage.size
        return self.sizes[-1]

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
