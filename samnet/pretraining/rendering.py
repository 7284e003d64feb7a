"""Synthetic images of label maps.

The images of a batch are scanned in a few groups. Those of a group have the same number of pixels
in the simulated scan, so that they are computed together. Coarse scans are computed as such, and
enlarged at the end.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

from samnet.pretraining.anatomies import MAX_CLASSES
from samnet.pretraining.appearance import (
    CHANNELS,
    COLOUR,
    NEIGHBOURS,
    TEXTURE_WAVES,
    Appearances,
)
from samnet.pretraining.draws import Draws
from samnet.pretraining.label_maps import LabelMaps, clear_margins
from samnet.pretraining.smooth_fields import draw_fields, draw_varied_fields

_GROUPS = 4
_MOST_COARSE = 6.0  # pixels of the image for one of the scan, along an edge
_FINEST_COARSE = 1.3  # scans of less coarseness have the pixels of the image
_FEWEST_PIXELS = 24  # along an edge of a scan
_INDIVIDUAL_MEANS = 0.02  # standard deviation
_MOST_BIAS_WAVES, _MOST_SHIFT_WAVES = 3, 7
_LARGEST_SHIFT = 0.03  # of neighbouring slices, as a share of the image
_TINY = 1e-4  # weight of a pixel that is left out of a blur
_SAMPLES = 16  # along an edge, of which percentiles are taken


def render(labels: LabelMaps, appearances: Appearances, draws: Draws) -> Tensor:
    """Draw images of individuals.

    Args:
        labels: Label maps of I individuals.
        appearances: How the classes of each individual look.
        draws: Source of randomness.

    Returns:
        Images `(I, 3, S, S)`, float32 from 0 to 1, and 0 beyond the field of view.
    """
    count, size, _ = labels.classes.shape
    images = torch.empty(count, CHANNELS, size, size, device=draws.device)
    for first in range(min(_GROUPS, count)):
        # Individuals of one anatomy follow each other, so they are scanned in different ways.
        members = slice(first, None, _GROUPS)
        group = LabelMaps(*(part[members] for part in vars(labels).values()))
        coarseness = float(draws.uniform(1, float(draws.log_uniform(1, _MOST_COARSE, 1)), 1))
        pixels = max(_FEWEST_PIXELS, round(size / coarseness))
        scan = _Scan(group, appearances[members], pixels if coarseness > _FINEST_COARSE else size)
        images[members] = scan.compute(draws)
    for image, (rows, columns) in zip(images, labels.margins.tolist(), strict=True):
        clear_margins(image, rows, columns, 0)
    return images


class _Scan:
    """Images of g individuals that are scanned with the same number of pixels.

    They are computed as planes: one for a grey image, three for the others. `_source` is the
    individual of each plane, `_channels` `(g, 3)` are the planes of each individual.
    """

    def __init__(self, labels: LabelMaps, appearances: Appearances, pixels: int) -> None:
        self._labels, self._looks, self._pixels = labels, appearances, pixels
        self._size = labels.classes.shape[-1]
        count = len(appearances.layout)
        self._source = torch.arange(count)
        self._channels = self._source[:, None].repeat(1, CHANNELS)

    def compute(self, draws: Draws) -> Tensor:
        """Return the images `(g, 3, S, S)`, not yet cut to the field of view."""
        looks, count = self._looks, len(self._looks.layout)
        offsets = torch.arange(count, dtype=torch.int32, device=draws.device) * MAX_CLASSES
        classes = self._labels.classes.clamp_min(0) + offsets[:, None, None]
        planes = self._colour(classes, draws)
        sigma = 0.2 + (looks.blur - 0.2) * draws.uniform(0, 1, count)
        planes, sigma = self._shrink(planes, sigma)
        planes += self._texture(classes, sigma, draws)[self._source.to(draws.device)]
        planes = self._add_neighbours(planes, draws)
        self._add_unevenness(planes, draws)
        self._add_noise(planes, draws)
        self._normalise(planes, draws)
        if self._pixels < self._size:
            weights = _linear_weights(self._pixels, self._size, draws.device)
            planes = weights @ planes @ weights.T
        chosen = planes.index_select(0, self._channels.flatten().to(draws.device))
        return chosen.unflatten(0, (-1, CHANNELS))

    def _append(self, members: Tensor, channel: int) -> None:
        """Say that planes of some individuals follow, which are this channel of their images."""
        first = len(self._source)
        self._source = torch.cat([self._source, members])
        self._channels[members, channel] = torch.arange(first, first + len(members))

    def _colour(self, classes: Tensor, draws: Draws) -> Tensor:
        """Return planes of mean intensities, with the borders of regions."""
        looks = self._looks
        means = looks.means + _INDIVIDUAL_MEANS * draws.normal(*looks.means.shape)
        tables = means.permute(2, 0, 1).flatten(1).to(draws.device)
        planes = [tables[0].index_select(0, classes.view(-1)).view(classes.shape)]
        coloured = (looks.layout == COLOUR).nonzero()[:, 0]
        if len(coloured):
            places = classes[coloured.to(draws.device)]
            for channel in range(1, CHANNELS):
                values = tables[channel].index_select(0, places.view(-1))
                planes.append(values.view(places.shape))
                self._append(coloured, channel)
        joined = torch.cat(planes)
        for individual in looks.outline.nonzero()[:, 0].tolist():
            lines = _borders(self._labels.regions[individual]) * float(looks.outline[individual])
            for plane in (self._source == individual).nonzero()[:, 0].tolist():
                joined[plane] -= lines
        return joined

    def _shrink(self, planes: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """Blur planes, and average them over the pixels of the scan.

        Both together are one Gaussian: a pixel of the scan is taken to see a Gaussian part of the
        image, whose width is that of a linear interpolation.

        Returns:
            Planes of the scan, and the standard deviation of the Gaussian for each individual.
        """
        ratio = self._size / self._pixels
        if self._pixels < self._size:
            sigma = (sigma**2 + ratio**2 / 6).sqrt()
        device = planes.device
        centres = (torch.arange(self._pixels, device=device) + 0.5) * ratio - 0.5
        distance = centres[:, None] - torch.arange(self._size, device=device)
        weights = distance.square_() * (-0.5 / sigma.to(device) ** 2)[:, None, None]
        # Without the tiny values far from the middle, with which processors compute slowly.
        weights = functional.threshold(weights.clamp_(min=-20).exp_(), _TINY, 0)
        weights /= weights.sum(2, keepdim=True)
        weights = weights.index_select(0, self._source.to(device))
        return weights @ planes @ weights.mT, sigma

    def _texture(self, classes: Tensor, sigma: Tensor, draws: Draws) -> Tensor:
        """Return random textures `(g, n, n)` whose amplitude depends on the class."""
        size, pixels = self._size, self._pixels
        if pixels < size:
            places = ((torch.arange(pixels) + 0.5) * (size / pixels)).long().to(draws.device)
            classes = classes.index_select(1, places).index_select(2, places)
        # The blur weakens waves by these factors.
        cycles = torch.tensor(TEXTURE_WAVES) / (2 * size)
        kept = torch.exp(-2 * (math.pi * sigma[:, None] * cycles) ** 2)
        tables = (self._looks.texture * kept[:, None]).permute(2, 0, 1).flatten(1).to(draws.device)
        texture = torch.zeros(classes.shape, device=draws.device)
        places = classes.view(-1)
        for waves, table in zip(TEXTURE_WAVES, tables, strict=True):
            if waves < pixels:
                fields = draw_fields(len(classes), waves, pixels, draws)
            else:  # waves shorter than a pixel
                fields = draws.windows(*classes.shape)
            texture.view(-1).addcmul_(table.index_select(0, places), fields.view(-1))
        return texture

    def _add_neighbours(self, planes: Tensor, draws: Draws) -> Tensor:
        """Append the slices before and after some planes; everything has moved a little there."""
        members = (self._looks.layout == NEIGHBOURS).nonzero()[:, 0]
        if not len(members):
            return planes
        count, pixels, device = len(members), self._pixels, draws.device
        waves = draws.integers(2, _MOST_SHIFT_WAVES + 1, count)
        strength = 2 * _LARGEST_SHIFT * draws.uniform(0, 1, count)
        shifts = draw_varied_fields(waves, _MOST_SHIFT_WAVES, pixels, draws, 2)
        shifts = shifts.mul_(strength.to(device)[:, None, None, None]).permute(0, 2, 3, 1)
        line = (torch.arange(pixels, device=device) + 0.5) / pixels * 2 - 1
        places = torch.stack([line.expand(pixels, -1), line[:, None].expand(-1, pixels)], dim=-1)
        grids = torch.cat([places - shifts, places + shifts])
        middle = planes[members.to(device)][:, None].repeat(2, 1, 1, 1)
        moved = functional.grid_sample(middle, grids, padding_mode="border", align_corners=False)
        for channel in (0, 2):
            self._append(members, channel)
        return torch.cat([planes, moved[:, 0]])

    def _add_unevenness(self, planes: Tensor, draws: Draws) -> None:
        """Multiply planes with the uneven sensitivity of a scanner, in place."""
        count = len(self._looks.bias)
        waves = draws.integers(1, _MOST_BIAS_WAVES + 1, count)
        fields = draw_varied_fields(waves, _MOST_BIAS_WAVES, self._pixels, draws)[:, 0]
        strength = (self._looks.bias * draws.uniform(0, 1, count)).to(draws.device)
        factors = fields.mul_(strength[:, None, None]).exp_()
        planes.mul_(factors[self._source.to(draws.device)])

    def _add_noise(self, planes: Tensor, draws: Draws) -> None:
        """Add noise, or multiply with it where it is speckle, in place."""
        looks = self._looks
        noise = looks.noise * draws.uniform(0, 1, len(looks.noise))
        strength = torch.where(looks.speckle, 2 * noise, noise)[self._source, None, None]
        grain = draws.windows(*planes.shape).mul_(strength.to(draws.device))
        speckled = looks.speckle[self._source].nonzero()[:, 0].to(draws.device)
        if len(speckled):
            grain[speckled] *= planes[speckled]
        planes.add_(grain)

    def _normalise(self, planes: Tensor, draws: Draws) -> None:
        """Map intensities to 0 to 1 about as a plan would, in place.

        Sometimes a gamma curve follows.
        """
        count, device = len(self._looks.noise), draws.device
        source = self._source.to(device)
        shares = torch.stack([draws.uniform(0, 0.02, count), draws.uniform(0.98, 1, count)], dim=1)
        low, high = self._percentiles(planes, shares.to(device)).unbind(1)
        scale = 1 / (high - low).clamp_min(1e-3)
        planes.sub_(low[source, None, None]).mul_(scale[source, None, None]).clamp_(0, 1)
        curved = draws.chance(0.3, count)[self._source].nonzero()[:, 0]
        gamma = draws.uniform(-0.5, 0.5, count).exp()[self._source[curved], None, None]
        if len(curved):
            chosen = planes[curved.to(device)].clamp_min_(1e-4).log_().mul_(gamma.to(device))
            planes[curved.to(device)] = chosen.exp_()

    def _percentiles(self, planes: Tensor, shares: Tensor) -> Tensor:
        """Return quantiles `(g, 2)` of what is within the field of view, from a part of it."""
        step = math.ceil(self._pixels / _SAMPLES)
        samples = planes[:, ::step, ::step][self._channels.to(planes.device)]
        centres = (torch.arange(0, self._pixels, step) + 0.5) * (self._size / self._pixels)
        margins = self._labels.margins[..., None]
        is_inside = (centres > margins) & (centres < self._size - margins)
        is_inside = (is_inside[:, 0, :, None] & is_inside[:, 1, None]).to(planes.device)
        samples = samples.masked_fill_(~is_inside[:, None], torch.inf).flatten(1).sort(dim=1)[0]
        last = (CHANNELS * is_inside.flatten(1).sum(1, keepdim=True) - 1) * shares
        return samples.gather(1, last.round().long())


def _borders(regions: Tensor) -> Tensor:
    """Return 1 `(S, S)` where a pixel differs from the one above or on its left, else 0."""
    borders = torch.zeros(regions.shape, device=regions.device)
    borders[1:] = (regions[1:] != regions[:-1]).float()
    borders[:, 1:] += regions[:, 1:] != regions[:, :-1]
    return borders.clamp_(max=1)


@lru_cache(maxsize=256)
def _linear_weights(samples: int, pixels: int, device: torch.device) -> Tensor:
    """Return the matrix `(pixels, samples)` of a linear interpolation along one axis."""
    positions = (torch.arange(pixels, device=device) + 0.5) * samples / pixels - 0.5
    positions.clamp_(0, samples - 1)
    distances = (positions[:, None] - torch.arange(samples, device=device)).abs_()
    return (1 - distances).clamp_(min=0)
