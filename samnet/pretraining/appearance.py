"""How the classes of anatomies look: random intensities, textures and imaging artefacts.

The images are of every modality and of none. As in SynthSeg (Billot et al. 2023, arXiv 2107.09559)
the ranges are wider than in reality, so that real images lie within them.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from samnet.pretraining.anatomies import MAX_CLASSES
from samnet.pretraining.draws import Draws

CHANNELS = 3
# Three equal channels, three neighbouring slices, or three colours.
LAYOUTS = ("grey", "neighbours", "colour")
GREY, NEIGHBOURS, COLOUR = range(len(LAYOUTS))
# Scales of the texture: how many waves fit into the image.
TEXTURE_WAVES = (6, 16, 40, 90)


@dataclass(frozen=True)
class Appearances:
    """How the classes of A anatomies look, in every individual of them.

    `noise`, `blur` and `bias` are upper bounds of what is drawn for each image.

    Attributes:
        means: Mean intensities `(A, classes, 3)`.
        texture: Amplitude of the texture at each scale, `(A, classes, scales)`.
        layout: Index in `LAYOUTS`, `(A,)`.
        outline: How much darker the borders of regions are drawn; brighter where negative; `(A,)`.
        noise: Standard deviation of the noise, `(A,)`.
        blur: Standard deviation of the Gaussian blur in pixels, `(A,)`.
        bias: Strength of the uneven sensitivity, `(A,)`.
        speckle: Whether noise is multiplied with the image instead of added to it, `(A,)`.
    """

    means: Tensor
    texture: Tensor
    layout: Tensor
    outline: Tensor
    noise: Tensor
    blur: Tensor
    bias: Tensor
    speckle: Tensor

    def __getitem__(self, index: Tensor | slice) -> Appearances:
        """Return the appearances of some of the anatomies.

        Args:
            index: Index of the first axis.

        Returns:
            Their appearances.
        """
        return Appearances(*(getattr(self, field.name)[index] for field in fields(self)))


def draw_appearances(count: int, draws: Draws, spread: float = 1.0) -> Appearances:
    """Draw how the classes of anatomies look.

    Args:
        count: Number of anatomies A.
        draws: Source of randomness.
        spread: Factor on the bounds of textures, noise, blur and uneven sensitivity.

    Returns:
        The appearances, on the CPU.
    """
    layout = draws.choice([0.35, 0.45, 0.2], count)
    tints = 0.2 * draws.normal(count, MAX_CLASSES, CHANNELS) * draws.uniform(0, 1, count, 1, 1)
    tints *= (layout == COLOUR)[:, None, None]
    shape = (count, MAX_CLASSES, len(TEXTURE_WAVES))
    texture = -0.04 * draws.uniform(0, 1, *shape).clamp_min(1e-7).log()
    texture *= draws.chance(0.6, *shape)
    # In some, classes differ only in their means.
    texture = torch.where(draws.chance(0.3, count, 1, 1), texture[:, :1], texture)
    return Appearances(
        means=_draw_means(count, draws)[..., None] + tints,
        texture=texture * draws.uniform(0, 1.5 * spread, count, 1, 1),
        layout=layout,
        outline=0.3 * draws.normal(count) * draws.chance(0.2, count),
        noise=draws.uniform(0, 0.12 * spread, count),
        blur=draws.uniform(0.3, 3.0 * spread, count),
        bias=draws.uniform(0, 0.3 * spread, count),
        speckle=draws.chance(0.1, count),
    )


def _draw_means(count: int, draws: Draws) -> Tensor:
    """Return the mean intensity of each class, `(A, classes)`."""
    shape = (count, MAX_CLASSES)
    means = draws.uniform(0, 1, *shape)
    # A dark background, as in most scans.
    dark = draws.uniform(0, 0.08, count)
    means[:, 0] = torch.where(draws.chance(0.4, count), dark, means[:, 0])
    # Soft tissues that hardly differ, with something bright or dark among them.
    centre, width = draws.uniform(0.3, 0.7, count, 1), draws.uniform(0.05, 0.25, count, 1)
    soft = centre + width * draws.uniform(-0.5, 0.5, *shape)
    is_soft = draws.chance(0.35, count, 1) & draws.chance(0.75, *shape)
    means = torch.where(is_soft, soft, means)
    # Classes that look like another one, so that only shape and position tell them apart.
    is_alike, difference = draws.chance(0.15, *shape), 0.02 * draws.normal(*shape)
    other = (draws.uniform(0, 1, *shape) * torch.arange(MAX_CLASSES)).long()
    for index in range(1, MAX_CLASSES):
        like = means.gather(1, other[:, index : index + 1])[:, 0] + difference[:, index]
        means[:, index] = torch.where(is_alike[:, index], like, means[:, index])
    return means
