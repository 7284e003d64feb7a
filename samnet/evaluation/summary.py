"""Means, deviations and intervals of the scores of many cases.

A summary is a dictionary with nnU-Net's keys `foreground_mean`, `mean` and `metric_per_case`. Its
classes are integers, and tuples of integers for regions; in the file they are strings. It has
further keys, which nnU-Net's readers ignore:

- `policy`, `nsd_tolerance`, `distance_unit`, `volume_unit`, `lesion_iou`, `labels`: what the
  numbers mean;
- `std`, `foreground_std`: sample standard deviations over cases, NaN for a single case;
- `median`, `foreground_median`: medians over cases;
- `interval`, `foreground_interval`: the two ends of the 95 % interval of the mean
  (`samnet.evaluation.intervals`), NaN for a single patient;
- `patient_key`, `num_patients`: how the patient is found in the name of a case (None where every
  case is a patient), and of how many patients the cases are; the intervals rest on them;
- `presence`: for each class, how many cases count in its Dice, and in how many it is missed (in the
  reference only), spurious (in the prediction only) or absent (in neither);
- `skipped`, `failed`: the cases that are in none of the numbers, and why.

Summaries of older versions lack `volume_unit`, `lesion_iou`, medians, intervals and patients.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from samnet.dataset.label_scheme import Label, LabelScheme
from samnet.dataset.splits import find_patient_key, patient_of
from samnet.evaluation.centrelines import CLDICE
from samnet.evaluation.intervals import bootstrap_means, intervals_of, mean_over_classes
from samnet.evaluation.lesions import MATCH_IOU
from samnet.evaluation.policies import DEFAULT_NSD_TOLERANCE_MM, STANDARD, find_policy
from samnet.evaluation.volumes import MILLILITRES

COUNTS = ("TP", "FP", "FN", "TN", "n_pred", "n_ref")
DISTANCES = ("HD95", "ASSD")


@dataclass(frozen=True)
class CaseScores:
    """The scores of one case.

    Attributes:
        identifier: Name of the case.
        prediction_file: The predicted label map.
        reference_file: The true label map.
        metrics: Value of a class, or values of a region -> name of the score -> its value.
    """

    identifier: str
    prediction_file: Path
    reference_file: Path
    metrics: dict[Label, dict[str, float]]


@dataclass(frozen=True)
class Protocol:
    """How cases are scored.

    Attributes:
        label_scheme: The classes or regions.
        policy: Name of the rule by which scores are defined.
        nsd_tolerance: Distance up to which surfaces count as equal for the NSD, in units of the
            spacing: mm, or pixels or voxels for images without a spacing.
        image_unit: Unit of the spacing of the images: `mm`, or `pixels` (2D) or `voxels` where
            none is known.
        volume_unit: Unit of the volumes: `mL`, `mm2`, `pixels` or `voxels`.
        tubes: The classes or regions with a clDice.
        patient_key: Regular expression that finds the patient in the name of a case. None to derive
            one from the names as for the folds of a cross-validation.
    """

    label_scheme: LabelScheme
    policy: str = STANDARD
    nsd_tolerance: float = DEFAULT_NSD_TOLERANCE_MM
    image_unit: str = "mm"
    volume_unit: str = MILLILITRES
    tubes: tuple[Label, ...] = ()
    patient_key: str | None = None

    @property
    def classes(self) -> list[Label]:
        """The value of each foreground class, or the values of each region."""
        return list(self.label_scheme.foreground.values())

    @property
    def metric_names(self) -> tuple[str, ...]:
        """The names of all scores."""
        on_request = (CLDICE,) if self.tubes else ()
        return (*find_policy(self.policy).metrics, *on_request, *COUNTS)

    @property
    def distance_unit(self) -> str:
        """The unit of HD95 and ASSD: `mm`, `pixels` or `voxels`."""
        return find_policy(self.policy).distance_unit or self.image_unit


@dataclass(frozen=True)
class LeftOut:
    """Cases without scores.

    Attributes:
        skipped: Names of the cases that were skipped on request.
        failed: Name of a case that could not be scored -> the reason.
    """

    skipped: tuple[str, ...] = ()
    failed: dict[str, str] = field(default_factory=dict)


def summarize(
    cases: Sequence[CaseScores], protocol: Protocol, left_out: LeftOut | None = None
) -> dict[str, Any]:
    """Compute means, deviations, medians and intervals over cases.

    A score that is NaN is left out of the mean of its class. The foreground's mean is the mean of
    the means of the classes, without classes that are NaN in every case; its interval is that of
    this mean. The foreground's deviation and median are those of the means that each case has over
    its classes.

    Args:
        cases: The scores of the cases, in any order.
        protocol: How they were scored.
        left_out: The cases without scores; None for none.

    Returns:
        The summary, as described at the top of this module. Its cases are sorted by name.
    """
    left_out = left_out or LeftOut()
    names, classes = protocol.metric_names, protocol.classes
    ordered = sorted(cases, key=lambda case: case.identifier)
    scores = _array_of_scores(ordered, classes, names)
    of_cases = mean_over_classes(scores.transpose(0, 2, 1))
    means = _over_cases(_mean, scores, classes, names)
    identifiers = [case.identifier for case in ordered]
    patient_key = protocol.patient_key or find_patient_key(identifiers)
    patients = [patient_of(identifier, patient_key) for identifier in identifiers]
    intervals, foreground_interval = _intervals(scores, patients, classes, names)
    presence = {}
    for label in classes:
        presence[label] = _presence([case.metrics[label] for case in ordered])
    return {
        "foreground_mean": _mean_of_means(means, names),
        "mean": means,
        "metric_per_case": [_case_entry(case) for case in ordered],
        "policy": protocol.policy,
        "nsd_tolerance": protocol.nsd_tolerance,
        "distance_unit": protocol.distance_unit,
        "volume_unit": protocol.volume_unit,
        "lesion_iou": MATCH_IOU,
        "labels": dict(protocol.label_scheme.labels),
        "std": _over_cases(_deviation, scores, classes, names),
        "foreground_std": _by_name(_deviation, of_cases, names),
        "median": _over_cases(_median, scores, classes, names),
        "foreground_median": _by_name(_median, of_cases, names),
        "interval": intervals,
        "foreground_interval": foreground_interval,
        "patient_key": patient_key,
        "num_patients": len(set(patients)),
        "presence": presence,
        "skipped": sorted(left_out.skipped),
        "failed": dict(sorted(left_out.failed.items())),
    }


def _array_of_scores(
    cases: Sequence[CaseScores], classes: Sequence[Label], names: Sequence[str]
) -> np.ndarray:
    """Return the scores `(cases, classes, names)`; NaN for those that older versions lack."""
    scores = np.empty((len(cases), len(classes), len(names)))
    for row, case in enumerate(cases):
        for column, label in enumerate(classes):
            values = case.metrics[label]
            scores[row, column] = [values.get(name, math.nan) for name in names]
    return scores


def _over_cases(
    statistic: Callable[[np.ndarray], float],
    scores: np.ndarray,
    classes: Sequence[Label],
    names: Sequence[str],
) -> dict[Label, dict[str, float]]:
    """Return class -> name of a score -> a number computed of the scores of all cases."""
    by_class = enumerate(classes)
    return {label: _by_name(statistic, scores[:, index], names) for index, label in by_class}


def _by_name(
    statistic: Callable[[np.ndarray], float], scores: np.ndarray, names: Sequence[str]
) -> dict[str, float]:
    """Return name of a score -> a number computed of its column of `(cases, names)`."""
    return {name: statistic(column) for name, column in zip(names, scores.T, strict=True)}


def _mean_of_means(means: dict[Label, dict[str, float]], names: Sequence[str]) -> dict[str, float]:
    foreground = {}
    for name in names:
        foreground[name] = _mean([of_class[name] for of_class in means.values()])
    return foreground


def _intervals(
    scores: np.ndarray, patients: Sequence[str], classes: Sequence[Label], names: Sequence[str]
) -> tuple[dict[Label, dict[str, list[float]]], dict[str, list[float]]]:
    """Return the intervals of the means by class and score, and those of the foreground's means."""
    drawn = bootstrap_means(scores.reshape(len(scores), len(classes) * len(names)), patients)
    drawn = drawn.reshape(-1, len(classes), len(names))
    by_class = {}
    for index, label in enumerate(classes):
        ends = intervals_of(drawn[:, index])
        by_class[label] = dict(zip(names, ends.T.tolist(), strict=True))
    ends = intervals_of(mean_over_classes(drawn.transpose(0, 2, 1)))
    return by_class, dict(zip(names, ends.T.tolist(), strict=True))


