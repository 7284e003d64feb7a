"""What a model was trained on: ranges over its training cases, without anything of a single one.

It lies next to the weights, so that a test image can be compared with it before it is predicted.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from samnet.core.errors import UserError
from samnet.core.files import read_json, write_json
from samnet.core.records import LEFT_OUT_BY_DEFAULT, from_json, to_json
from samnet.fingerprint.records import CaseFingerprint, ChannelStatistics, Fingerprint

SCHEMA_VERSION = 1
MM = "mm"
Range = tuple[float, float]


@dataclass(frozen=True)
class ChannelRanges:
    """The intensities of one channel. Each range is from the lowest to the highest case.

    Attributes:
        minimum: Lowest intensity of a case.
        maximum: Highest intensity of a case.
        percentiles: Percentiles (`PERCENTILES`) of the voxels of a case that are not 0.
        width: From the first to the last of these percentiles.
        typical_width: Its median over the cases.
        whole_numbers: Whether every intensity of every case is a whole number.
    """

    minimum: Range
    maximum: Range
    percentiles: tuple[Range, ...]
    width: Range
    typical_width: float
    whole_numbers: bool


@dataclass(frozen=True)
class TrainingData:
    """The training cases of a model. Each range is from the lowest to the highest case.

    Attributes:
        schema_version: Version of the file's form.
        num_cases: Number of cases.
        grey_cases: How many of them are colour images whose channels are all the same.
        unit: Unit of spacing and size: `mm`, or `pixels` (2D) or `voxels` where none is known.
        spacing: Spacing along the canonical `(Z, Y, X)`.
        size: Extent along the canonical `(Z, Y, X)`.
        channels: Intensities, in channel order.
        foreground: Largest share of the voxels that one class or region takes.
        steps: Optimiser steps that the run has done, in exported models; None in a run's folder,
            which has its `metrics.jsonl`.
    """

    schema_version: int
    num_cases: int
    grey_cases: int
    unit: str
    spacing: tuple[Range, Range, Range]
    size: tuple[Range, Range, Range]
    channels: tuple[ChannelRanges, ...]
    foreground: Range
    steps: int | None = field(default=None, metadata=LEFT_OUT_BY_DEFAULT)

    def save(self, path: Path) -> None:
        """Write the ranges as JSON.

        Args:
            path: The file.
        """
        write_json(path, to_json(self))

    @classmethod
    def load(cls, path: Path) -> TrainingData:
        """Read the ranges.

        Args:
            path: The file.

        Returns:
            Its content.

        Raises:
            UserError: The file is missing, of another version, or damaged.
        """
        content = read_json(path)
        if not isinstance(content, dict) or content.get("schema_version") != SCHEMA_VERSION:
            raise UserError(f"{path}: written by another version of samnet")
        return from_json(cls, content, str(path))


def summarize_training_data(fingerprint: Fingerprint, names: Iterable[str]) -> TrainingData | None:
    """Compute the ranges over the training cases of a run.

    Args:
        fingerprint: The statistics of the data set.
        names: The names of the training cases.

    Returns:
        The ranges; None where none of the cases has been measured.
    """
    cases = [fingerprint.cases[name] for name in sorted(names) if name in fingerprint.cases]
    if not cases:
        return None
    spacings = np.array([case.spacing for case in cases])
    shapes = np.array([case.shape for case in cases])
    channels = []
    for index in range(len(fingerprint.channel_names)):
        channels.append(_channel_ranges([case.channels[index] for case in cases]))
    return TrainingData(
        schema_version=SCHEMA_VERSION,
        num_cases=len(cases),
        grey_cases=sum(_is_grey(case) for case in cases),
        unit=fingerprint.unit,
        spacing=_ranges_by_axis(spacings),
        size=_ranges_by_axis(spacings * shapes),
        channels=tuple(channels),
        foreground=_range([_foreground_share(case) for case in cases]),
    )


def merge_training_data(parts: Sequence[TrainingData]) -> TrainingData:
    """Combine the ranges of the folds of a model.

    Args:
        parts: At least one, of the same channels.

    Returns:
        Ranges that hold all of them; the counts of cases are those of the largest fold.
    """
    largest = max(parts, key=lambda part: part.num_cases)
    channels_of_parts = [part.channels for part in parts]
    channels = [_merge_channels(group) for group in zip(*channels_of_parts, strict=True)]
    return TrainingData(
        schema_version=SCHEMA_VERSION,
        num_cases=largest.num_cases,
        grey_cases=largest.grey_cases,
        unit=largest.unit,
        spacing=_hull_by_axis([part.spacing for part in parts]),
        size=_hull_by_axis([part.size for part in parts]),
        channels=tuple(channels),
        foreground=_hull([part.foreground for part in parts]),
    )


def _channel_ranges(channels: Sequence[ChannelStatistics]) -> ChannelRanges:
    percentiles = np.array([channel.nonzero for channel in channels])
    widths = percentiles[:, -1] - percentiles[:, 0]
    return ChannelRanges(
        minimum=_range([channel.minimum for channel in channels]),
        maximum=_range([channel.maximum for channel in channels]),
        percentiles=tuple(_range(column) for column in percentiles.T),
        width=_range(widths),
        typical_width=float(np.median(widths)),
        whole_numbers=all(channel.whole_numbers for channel in channels),
    )


def _merge_channels(parts: Sequence[ChannelRanges]) -> ChannelRanges:
    percentiles_of_parts = [part.percentiles for part in parts]
    percentiles = zip(*percentiles_of_parts, strict=True)
    return ChannelRanges(
        minimum=_hull([part.minimum for part in parts]),
        maximum=_hull([part.maximum for part in parts]),
        percentiles=tuple(_hull(ranges) for ranges in percentiles),
        width=_hull([part.width for part in parts]),
        typical_width=float(np.median([part.typical_width for part in parts])),
        whole_numbers=all(part.whole_numbers for part in parts),
    )


def _is_grey(case: CaseFingerprint) -> bool:
    """Tell whether the three channels of a case have the same statistics."""
    channels = case.channels
    return len(channels) == 3 and channels[0] == channels[1] == channels[2]


def _foreground_share(case: CaseFingerprint) -> float:
    voxels = [statistics.voxels for statistics in case.classes.values()]
    return max(voxels, default=0) / float(np.prod(case.shape))


def _ranges_by_axis(values: np.ndarray) -> tuple[Range, Range, Range]:
    z, y, x = (_range(column) for column in values.T)
    return z, y, x


def _hull_by_axis(parts: Sequence[tuple[Range, Range, Range]]) -> tuple[Range, Range, Range]:
    z, y, x = (_hull(ranges) for ranges in zip(*parts, strict=True))
    return z, y, x


def _range(values: Sequence[float] | np.ndarray) -> Range:
    return float(np.min(values)), float(np.max(values))


def _hull(ranges: Iterable[Range]) -> Range:
    lowest, highest = zip(*ranges, strict=True)
    return min(lowest), max(highest)
