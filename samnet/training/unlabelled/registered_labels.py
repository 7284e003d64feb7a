"""Labels of a run's cases without labels, taken over from its labelled cases by registration."""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from samnet.core.files import read_json, write_json
from samnet.core.records import from_json, to_json
from samnet.core.worker_pool import Outcome, run_jobs
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
from samnet.registration.propagation import (
    MAX_CANDIDATES,
    Atlas,
    Choice,
    choose_atlases,
    propagate_labels,
)
from samnet.registration.scan import Scan

log = logging.getLogger(__name__)

# Labels err less, the more alike images are near the structures. So of four cases for each one to
# learn from, those that are most alike take labels over, and of these again the most alike are
# learnt from, if they are alike at all (docs/measurements.md).
CANDIDATES = 4
REGISTERED = 1.5
MAX_REGISTERED_SHARE, MAX_LEARNT_SHARE = 0.75, 0.5  # of the candidates, where there are few
MIN_SIMILARITY = 0.8
# Labels of the hippocampus and of left ventricles keep 100 % of their contrast or more, those of
# structures that lie elsewhere in each image up to 75 % (docs/measurements.md).
MIN_CONTRAST = 0.85
_FILE = "registration.json"
_METHOD = 2  # of registering; another one is another key
_STREAM = 4  # sets the draw of cases apart from other draws


