"""The evaluation of a folder of predictions against a folder of references."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from samnet.core.errors import DatasetFaults, SamnetError, UserError
from samnet.core.worker_pool import Outcome, run_jobs
from samnet.dataset.description import DatasetDescription
from samnet.dataset.label_scheme import Label
from samnet.evaluation.metrics import case_metrics
from samnet.evaluation.pairing import (
    Pair,
    PairCheck,
    check_pair,
    known_grid,
    pair_files,
    read_pair,
)
from samnet.evaluation.policies import DEFAULT_NSD_TOLERANCE_MM, STANDARD, find_policy
from samnet.evaluation.summary import CaseScores, LeftOut, Protocol, summarize
from samnet.evaluation.summary_files import write_csv, write_summary
from samnet.evaluation.volumes import common_unit, voxel_volume

SUMMARY_FILE = "summary.json"
CSV_FILE = "metrics.csv"
INCOMPLETE_SUMMARY_FILE = "summary_incomplete.json"
INCOMPLETE_CSV_FILE = "metrics_incomplete.csv"

_ONE_VOXEL = (1.0, 1.0, 1.0)

log = logging.getLogger(__name__)


class EvaluationIncomplete(SamnetError):
    """Some cases could not be evaluated; the others were.

    Attributes:
        summary: The summary of the cases that were evaluated. It also names those that failed.
    """

    def __init__(self, message: str, summary: dict[str, Any]) -> None:
        """Keep the summary.

        Args:
            message: The message for the user.
            summary: The summary of the cases that were evaluated.
        """
        self.summary = summary
        super().__init__(message)


def evaluate_folder(
    predictions: Path,
    references: Path | Mapping[str, Path],
    description: DatasetDescription,
    output: Path,
    processes: int,
    policy: str = STANDARD,
    nsd_tolerance_mm: float = DEFAULT_NSD_TOLERANCE_MM,
    skip_missing: bool = False,
    tubes: Sequence[str] = (),
    patient_key: str | None = None,
) -> dict[str, Any]:
    """Score every prediction, and write `summary.json` and `metrics.csv`.

    All files are checked before the first one is scored. Files that cannot be read do not stop the
    others. The results are then called `summary_incomplete.json` and `metrics_incomplete.csv`, so
    that nobody takes them for the results of all cases.

    Args:
        predictions: Folder of predicted label maps.
        references: Folder of true label maps, or name of a case -> its label map.
        description: The data set, which declares the labels.
        output: Folder to write to.
        processes: Number of worker processes; 0 for none.
        policy: Name of the rule by which scores are defined.
        nsd_tolerance_mm: Distance up to which surfaces count as equal for the NSD, in mm; in pixels
            or voxels for images without a spacing.
        skip_missing: Whether to evaluate only the cases in both folders. The summary names the
            others.
        tubes: Names of the classes or regions with a clDice.
        patient_key: Regular expression that finds the patient in the name of a case, for the
            intervals. None for the one that the data set declares, or else one that the names tell.

    Returns:
        The summary. `samnet.evaluation.summary` describes its form.

    Raises:
        UserError: A folder does not exist or has no label maps, or there is no such policy or
            class.
        DatasetFaults: A case is in one folder only, or its files differ in shape or grid, or hold
            labels that `dataset.json` does not declare. The report names all faults.
        EvaluationIncomplete: Files could not be read. The others are evaluated and written.
    """
    find_policy(policy)
    labels_of_tubes = _find_labels(tubes, description)
    pairing = pair_files(predictions, references, description.label_map_endings)
    if pairing.faults and skip_missing:
        log.warning("%d cases are in one of the folders only and are skipped", len(pairing.skipped))
    faults = () if skip_missing else pairing.faults
    checked = _check_all(pairing.pairs, faults, description, predictions, processes)
    unreadable = checked.failures
    pairs = [pair for pair in pairing.pairs if pair.identifier not in unreadable]
    unit = _common_unit(checked.results)
    _warn_of_tolerance(checked.results, nsd_tolerance_mm)
    protocol = Protocol(
        description.label_scheme,
        policy,
        nsd_tolerance_mm,
        image_unit=unit,
        volume_unit=common_unit([check.volume_unit for check in checked.results.values()]),
        tubes=labels_of_tubes,
        patient_key=patient_key or description.patient_key,
    )
    arguments = {pair.identifier: (pair, protocol) for pair in pairs}
    outcome = run_jobs(evaluate_pair, arguments, processes, "evaluating")
    failed = unreadable | outcome.failures
    left_out = LeftOut(pairing.skipped if skip_missing else (), failed)
    summary = summarize(list(outcome.results.values()), protocol, left_out)
    written = _write(summary, output)
    if failed:
        raise EvaluationIncomplete(_describe_failures(summary, written, output), summary)
    return summary


def evaluate_pair(pair: Pair, protocol: Protocol) -> CaseScores:
    """Score one case.

    Args:
        pair: The prediction and its reference.
        protocol: How to score it.

    Returns:
        The scores.

    Raises:
        UserError: A file cannot be read.
    """
    prediction, reference = read_pair(pair)
    grid = known_grid(prediction, reference)
    metrics = case_metrics(
        prediction.array[0],
        reference.array[0],
        protocol.label_scheme,
        grid.spacing if protocol.image_unit == "mm" else _ONE_VOXEL,
        protocol.policy,
        protocol.nsd_tolerance,
        volume_of_voxel=voxel_volume(grid.shape, grid.spacing, protocol.volume_unit),
        tubes=protocol.tubes,
    )
    return CaseScores(pair.identifier, pair.prediction_file, pair.reference_file, metrics)


def _find_labels(names: Sequence[str], description: DatasetDescription) -> tuple[Label, ...]:
    """Return the values of classes or regions that are given by their names."""
    foreground = description.label_scheme.foreground
    unknown = [name for name in names if name not in foreground]
    if unknown:
        raise UserError(
            f"no class {unknown[0]!r} in the data set; choose among {', '.join(foreground)}"
        )
    return tuple(foreground[name] for name in names)


def _common_unit(checked: Mapping[str, PairCheck]) -> str:
    """Return the unit of the distances of all cases: `mm` only where each states its spacing."""
    units = {name: check.unit for name, check in sorted(checked.items())}
    found = set(units.values())
    without_spacing = [name for name, unit in units.items() if unit != "mm"]
    if "mm" in found and without_spacing:
        log.warning(
            "%d of %d cases do not state their spacing, such as %s: the distances of all are in "
            "voxels",
            len(without_spacing),
            len(units),
            without_spacing[0],
        )
    if len(found) > 1:
        return "voxels"
    return found.pop() if found else "mm"


def _warn_of_tolerance(checked: Mapping[str, PairCheck], tolerance: float) -> None:
    """Name a tolerance that is larger than whole images, as 1 mm is in microscopy."""
    for name, check in sorted(checked.items()):
        if check.diagonal < tolerance:
            log.warning(
                "case %s is %.3g %s across, less than the tolerance of %g for the NSD, which says "
                "nothing here; choose a tolerance with --nsd-tolerance",
                name,
                check.diagonal,
                check.unit,
                tolerance,
            )
            return


def _check_all(
    pairs: Sequence[Pair],
    faults: Sequence[str],
    description: DatasetDescription,
    predictions: Path,
    processes: int,
) -> Outcome:
    """Check every pair, and return a `PairCheck` for each, or why it cannot be read.

    Scoring takes minutes, so all faults are reported before it begins.
    """
    arguments = {pair.identifier: (pair, description) for pair in pairs}
    checked = run_jobs(check_pair, arguments, processes, "checking")
    found = list(faults)
    for identifier in sorted(checked.results):
        found += checked.results[identifier].faults
    if found:
        found += [checked.failures[identifier] for identifier in sorted(checked.failures)]
        raise DatasetFaults(f"{predictions} cannot be evaluated", found)
    return checked


def _write(summary: dict[str, Any], output: Path) -> list[Path]:
    """Write the results, and return the written files."""
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
    failed = summary["failed"]
    total = len(failed) + len(summary["metric_per_case"])
    message = f"{len(failed)} of {total} cases could not be evaluated"
    if written:
        message += f"; the scores of the others are in {' and '.join(map(str, written))}"
    if (output / SUMMARY_FILE).exists():
        message += f"; {SUMMARY_FILE} and {CSV_FILE} there are from an earlier evaluation"
    listing = "\n".join(f"  {identifier}: {reason}" for identifier, reason in failed.items())
    return f"{message}:\n{listing}"
