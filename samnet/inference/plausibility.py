"""Whether an image is like those that a model was trained on, and a prediction like a segmentation.

Functions from numbers to sentences. Each sentence says what was found and what was expected.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from samnet.core.errors import UserError
from samnet.core.geometry import Grid, Reorientation
from samnet.dataset.grey import is_grey
from samnet.dataset.label_scheme import LabelScheme
from samnet.fingerprint.records import PERCENTILES
from samnet.fingerprint.training_data import MM, ChannelRanges, Range, TrainingData
from samnet.preprocessing.case import PreparedVolume
from samnet.preprocessing.intensity import QUANTILE_POINTS

# Calibrated on four public data sets: no test image of a data set is named for a model of that data
# set, and all are named for a model of another one with as many channels.
SPACING_FACTOR = 2.5
SIZE_FACTOR = 3.0
WIDTH_FACTOR = 4.0
MEDIAN_SHIFT = 0.5  # in typical widths of a training image
TAIL_SHIFT = 1.0  # in widths of all training images together
# Beyond these an image is no image of the trained body part, whatever it shows.
HOPELESS_FACTOR = 100.0
BODY_PART_MM = (1.0, 3000.0)
# A CT in Hounsfield units has air or fat far below this, in every image.
HOUNSFIELD_MINIMUM = -100.0
_MEDIAN, _TAILS = 50.0, (5.0, 95.0)
_AXES = ("z", "y", "x")
EMPTY = "the prediction is empty: no voxel is foreground"


@dataclass(frozen=True)
class ChannelSummary:
    """Intensities of one channel of an image.

    Attributes:
        minimum: Lowest intensity.
        maximum: Highest intensity.
        percentiles: Percentiles (`PERCENTILES`) of the voxels that are not 0.
    """

    minimum: float
    maximum: float
    percentiles: tuple[float, ...]


@dataclass(frozen=True)
class ImageSummary:
    """What an image is compared by.

    Attributes:
        spacing: Spacing along the canonical `(Z, Y, X)`.
        size: Extent along the canonical `(Z, Y, X)`.
        channels: Intensities, in channel order.
        is_grey: Whether the image has three channels that are the same.
        has_spacing: Whether its file states the spacing.
    """

    spacing: tuple[float, ...]
    size: tuple[float, ...]
    channels: tuple[ChannelSummary, ...]
    is_grey: bool
    has_spacing: bool = True


def summarize_image(volume: PreparedVolume) -> ImageSummary:
    """Measure an image.

    Args:
        volume: The prepared image.

    Returns:
        Its summary.
    """
    spacing, size = _canonical_lengths(volume.native)
    positions = [int(np.searchsorted(QUANTILE_POINTS, value)) for value in PERCENTILES]
    is_cropped = volume.array.shape[1:] != Reorientation(volume.native).canonical_grid.shape
    channels = []
    for channel, quantiles in zip(volume.array, volume.quantiles, strict=True):
        lowest, highest = float(channel.min()), float(channel.max())
        if is_cropped:  # the margins that were cut off are 0
            lowest, highest = min(lowest, 0.0), max(highest, 0.0)
        percentiles = tuple(float(quantiles[position]) for position in positions)
        channels.append(ChannelSummary(lowest, highest, percentiles))
    return ImageSummary(
        spacing, size, tuple(channels), is_grey(volume.array), volume.native.has_spacing
    )


def refuse_hopeless_grid(grid: Grid, data: TrainingData) -> None:
    """Refuse an image whose extent cannot be that of what the model was trained on.

    Args:
        grid: The grid of the image.
        data: What the model was trained on.

    Raises:
        UserError: Its longest side is a hundredfold off, or no length of a body part while the
            model was trained on body parts. Most often the header has the wrong unit.
    """
    # Pixels say nothing of what they show, and large images are tiled.
    if data.unit != MM or not grid.has_spacing:
        return
    spacing, size = _canonical_lengths(grid)
    longest = max(size)
    trained = max(low for low, _ in data.size), max(high for _, high in data.size)
    factor = _factor_outside(longest, trained)
    smallest, largest = BODY_PART_MM
    is_of_body = smallest < trained[0] and trained[1] < largest
    is_no_body_part = is_of_body and not smallest <= longest <= largest
    if factor < HOPELESS_FACTOR and not (is_no_body_part and factor >= SIZE_FACTOR):
        return
    raise UserError(
        f"the image is {_by_axis(size)} mm in size (x, y, z), with a spacing of "
        f"{_by_axis(spacing)} mm; the model was trained on images of {_ranges_by_axis(data.size)} "
        f"mm, with a spacing of {_ranges_by_axis(data.spacing)} mm. At that scale a prediction "
        "means nothing: correct the spacing, or its unit, in the header of the image"
    )


def describe_differences(
    image: ImageSummary, data: TrainingData, channel_names: Sequence[str]
) -> list[str]:
    """Say in what an image differs several-fold from the images that a model was trained on.

    Args:
        image: The image.
        data: What the model was trained on.
        channel_names: The names of the channels.

    Returns:
        One sentence for each difference; empty where there is none.
    """
    sentences = _describe_space(image, data)
    for name, channel, trained in zip(channel_names, image.channels, data.channels, strict=True):
        sentences += _describe_intensities(f"channel {name}", channel, trained)
    sentences += _describe_colours(image, data)
    return sentences


def describe_labels(
    labels: np.ndarray, label_scheme: LabelScheme, data: TrainingData | None
) -> list[str]:
    """Say where a prediction is empty, or shows no background.

    Args:
        labels: The predicted label map `(Z, Y, X)`.
        label_scheme: What its values stand for.
        data: What the model was trained on; None where that is not known.

    Returns:
        One sentence, or none.
    """
    lowest, highest = int(labels.min()), int(labels.max())
    if highest == 0:
        return [EMPTY]
    covers_images = data is not None and data.foreground[1] > 0.99
    if lowest == 0 or covers_images:
        return []
    if lowest == highest:
        labelled = zip(label_scheme.class_names, label_scheme.label_sets, strict=True)
        names = [name for name, values in labelled if lowest in values]
        return [f"every voxel is predicted as {' and '.join(names)}"]
    return ["every voxel is predicted as foreground, none as background"]


def _describe_space(image: ImageSummary, data: TrainingData) -> list[str]:
    """Compare spacing and size, where both are known in one unit."""
    if data.unit == MM and not image.has_spacing:
        return [
            "its spacing is not known, as the file states none, and voxels are taken for 1 mm; the "
            f"training images have {_ranges_by_axis(data.spacing)} mm"
        ]
    sentences = _describe_lengths("spacing", image.spacing, data.spacing, SPACING_FACTOR, data.unit)
    return sentences + _describe_lengths("size", image.size, data.size, SIZE_FACTOR, data.unit)


def _describe_lengths(
    what: str,
    found: Sequence[float],
    trained: Sequence[Range],
    max_factor: float,
    unit: str,
) -> list[str]:
    """Compare spacing or size along each axis."""
    differing = []
    for axis, length, expected in zip(_AXES, found, trained, strict=True):
        if _factor_outside(length, expected) >= max_factor:
            differing.append(
                f"{_number(length)} {unit} along {axis} (trained on {_show(expected)} {unit})"
            )
    if not differing:
        return []
    return [f"its {what} is unlike that of the training images: {', '.join(reversed(differing))}"]


def _describe_intensities(name: str, found: ChannelSummary, trained: ChannelRanges) -> list[str]:
    """Compare the range and the histogram of a channel."""
    if found.minimum == found.maximum:
        return [f"{name}: all voxels have the same value, {_number(found.minimum)}"]
    extent = (
        f"from {_number(found.minimum)} to {_number(found.maximum)}, and the training images from "
        f"{_number(trained.minimum[0])} to {_number(trained.maximum[1])}"
    )
    if trained.minimum[1] < HOUNSFIELD_MINIMUM and found.minimum >= 0:
        return [
            f"{name}: no voxel is below 0; its intensities go {extent}. Was it not converted to "
            "Hounsfield units?"
        ]
    width = found.percentiles[-1] - found.percentiles[0]
    if trained.width[1] > 0 and _factor_outside(width, trained.width) >= WIDTH_FACTOR:
        hint = ""
        if found.minimum >= 0 and found.maximum <= 1 and trained.maximum[0] > 1:
            hint = ". Was it scaled to 0 to 1?"
        return [
            f"{name}: its intensities are spread over {_number(width)} ({PERCENTILES[0]} to "
            f"{PERCENTILES[-1]} percentile), those of the training images over "
            f"{_show(trained.width)}; they go {extent}{hint}"
        ]
    return _describe_shift(name, found, trained)


def _describe_shift(name: str, found: ChannelSummary, trained: ChannelRanges) -> list[str]:
    """Compare where the histogram of a channel lies."""
    tail_limit = TAIL_SHIFT * (trained.percentiles[-1][1] - trained.percentiles[0][0])
    limits = {_MEDIAN: MEDIAN_SHIFT * trained.typical_width} | dict.fromkeys(_TAILS, tail_limit)
    shifted = []
    for percentile, value, expected in zip(
        PERCENTILES, found.percentiles, trained.percentiles, strict=True
    ):
        distance = max(expected[0] - value, value - expected[1], 0.0)
        if distance > limits.get(percentile, np.inf):
            shifted.append(f"{percentile:g} percentile {_number(value)} and not {_show(expected)}")
    if not shifted:
        return []
    return [f"{name}: its intensities lie elsewhere than in training: {', '.join(shifted)}"]


def _describe_colours(image: ImageSummary, data: TrainingData) -> list[str]:
    """Compare whether an image of three channels is in colour."""
    if len(image.channels) != 3:
        return []
    if image.is_grey and data.grey_cases == 0:
        return [
            "the image is grey (its three channels are the same), the model was trained on colour "
            "images"
        ]
    if not image.is_grey and data.grey_cases == data.num_cases:
        return [
            "the image is in colour, the model was trained on grey images (three channels that are "
            "the same)"
        ]
    return []


def _canonical_lengths(grid: Grid) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return spacing and size along the canonical `(Z, Y, X)`, as the fingerprint counts them."""
    canonical = Reorientation(grid).canonical_grid
    spacing = canonical.sampling_spacing
    size = np.multiply(spacing, canonical.shape)
    return spacing, tuple(float(length) for length in size)


def _factor_outside(value: float, expected: Range) -> float:
    """Return how many times a value is larger or smaller than a range; 1 within it."""
    lowest, highest = expected
    tiny = 1e-12
    return max(value / max(highest, tiny), lowest / max(value, tiny), 1.0)


def _number(value: float) -> str:
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def _show(expected: Range) -> str:
    lowest, highest = (_number(value) for value in expected)
    return lowest if lowest == highest else f"{lowest} to {highest}"


def _by_axis(lengths: Sequence[float]) -> str:
    return " x ".join(_number(length) for length in reversed(lengths))


def _ranges_by_axis(ranges: Sequence[Range]) -> str:
    return " x ".join(_show(expected) for expected in reversed(ranges))
