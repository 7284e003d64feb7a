"""Volumes of smooth noise, and what predicts their slices with a network."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import ndimage

from builders.tiny import TWO_CLASSES, FakeNetwork, make_configuration, make_volume
from samnet.dataset.label_scheme import LabelScheme
from samnet.inference.slices import SlicePredictor
from samnet.plan.configuration import Configuration
from samnet.preprocessing.case import PreparedVolume

# For `thresholds`: intensities of `smooth_volume`, of which 255 becomes 1, at which classes are
# most likely.
LEVELS = [0.3, 0.5, 0.7]
# Largest relative error of probabilities in single precision, which rounds to 1e-7, and of the mean
# of some of them.
ROUNDED = 1e-6


def smooth_volume(
    shape: tuple[int, int, int] = (9, 22, 26),
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0),
) -> PreparedVolume:
    """Return a volume of smooth noise.

    Args:
        shape: Number of voxels along `(Z, Y, X)`.
        spacing: Voxel spacing along `(Z, Y, X)` in mm.

    Returns:
        The prepared volume, of one channel, with intensities from 1 to 255.
    """
    noise = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=shape), 1.5)
    return make_volume((127 + 300 * noise).clip(1, 255).astype(np.float32), spacing)


def configure(axis: int = 0, views: tuple[int, ...] | None = None, **changes: Any) -> Configuration:
    """Return the configuration of a tiny network.

    Args:
        axis: The slicing axis.
        views: The axes of all views; None for the slicing axis alone.
        changes: Other values that replace those of `builders.tiny.VALUES`.

    Returns:
        The configuration.
    """
    return make_configuration(slicing_axis=axis, views=views or (axis,), **changes)


def slice_predictor(
    network: FakeNetwork,
    volume: PreparedVolume,
    configuration: Configuration | None = None,
    axis: int = 0,
    *,
    mirror: bool = False,
    label_scheme: LabelScheme = TWO_CLASSES,
) -> SlicePredictor:
    """Return what predicts the slices of a volume with one network.

    Args:
        network: The network.
        volume: The volume.
        configuration: The configuration; None for that of `configure()`.
        axis: The axis across which the slices lie.
        mirror: Whether to average over mirrored inputs.
        label_scheme: The classes or regions of the outputs.

    Returns:
        The predictor.
    """
    configuration = configuration or configure()
    return SlicePredictor(
        [network], configuration, volume, axis, mirror=mirror, label_scheme=label_scheme
    )
