"""Dice on whole volumes, as the training's compass."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from samnet.dataset.label_scheme import Regions
from samnet.evaluation.metrics import dice_per_class
from samnet.inference.volume import predict_volume
from samnet.models.network import SegmentationNetwork
from samnet.plan.configuration import Configuration
from samnet.preprocessing.storage import StoredCase
from samnet.training.distributed import SINGLE_PROCESS, Distributed

MAX_CASES = 12


def choose_validation_cases(cases: Sequence[StoredCase]) -> list[StoredCase]:
    """At most `MAX_CASES`, evenly chosen: enough to steer by without spending the training's time."""
    ordered = sorted(cases, key=lambda case: case.identifier)
    if len(ordered) <= MAX_CASES:
        return ordered
    return [
        ordered[index] for index in np.linspace(0, len(ordered) - 1, MAX_CASES).round().astype(int)
    ]


def validate(
    network: SegmentationNetwork,
    configuration: Configuration,
    cases: Sequence[StoredCase],
    num_classes: int,
    ignore_label: int | None,
    distributed: Distributed = SINGLE_PROCESS,
    after_case: Callable[[], None] = lambda: None,
    regions: Regions | None = None,
) -> np.ndarray:
    """Dice of each foreground class or region, averaged over cases, `(num_classes,)`; NaN for one that no case shows.

    processes: share the cases, each of which counts once, and all get the same result.
    after_case: called equally often in every process; what it raises ends the validation.
    """
    network.eval()
    classes = num_classes if regions is None else regions.label_sets
    scores = {}
    for first in range(0, len(cases), distributed.size):
        for number, case in distributed.share(list(enumerate(cases))[first : first + distributed.size]):
            prediction = predict_volume(
                [network], configuration, case.volume(), mirror=False, regions=regions
            )
            scores[number] = dice_per_class(prediction, case.labels(), classes, ignore_label)
        after_case()
    network.train()
    every = {number: row for part in distributed.gather(scores) for number, row in part.items()}
    table = np.array([every[number] for number in sorted(every)])
    counts = (~np.isnan(table)).sum(axis=0)
    return np.where(counts > 0, np.nansum(table, axis=0) / np.maximum(counts, 1), np.nan)
