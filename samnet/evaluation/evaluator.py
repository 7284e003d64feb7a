"""The evaluation of a folder of predictions against a folder of references."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samnet.core.errors import DatasetFaults, SamnetError, UserError
from samnet.core.worker_pool import run_jobs
from samnet.dataset.cases import find_label_files
from samnet.dataset.description import DatasetDescription
from samnet.dataset.images import Image, ending_of, is_2d_image, read_labels
from samnet.evaluation.metrics import case_metrics
from samnet.evaluation.policies import DEFAULT_NSD_TOLERANCE_MM, STANDARD, find_policy
from samnet.evaluation.summary import (
    CaseScores,
    LeftOut,
    Protocol,
    summarize,
    write_csv,
    write_summary,
)

SUMMARY_FILE = "summary.json"
CSV_FILE = "metrics.csv"
INCOMPLETE_SUMMARY_FILE = "summary_incomplete.json"
INCOMPLETE_CSV_FILE = "metrics_incomplete.csv"

log = logging.getLogger(__name__)


class EvaluationIncomplete(SamnetError):
    """Some cases could not be evaluated. The others were: `summary` is theirs, and names the failed ones."""

    def __init__(self, message: str, summary: dict[str, Any]) -> None:
        self.summary = summary
        super().__init__(message)


@dataclass(frozen=True)
class Pair:
    """A prediction and its reference."""

    identifier: str
    prediction_file: Path
    reference_file: Path


@dataclass(frozen=True)
class Pairing:
    """What two folders have in common.

    faults: one sentence for every file without its partner.
    skipped: the names of those files' cases.
    """

    pairs: tuple[Pair, ...]
    skipped: tuple[str, ...]
    faults: tuple[str, ...]


def evaluate_folder(
    predictions: Path,
    references: Path | Mapping[str, Path],
    description: DatasetDescription,
    output: Path,
    processes: int,
    policy: str = STANDARD,
    nsd_tolerance_mm: float = DEFAULT_NSD_TOLERANCE_MM,
    skip_missing: bool = False,
) -> dict[str, Any]:
    """Score every prediction, write `summary.json` and `metrics.csv` to `output`, and return the summary.

    Its form is described in `samnet.evaluation.summary`. All files are checked before the first is scored. Files that
    cannot be read do not stop the others; what is then written is called `summary_incomplete.json` and
    `metrics_incomplete.csv`, so that nobody takes it for the whole.

    references: a folder of label maps, or the label map of each case.
    nsd_tolerance_mm: in pixels for pictures, which have no spacing.
    skip_missing: evaluate only the cases in both folders; the summary names the others.

    Raises:
        UserError: a folder does not exist or has no label maps, or there is no such policy.
        DatasetFaults: a case is in one folder only, or its files differ in shape or grid, or hold labels that
            `dataset.json` does not declare; the report names all.
        EvaluationIncomplete: files could not be read; the others are evaluated and written.
    """
    find_policy(policy)
    pairing = pair_files(predictions, references, description.label_map_endings)
    if pairing.faults and skip_missing:
        log.warning("%d cases are in one of the folders only and are skipped", len(pairing.skipped))
    arguments = {pair.identifier: (pair, description) for pair in pairing.pairs}
    failed = _check_all(
        arguments, [] if skip_missing else list(pairing.faults), predictions, processes
    )
    pairs = [pair for pair in pairing.pairs if pair.identifier not in failed]
    protocol = Protocol(description.label_scheme, policy, nsd_tolerance_mm, _unit(pairs))
    readable = {pair.identifier: (pair, protocol) for pair in pairs}
    outcome = run_jobs(evaluate_pair, readable, processes, "evaluating")
    failed |= outcome.failures
    left_out = LeftOut(pairing.skipped if skip_missing else (), failed)
    summary = summarize(list(outcome.results.values()), protocol, left_out)
    written = _write(summary, output)
    if failed:
        raise EvaluationIncomplete(_describe_failures(summary, written, output), summary)
    return summary


def _unit(pairs: Sequence[Pair]) -> str:
    """Of distances: pixels for pictures, which have no spacing. The first case stands for all."""
    if not pairs:
        return "mm"
    file = pairs[0].reference_file
    ending = ending_of(file) or ""
    may_be = is_2d_image(ending, num_slices=1)
    return "pixels" if may_be and is_2d_image(ending, read_labels(file).grid.shape[0]) else "mm"


def _check_all(
    arguments: dict[str, tuple], faults: list[str], predictions: Path, processes: int
) -> dict[str, str]:
    """Look at every file, and return why some cannot be read. Scoring takes minutes; faults are told before it."""
    checked = run_jobs(find_pair_faults, arguments, processes, "checking")
    faults += [
        fault for identifier in sorted(checked.results) for fault in checked.results[identifier]
    ]
    if faults:
        faults += [checked.failures[identifier] for identifier in sorted(checked.failures)]
        raise DatasetFaults(f"{predictions} cannot be evaluated", faults)
    return checked.failures


def _write(summary: dict[str, Any], output: Path) -> list[Path]:
    complete = [output / SUMMARY_FILE, output / CSV_FILE]
    incomplete = [output / INCOMPLETE_SUMMARY_FILE, output / INCOMPLETE_CSV_FILE]
    if not summary["metric_per_case"]:
        return []
    files = incomplete if summary["failed"] else complete
    write_csv(summary, files[1])
    write_summary(summary, files[0])
    if files is complete:
        for file in incomplete:
            file.unlink(missing_ok=True)
    return files


def _describe_failures(summary: dict[str, Any], written: list[Path], output: Path) -> str:
    failed, done = summary["failed"], len(summary["metric_per_case"])
    where = (
        f"; the scores of the others are in {' and '.join(map(str, written))}" if written else ""
    )
    if (output / SUMMARY_FILE).exists():
        where += f"; {SUMMARY_FILE} and {CSV_FILE} there are of an earlier evaluation"
    listing = "\n".join(f"  {identifier}: {reason}" for identifier, reason in failed.items())
    return f"{len(failed)} of {len(failed) + done} cases could not be evaluated{where}:\n{listing}"


def pair_files(
    predictions: Path, references: Path | Mapping[str, Path], endings: Sequence[str]
) -> Pairing:
    """Find the label maps of both sides, those in folders by their endings, and match them by name.

    Raises:
        UserError: a folder does not exist or has no such file, or the two have no case in common.
    """
    predicted = _label_files(predictions, endings)
    expected = _label_files(references, endings) if isinstance(references, Path) else references
    common = sorted(set(predicted) & set(expected))
    if not common:
        one, other = predicted[min(predicted)], expected[min(expected)]
        raise UserError(
            f"{predictions} and {other.parent} have no case in common: there are {one.name} and {other.name}; "
            "a prediction has the name of its reference"
        )
    missing = [
        f"{predictions / file.name}: missing, the prediction of {file}; predict the case, or add --missing skip"
        for name, file in sorted(expected.items())
        if name not in predicted
    ]
    surplus = [
        f"{file}: has no reference of that name; add it or remove the prediction, or add --missing skip"
        for name, file in sorted(predicted.items())
        if name not in expected
    ]
    return Pairing(
        pairs=tuple(Pair(name, predicted[name], expected[name]) for name in common),
        skipped=tuple(sorted(set(predicted) ^ set(expected))),
        faults=(*missing, *surplus),
    )


def _label_files(folder: Path, endings: Sequence[str]) -> dict[str, Path]:
    files = find_label_files(folder, endings)
    if not files:
        raise UserError(
            f"{folder}: holds no {endings[0]} file, which is what dataset.json names as file ending"
        )
    return files


def find_pair_faults(pair: Pair, description: DatasetDescription) -> list[str]:
    """What makes a pair incomparable, as sentences; empty when nothing does.

    Raises:
        UserError: one or both of the files cannot be read.
    """
    prediction, reference = _read_both(pair)
    faults = _grid_faults(pair, prediction, reference)
    highest = description.label_scheme.highest_value
    for file, image in ((pair.prediction_file, prediction), (pair.reference_file, reference)):
        found = int(image.array.max())
        if found > highest:
            remedy = (
                "map 255 to 1"
                if found == 255 and highest == 1
                else "correct the voxels, or declare the label"
            )
            faults.append(
                f"{file}: has the label {found}, dataset.json declares 0 to {highest}; {remedy}"
            )
    return faults


def _grid_faults(pair: Pair, prediction: Image, reference: Image) -> list[str]:
    difference = prediction.grid.difference(reference.grid)
    if difference is None:
        return []
    remedy = "resample the prediction to the reference's grid"
    if difference.kind != "shape":
        remedy += ", or correct the wrong header"
    found = difference.describe(str(pair.reference_file))
    return [f"{pair.prediction_file}: {found}; {remedy}"]


def _read_both(pair: Pair) -> tuple[Image, Image]:
    images, errors = [], []
    for file in (pair.prediction_file, pair.reference_file):
        try:
            images.append(read_labels(file))
        except UserError as error:
            errors.append(str(error))
    if errors:
        raise UserError("; ".join(errors))
    return images[0], images[1]


def evaluate_pair(pair: Pair, protocol: Protocol) -> CaseScores:
    """Score one case.

    Raises:
        UserError: a file cannot be read.
    """
    prediction, reference = _read_both(pair)
    metrics = case_metrics(
        prediction.array[0],
        reference.array[0],
        protocol.label_scheme,
        reference.grid.spacing,
        protocol.policy,
        protocol.nsd_tolerance,
    )
    return CaseScores(pair.identifier, pair.prediction_file, pair.reference_file, metrics)
