"""How much a configuration computes for one case, to prefer the cheaper one of equals."""

from __future__ import annotations

import numpy as np

from samnet.fingerprint.records import Fingerprint
from samnet.plan.backbones import BACKBONES, PATCH, WINDOW, Backbone
from samnet.plan.configuration import Configuration
from samnet.preprocessing.slice_frame import planned_frame, tile_starts


def prediction_cost(configuration: Configuration, fingerprint: Fingerprint) -> float:
    """Estimate what the encoder computes for a case of median size, with views and mirrors.

    Args:
        configuration: The configuration.
        fingerprint: The data set.

    Returns:
        Multiplications, in units of 10^12.
    """
    cases = fingerprint.cases.values()
    shape = np.median([case.shape for case in cases], axis=0).round().astype(int)
    spacing = np.median([case.spacing for case in cases], axis=0)
    inputs = 0
    for axis in configuration.views:
        rows, columns = (index for index in range(3) if index != axis)
        frame = planned_frame(
            configuration,
            (int(shape[rows]), int(shape[columns])),
            (float(spacing[rows]), float(spacing[columns])),
        )
        size, overlap = configuration.input_size, configuration.tile_overlap
        down, along = (len(tile_starts(length, size, overlap)) for length in frame.canvas)
        mirrored = [index for index in configuration.mirror_axes if index != axis]
        mirrors = 2 ** len(mirrored) if configuration.mirror_at_prediction else 1
        inputs += int(shape[axis]) * down * along * mirrors
    return inputs * _encoder_cost(BACKBONES[configuration.backbone], configuration.input_size)


def _encoder_cost(backbone: Backbone, input_size: int) -> float:
    """Return 10^12 multiplications for one input: 12 products of each token, and the attention."""
    tokens, width = (input_size / PATCH) ** 2, backbone.width
    num_global = len(backbone.global_blocks)
    linear = 12 * backbone.depth * tokens * width**2
    keys = num_global * tokens + (backbone.depth - num_global) * WINDOW**2
    return (linear + 2 * tokens * keys * width) / 1e12
