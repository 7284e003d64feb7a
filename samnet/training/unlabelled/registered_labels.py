"""Labels of a run's cases without labels, taken over from its labelled cases by registration."""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from samnet.core.files import read_json, write_json
from samnet.core.records import from_json, to_json
from samnet.core.worker_pool import run_jobs
from samnet.plan.configuration import IntensityWindow
from samnet.preprocessing.intensity import apply_window, window_bounds
from samnet.preprocessing.storage import (
    StoredCase,
    has_labels,
    load_case,
    store_labels,
    with_labels,
)
from samnet.registration.contrast import contrasts, kept_contrast
from samnet.registration.propagation import MAX_CANDIDATES, Atlas, propagate_labels
from samnet.registration.scan import Scan

log = logging.getLogger(__name__)

# Labels of the hippocampus keep 89 % of their contrast or more, those of structures that lie
# elsewhere in each image up to 63 % (docs/measurements.md).
MIN_CONTRAST = 0.75
_FILE = "registration.json"
_STREAM = 4  # sets the draw of cases apart from other draws


@dataclass(frozen=True)
class RegisteredLabels:
    """What registration has found for a run.

    Attributes:
        kept_contrast: `kept_contrast` of the labels that were taken over.
        is_used: Whether they are trained on: they keep at least `MIN_CONTRAST`.
        cases: The cases that have taken labels over.
        failures: Case -> why it could not be registered.
        key: Hash of what was registered, and how.
        is_finished: Whether all of it was; what there is of a stopped run is kept otherwise.
    """

    kept_contrast: float
    is_used: bool
    cases: tuple[str, ...]
    failures: dict[str, str]
    key: str
    is_finished: bool

    @classmethod
    def load(cls, folder: Path) -> RegisteredLabels | None:
        """Read what `take_labels` has found; None before it has.

        Args:
            folder: The folder of the labels.
        """
        file = folder / _FILE
        return from_json(cls, read_json(file), str(file)) if file.is_file() else None

    def report(self) -> str:
        """Say what was found, for the log."""
        total = len(self.cases) + len(self.failures)
        if not self.cases:
            name, reason = next(iter(self.failures.items()))
            return f"none of {total} cases without labels could be registered ({name}: {reason})"
        text = (
            f"labels were taken over for {len(self.cases)} of {total} cases without labels; they "
            f"keep {self.kept_contrast:.0%} of their contrast"
        )
        if self.failures:
            name, reason = next(iter(self.failures.items()))
            text += f"; not registered: {', '.join(self.failures)} ({name}: {reason})"
        if not self.is_used:
            text += (
                f". Less than {MIN_CONTRAST:.0%} says that the structures lie elsewhere in each "
                "image: these labels are not learnt from"
            )
        return text


def take_labels(
    labelled: Sequence[StoredCase],
    unlabelled: Sequence[StoredCase],
    windows: Sequence[IntensityWindow],
    number: int,
    seed: int,
    ignore_label: int | None,
    folder: Path,
    processes: int,
) -> RegisteredLabels:
    """Take labels over, unless it was done with the same cases; a stopped run continues it.

    Args:
        labelled: The cases that the run trains on.
        unlabelled: The cases without labels.
        windows: The planned window of each channel.
        number: How many cases take labels over; drawn where there are more.
        seed: Fixes which.
        ignore_label: A label that stands for no structure; None for none.
        folder: Where the labels are written.
        processes: Number of worker processes; 0 for none.

    Returns:
        What was found.
    """
    order = np.random.default_rng([seed, _STREAM]).permutation(len(unlabelled))
    chosen = [unlabelled[index] for index in sorted(order[:number])]
    order = np.random.default_rng([seed, _STREAM]).permutation(len(labelled))
    atlases = [labelled[index] for index in sorted(order[:MAX_CANDIDATES])]
    key = _key_of(atlases, chosen, windows)
    found = RegisteredLabels.load(folder)
    if found is not None and found.key == key and found.is_finished:
        return found
    if found is None or found.key != key:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        write_json(folder / _FILE, to_json(RegisteredLabels(0.0, False, (), {}, key, False)))
    names = tuple((atlas.folder, atlas.identifier, atlas.record.source_key) for atlas in atlases)
    jobs = {case.identifier: (case, names, tuple(windows), ignore_label, folder) for case in chosen}
    outcome = run_jobs(_take_labels_of_case, jobs, processes, "registering")
    _atlas.cache_clear()
    original = [
        contrasts(_grey(case, windows).mean(0), _without(case.labels(), ignore_label))
        for case in atlases
    ]
    kept = round(kept_contrast(original, list(outcome.results.values())), 4)
    found = RegisteredLabels(
        kept_contrast=kept,
        is_used=kept >= MIN_CONTRAST,
        cases=tuple(sorted(outcome.results)),
        failures=dict(sorted(outcome.failures.items())),
        key=key,
        is_finished=True,
    )
    write_json(folder / _FILE, to_json(found))
    return found


def load_registered(cases: Sequence[StoredCase], folder: Path) -> list[StoredCase]:
    """Open the cases that have taken labels over.

    Args:
        cases: All cases without labels.
        folder: Where `take_labels` has written.

    Returns:
        Those with labels; none where these are not to be learnt from.
    """
    found = RegisteredLabels.load(folder)
    assert found is not None, "take_labels comes first"
    if not found.is_used:
        return []
    return [with_labels(case, folder) for case in cases if case.identifier in found.cases]


def _key_of(
    labelled: Sequence[StoredCase],
    others: Sequence[StoredCase],
    windows: Sequence[IntensityWindow],
) -> str:
    cases = [[case.identifier, case.record.source_key] for case in (*labelled, *others)]
    content = [len(labelled), cases, [to_json(window) for window in windows]]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _take_labels_of_case(
    case: StoredCase,
    atlases: tuple[tuple[Path, str, str], ...],
    windows: tuple[IntensityWindow, ...],
    ignore_label: int | None,
    folder: Path,
) -> dict[int, float]:
    """Register a case with the labelled ones unless it was done; return the contrasts of labels."""
    array = _grey(case, windows)
    if has_labels(folder, case):
        labels = StoredCase(case.folder, case.record, folder).labels()
    else:
        scan = Scan.of(array, case.record.spacing)
        labels = propagate_labels([_atlas(*atlas, windows) for atlas in atlases], scan)
        store_labels(folder, case, labels)
    return contrasts(array.mean(0), _without(labels, ignore_label))


@functools.lru_cache(maxsize=MAX_CANDIDATES)
def _atlas(
    folder: Path, identifier: str, source_key: str, windows: tuple[IntensityWindow, ...]
) -> Atlas:
    """Read a labelled case; the process keeps it for the next cases, by the key of its files."""
    case = load_case(folder, identifier)
    return Atlas(Scan.of(_grey(case, windows), case.record.spacing), case.labels())


def _grey(case: StoredCase, windows: Sequence[IntensityWindow]) -> np.ndarray:
    """Return the image of a case `(C, Z, Y, X)`, 0 to 1."""
    slices = np.moveaxis(case.volume().array, 1, 0)
    return np.moveaxis(apply_window(slices, window_bounds(windows, case.quantiles)), 1, 0)


def _without(labels: np.ndarray, ignore_label: int | None) -> np.ndarray:
    return labels if ignore_label is None else np.where(labels == ignore_label, 0, labels)