@dataclass(frozen=True)
class RegisteredLabels:
    """What registration has found for a run.

    Attributes:
        kept_contrast: `kept_contrast` of the labels of `cases`.
        is_used: Whether these are trained on: they keep at least `MIN_CONTRAST`.
        cases: The cases to learn from: of those that have taken labels over, the most alike, as far
            as their similarity is `MIN_SIMILARITY` or more.
        similarities: Case -> how alike it and the labelled ones are near the structures, -1 to 1;
            of all that have taken labels over.
        num_compared: Number of cases of which these are the most alike after an affine
            registration.
        failures: Case -> why it could not be registered.
        key: Hash of what was registered, and how.
        is_finished: Whether all of it was; what there is of a stopped run is kept otherwise.
    """

    kept_contrast: float
    is_used: bool
    cases: tuple[str, ...]
    similarities: dict[str, float]
    num_compared: int
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
        taken = len(self.similarities)
        total = f"{self.num_compared} cases without labels"
        if not taken:
            name, reason = next(iter(self.failures.items()))
            return f"none of {total} could be registered ({name}: {reason})"
        text = f"labels were taken over for {taken} of {total}"
        if self.failures:
            name, reason = next(iter(self.failures.items()))
            text += f"; not registered: {', '.join(self.failures)} ({name}: {reason})"
        if not self.cases:
            return (
                f"{text}. None is learnt from: near the structures, the correlation with the "
                f"labelled images is {max(self.similarities.values()):.2f} at most, and "
                f"{MIN_SIMILARITY:g} is needed"
            )
        text += (
            f". The {len(self.cases)} that are most alike near the structures keep "
            f"{self.kept_contrast:.0%} of their contrast"
        )
        if self.is_used:
            return f"{text} and are learnt from"
        return (
            f"{text}. Less than {MIN_CONTRAST:.0%} says that the structures lie elsewhere in each "
            "image: these labels are not learnt from"
        )


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
        number: How many cases are learnt from at most.
        seed: Draws cases where there are more than `CANDIDATES` times as many.
        ignore_label: A label that stands for no structure; None for none.
        folder: Where the labels are written.
        processes: Number of worker processes; 0 for none.

    Returns:
        What was found.
    """
    others = _draw(unlabelled, CANDIDATES * number, seed)
    atlases = _draw(labelled, MAX_CANDIDATES, seed)
    key = _key_of(atlases, others, windows, number)
    found = RegisteredLabels.load(folder)
    if found is not None and found.key == key and found.is_finished:
        return found
    if found is None or found.key != key:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        write_json(folder / _FILE, to_json(RegisteredLabels(0.0, False, (), {}, 0, {}, key, False)))
    registered = _register(atlases, others, windows, number, ignore_label, folder, processes)
    original = [
        contrasts(_grey(case, windows).mean(0), _without(case.labels(), ignore_label))
        for case in atlases
    ]
    similarities = {
        case: round(result.similarity, 4) for case, result in sorted(registered.results.items())
    }
    most = min(number, math.ceil(MAX_LEARNT_SHARE * len(others)))
    cases = [
        case for case in _most_alike(similarities, most) if similarities[case] >= MIN_SIMILARITY
    ]
    kept = kept_contrast(original, [registered.results[case].contrasts for case in cases])
    found = RegisteredLabels(
        kept_contrast=round(kept, 4),
        is_used=round(kept, 4) >= MIN_CONTRAST,
        cases=tuple(cases),
        similarities=similarities,
        num_compared=len(others),
        failures=dict(sorted(registered.failures.items())),
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


def _draw(cases: Sequence[StoredCase], number: int, seed: int) -> list[StoredCase]:
    order = np.random.default_rng([seed, _STREAM]).permutation(len(cases))
    return [cases[index] for index in sorted(order[:number])]


def _most_alike(similarities: Mapping[str, float], most: int) -> list[str]:
    """Return the most similar cases, sorted by name."""
    return sorted(sorted(similarities, key=similarities.__getitem__, reverse=True)[:most])


def _key_of(
    labelled: Sequence[StoredCase],
    others: Sequence[StoredCase],
    windows: Sequence[IntensityWindow],
    number: int,
) -> str:
    cases = [[case.identifier, case.record.source_key] for case in (*labelled, *others)]
    content = [_METHOD, number, len(labelled), cases, [to_json(window) for window in windows]]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _register(
    labelled: Sequence[StoredCase],
    others: Sequence[StoredCase],
    windows: Sequence[IntensityWindow],
    number: int,
    ignore_label: int | None,
    folder: Path,
    processes: int,
) -> Outcome:
    """Compare the others with the labelled cases, and bring labels to the most alike of them.

    Returns:
        A `_Registered` for each of these, and the failures of all.
    """
    names = tuple((case.folder, case.identifier, case.record.source_key) for case in labelled)
    jobs: dict[str, tuple] = {case.identifier: (case, names, tuple(windows)) for case in others}
    compared = run_jobs(_compare_case, jobs, processes, "comparing")
    choices: dict[str, Choice] = compared.results
    most = min(math.ceil(REGISTERED * number), math.ceil(MAX_REGISTERED_SHARE * len(others)))
    best = _most_alike({case: choice.similarity for case, choice in choices.items()}, most)
    jobs = {}
    for case in others:
        if case.identifier in best:
            chosen = tuple(names[index] for index in choices[case.identifier].indices)
            jobs[case.identifier] = (case, chosen, tuple(windows), ignore_label, folder)
    registered = run_jobs(_take_labels_of_case, jobs, processes, "registering")
    _atlas.cache_clear()
    return Outcome(registered.results, compared.failures | registered.failures)


def _compare_case(
    case: StoredCase,
    atlases: tuple[tuple[Path, str, str], ...],
    windows: tuple[IntensityWindow, ...],
) -> Choice:
    """Choose the labelled cases that are most alike a case."""
    scan = Scan.of(_grey(case, windows), case.record.spacing)
    return choose_atlases([_atlas(*atlas, windows) for atlas in atlases], scan)


@dataclass(frozen=True)
class _Registered:
    """A case that has taken labels over: the contrasts of these, and how alike the cases are."""

    contrasts: dict[int, float]
    similarity: float


def _take_labels_of_case(
    case: StoredCase,
    atlases: tuple[tuple[Path, str, str], ...],
    windows: tuple[IntensityWindow, ...],
    ignore_label: int | None,
    folder: Path,
) -> _Registered:
    """Register a case with labelled ones, the most similar one first, unless it was done."""
    array, file = _grey(case, windows), folder / f"{case.identifier}_similarity.json"
    if has_labels(folder, case):
        labels = StoredCase(case.folder, case.record, folder).labels()
        similarity = read_json(file)["similarity"]
    else:
        scan = Scan.of(array, case.record.spacing)
        found = propagate_labels([_atlas(*atlas, windows) for atlas in atlases], scan)
        labels, similarity = found.labels, found.similarity
        write_json(file, {"similarity": similarity})  # before the labels, which say that it is done
        store_labels(folder, case, labels)
    return _Registered(contrasts(array.mean(0), _without(labels, ignore_label)), similarity)


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
