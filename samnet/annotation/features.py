"""Numbers by which images are compared: what the encoder makes of slices, or simple statistics."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch

from samnet.core.geometry import PATIENT
from samnet.core.prefetch import prefetch
from samnet.core.progress import ProgressBar
from samnet.core.worker_pool import describe_error
from samnet.dataset.alignment import read_aligned_image
from samnet.dataset.cases import Case
from samnet.inference.plausibility import summarize_image
from samnet.inference.predictor import Predictor
from samnet.inference.slices import SlicePredictor
from samnet.models.precision import autocast
from samnet.preprocessing.case import PreparedVolume, prepare_volume
from samnet.preprocessing.slice_frame import tile_starts

log = logging.getLogger(__name__)
MOST_SLICES = 16  # evenly chosen; neighbouring slices look alike


def measure_features(
    cases: Sequence[Case], num_channels: int, predictor: Predictor | None = None
) -> dict[str, np.ndarray]:
    """Measure the numbers by which images are compared.

    Args:
        cases: The cases.
        num_channels: Number of channels of the data set.
        predictor: The model whose encoder looks at the images; None to take statistics in its
            place: spacing, size, and the percentiles of the intensities.

    Returns:
        Name of a case -> `(F,)`. Cases that cannot be read are left out, and named in warnings.
    """
    measure: Callable[[PreparedVolume], np.ndarray] = measure_statistics
    orientation = PATIENT
    if predictor is not None:
        measure = partial(embed_volume, predictor)
        orientation = predictor.configuration.orientation

    def read(case: Case) -> tuple[str, PreparedVolume | None]:
        try:
            image = read_aligned_image(case, num_channels)
            return case.identifier, prepare_volume(image.array, image.grid, orientation=orientation)
        except Exception as error:
            log.warning("%s: cannot be compared: %s", case.identifier, describe_error(error))
            return case.identifier, None

    found = {}
    with ProgressBar(total=len(cases), desc="comparing", unit="case") as bar:
        for name, volume in prefetch(read, cases):
            if volume is not None:
                found[name] = measure(volume)
            bar.update()
    return found


def measure_statistics(volume: PreparedVolume) -> np.ndarray:
    """Measure spacing, size and intensities of an image.

    Args:
        volume: The image.

    Returns:
        Logarithms of spacing and size along `(Z, Y, X)`, and the percentiles of each channel on a
        scale that is linear near 0 and logarithmic beyond, because the intensities of scanners can
        differ a thousandfold.
    """
    summary = summarize_image(volume)
    lengths = np.log(np.maximum([*summary.spacing, *summary.size], 1e-9))
    intensities = [np.arcsinh(channel.percentiles) for channel in summary.channels]
    return np.concatenate([lengths, *intensities])


@torch.inference_mode()
def embed_volume(predictor: Predictor, volume: PreparedVolume) -> np.ndarray:
    """Average what the encoder makes of the slices of an image.

    Args:
        predictor: The model, of which the first network counts.
        volume: The image, with the axes that the model needs.

    Returns:
        The mean embedding over positions and over up to `MOST_SLICES` slices, `(256,)`.
    """
    configuration, network = predictor.configuration, predictor.networks[0]
    slices = SlicePredictor(
        [network],
        configuration,
        volume,
        configuration.slicing_axis,
        mirror=False,
        label_scheme=predictor.plan.label_scheme,
    )
    size, overlap = configuration.input_size, configuration.tile_overlap
    rows, columns = (tile_starts(length, size, overlap) for length in slices.frame.canvas)
    corners = list(itertools.product(rows, columns))
    count = len(slices.slices)
    chosen = np.unique(np.linspace(0, count - 1, min(count, MOST_SLICES)).round().astype(int))
    total = np.zeros(0)
    for index in chosen:
        canvas = slices.canvases(int(index), int(index) + 1)
        tiles = [canvas[..., row : row + size, column : column + size] for row, column in corners]
        for tile in tiles:
            with autocast(configuration.precision, slices.device):
                embedding = network.embed(tile.to(slices.device))
            mean = embedding.float().mean((0, 2, 3)).cpu().numpy().astype(float)
            total = mean if total.size == 0 else total + mean
    return total / (len(chosen) * len(corners))