def _mean(values: Sequence[float] | np.ndarray) -> float:
    known = _known(values)
    return float(known.mean()) if known.size else math.nan


def _median(values: Sequence[float] | np.ndarray) -> float:
    known = _known(values)
    return float(np.median(known)) if known.size else math.nan


def _deviation(values: Sequence[float] | np.ndarray) -> float:
    known = _known(values)
    return float(known.std(ddof=1)) if known.size > 1 else math.nan


def _known(values: Sequence[float] | np.ndarray) -> np.ndarray:
    array = np.asarray(values, dtype=float)
    return array[~np.isnan(array)]


def _case_entry(case: CaseScores) -> dict[str, Any]:
    return {
        "metrics": case.metrics,
        "prediction_file": str(case.prediction_file),
        "reference_file": str(case.reference_file),
        "case": case.identifier,
    }


def _presence(metrics: Sequence[dict[str, float]]) -> dict[str, int]:
    return {
        "cases": sum(not math.isnan(scores["Dice"]) for scores in metrics),
        "missed": sum(scores["n_ref"] > 0 and scores["n_pred"] == 0 for scores in metrics),
        "spurious": sum(scores["n_ref"] == 0 and scores["n_pred"] > 0 for scores in metrics),
        "absent": sum(scores["n_ref"] == 0 and scores["n_pred"] == 0 for scores in metrics),
    }


def mean_dice(dice: Sequence[float]) -> float:
    """Return the mean Dice over the classes that a case has.

    Args:
        dice: The Dice of each class; NaN for one that is in neither label map.

    Returns:
        The mean; NaN where the case has no class.
    """
    known = [value for value in dice if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan


def tolerance_of(summary: dict[str, Any]) -> str:
    """Return the tolerance of the NSD with its unit.

    Args:
        summary: The summary.

    Returns:
        Such as `2 mm`, `2 pixels` or `1 pixel`.
    """
    tolerance, unit = summary["nsd_tolerance"], summary["distance_unit"]
    return f"{tolerance:g} {unit.removesuffix('s') if tolerance == 1 else unit}"


def names_of_classes(summary: dict[str, Any]) -> dict[Label, str]:
    """Return the name of each class or region of a summary.

    Args:
        summary: The summary.

    Returns:
        Value of a class, or values of a region -> its name.
    """
    return {label: name for name, label in summary["labels"].items()}
