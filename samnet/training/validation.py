"""Mean Dice over whole validation volumes, during the training."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from samnet.core.progress import ProgressBar
from samnet.dataset.label_scheme import LabelScheme
from samnet.evaluation.metrics import dice_per_class
from samnet.inference.batches import BatchSize
from samnet.inference.volume import predict_volume
from samnet.models.network import SegmentationNetwork
from samnet.plan.configuration import Configuration
from samnet.preprocessing.storage import StoredCase
from samnet.training.distributed import SINGLE_PROCESS, Distributed

MAX_CASES = 12


def choose_validation_cases(cases: Sequence[StoredCase]) -> list[StoredCase]:
    """Choose at most `MAX_CASES`: enough to steer by without spending the time of the training.

    Args:
        cases: The validation cases.

    Returns:
        All, or evenly chosen ones, sorted by name.
    """
    ordered = sorted(cases, key=lambda case: case.identifier)
    if len(ordered) <= MAX_CASES:
        return ordered
    positions = np.linspace(0, len(ordered) - 1, MAX_CASES).round().astype(int)
    return [ordered[position] for position in positions]


def validate(
    network: SegmentationNetwork,
    configuration: Configuration,
    cases: Sequence[StoredCase],
    label_scheme: LabelScheme,
    distributed: Distributed = SINGLE_PROCESS,
    after_case: Callable[[], None] = lambda: None,
) -> np.ndarray:
    """Compute the mean Dice over whole volumes.

    Args:
        network: The network.
        configuration: Its configuration.
        cases: The validation cases.
        label_scheme: The classes or regions of its outputs.
        distributed: The processes that share the cases, each of which counts once. All get the same
            result.
        after_case: Called equally often in every process. What it raises ends the validation.

    Returns:
        Dice of each foreground class or region; NaN for one that no case shows.
    """
    network.eval()
    batch = BatchSize(next(network.parameters()).device)
    scores = {}
    numbered = list(enumerate(cases))
    together = distributed.world_size
    with ProgressBar(total=len(cases), desc="validating", only_within=True) as bar:
        for first in range(0, len(cases), together):
            for number, case in distributed.share(numbered[first : first + together]):
                prediction = predict_volume(
                    [network],
                    configuration,
                    case.volume(),
                    mirror=False,
                    label_scheme=label_scheme,
                    batch=batch,
                )
                scores[number] = dice_per_class(prediction, case.labels(), label_scheme)
            bar.update(min(together, len(cases) - first))
            after_case()
    network.train()
    every: dict[int, np.ndarray] = {}
    for part in distributed.gather(scores):
        every |= part
    table = np.array([every[number] for number in sorted(every)])
    counts = (~np.isnan(table)).sum(axis=0)
    return np.where(counts > 0, np.nansum(table, axis=0) / np.maximum(counts, 1), np.nan)
