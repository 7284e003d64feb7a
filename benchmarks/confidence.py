"""Test what `confidence.csv` says of cases that a model was never shown.

The calibration is fitted to the held-out cases of the cross-validation, each of which the network
of its fold predicts. Then the model, the mean of its folds, predicts the test cases. For each class
and for whole cases (the mean over the classes), expected and true Dice are compared:

- rank correlation (Spearman);
- the share of the worst fifth of the cases that is among the fifth with the lowest expected Dice,
  which is a fifth by chance, and the share of it that is flagged;
- the share of cases whose Dice lies in the interval, which should be the calibration's level.

Two other measures rank the same cases: the mean pairwise Dice of the label maps of the folds
(arXiv 2406.03323), and the mean entropy of the probabilities. The labels of test cases are used for
scores alone. Signals and scores are kept as a table, so that other calibrations can be tried.

    python benchmarks/confidence.py -d 4 -c lora --output hippocampus.json
    python benchmarks/confidence.py --table hippocampus.csv --output hippocampus.json
"""

from __future__ import annotations

import argparse
import csv
import io
import itertools
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from runs import start
from scipy.stats import spearmanr
from torch import Tensor

from samnet.confidence.calibration import Expectation
from samnet.confidence.fit import HeldOutClass, fit_calibration
from samnet.confidence.signals import ClassSignals, measure_signals
from samnet.core.errors import UserError
from samnet.core.files import write_json, write_text
from samnet.dataset.alignment import read_aligned_image
from samnet.dataset.cases import Case, RawDataset, find_prediction_input
from samnet.dataset.images import read_labels
from samnet.evaluation.metrics import dice_per_class
from samnet.inference.map_sums import MapCollector
from samnet.inference.outputs import Outputs
from samnet.inference.predictor import Predictor
from samnet.inference.volume import predict_volume
from samnet.models.model_folder import ModelFolder
from samnet.planning.planned_dataset import PlannedDataset
from samnet.preprocessing.case import prepare_volume


class EntropyCollector(MapCollector):
    """Adds up the entropy of the mean over networks and mirrors, too."""

    def __init__(self) -> None:
        """Begin with nothing."""
        super().__init__()
        self._total, self._count = 0.0, 0

    def observe(
        self, predictions: Iterable[Tensor], flips: Sequence[Sequence[int]], outputs: Outputs
    ) -> Iterator[Tensor]:
        """Yield the predictions, and add up their entropy."""
        mean, num_networks = torch.zeros(()), 0
        for prediction in super().observe(predictions, flips, outputs):
            parts = prediction.split(len(prediction) // len(flips))
            for part, flip in zip(parts, flips, strict=True):
                mean = mean + (part.flip(tuple(flip)) if flip else part) / len(flips)
            num_networks += 1
            yield prediction
        mean = mean / num_networks
        entropy = -torch.xlogy(mean, mean)
        if outputs.first_foreground == 0:
            entropy = entropy - torch.xlogy(1 - mean, 1 - mean)
        self._total += float(entropy.sum())
        self._count += mean[:, 0].numel()

    @property
    def entropy(self) -> float:
        """The mean over all pixels of the maps."""
        return self._total / self._count


@dataclass(frozen=True)
class Row:
    """One class of one predicted case.

    Attributes:
        fold: The run that predicted a held-out case; empty for a test case, which all predict.
        case: The name of the case.
        class_name: The name of the class.
        dice: Its true Dice; NaN where the class is in neither label map.
        pairwise: Mean Dice of the label maps of two folds; NaN for a held-out case.
        entropy: Mean entropy of the case.
        signals: The signals of the class.
    """

    fold: str
    case: str
    class_name: str
    dice: float
    pairwise: float
    entropy: float
    signals: ClassSignals


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-d", "--dataset", metavar="ID")
    parser.add_argument("-c", "--configuration", default="lora", metavar="CONFIG")
    parser.add_argument("--table", type=Path, help="a table that was written before")
    parser.add_argument(
        "--output", type=Path, required=True, help="JSON; the table lies next to it"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.table is None:
        rows = predict_all(options.dataset, options.configuration)
        write_table(rows, options.output.with_suffix(".csv"))
    else:
        rows = read_table(options.table)
    result = compare(rows)
    write_json(options.output, result)
    print(describe(result))


def predict_all(identifier: str, configuration: str) -> list[Row]:
    """Predict the held-out cases by the networks of their folds, and the test cases by all.

    Args:
        identifier: Id or name of the data set.
        configuration: The configuration, of which all validated folds are used.

    Returns:
        The rows of all cases.
    """
    dataset = PlannedDataset.find(identifier)
    model = ModelFolder.of(dataset.folder, configuration)
    runs = [run for run in model.select_runs() if (run.validation / "summary.json").is_file()]
    if not runs:
        raise UserError(f"{model}: no fold is validated")
    singles = {run.name: Predictor.from_runs([run], device="cpu") for run in runs}
    cases = {case.identifier: case for case in RawDataset.read(dataset.folder).cases}
    rows = []
    for run in runs:
        for name in _held_out_names(run.validation / "summary.json"):
            label_file = cases[name].label_file
            rows += predict_case(singles[run.name], cases[name], label_file, run.name)
        print(f"{run.name}: held-out cases predicted", flush=True)
    everyone = Predictor.from_runs(runs, device="cpu")
    source = find_prediction_input(dataset.folder.test_images, dataset.plan.description)
    for case in source.cases:
        [label_file] = dataset.folder.test_labels.glob(f"{case.identifier}.*")
        rows += predict_case(everyone, case, label_file, "", list(singles.values()))
    return rows


def _held_out_names(summary: Path) -> list[str]:
    content = json.loads(summary.read_text(encoding="utf-8"))
    return [case["case"] for case in content["metric_per_case"]]


def predict_case(
    predictor: Predictor,
    case: Case,
    label_file: Path,
    fold: str,
    singles: Sequence[Predictor] = (),
) -> list[Row]:
    """Predict a case and score it.

    Args:
        predictor: The model.
        case: The case.
        label_file: Its reference.
        fold: What the rows say of the run.
        singles: The folds, whose label maps are compared in pairs.

    Returns:
        A row for each class.
    """
    scheme = predictor.plan.label_scheme
    image = read_aligned_image(case, len(predictor.plan.channel_names))
    reference = read_labels(label_file).array[0]
    configuration = predictor.configuration
    volume = prepare_volume(image.array, image.grid, orientation=configuration.orientation)

    def label(of_model: Predictor, collector: MapCollector | None) -> np.ndarray:
        return predict_volume(
            of_model.networks,
            configuration,
            volume,
            mirror=of_model.mirror,
            label_scheme=scheme,
            batch=of_model.batch,
            collector=collector,
        )

    collector = EntropyCollector()
    labels = label(predictor, collector)
    axis = configuration.slicing_axis
    signals = measure_signals(collector.sums(), labels, volume.array, volume.spacing, axis, scheme)
    dice = dice_per_class(volume.restore(labels), reference, scheme)
    pairs = []
    for one, other in itertools.combinations([label(single, None) for single in singles], 2):
        pairs.append(dice_per_class(one, other, scheme))
    pairwise = _mean_of_known(pairs, scheme.num_classes)
    rows = []
    for index, name in enumerate(scheme.class_names):
        scores = (float(dice[index]), float(pairwise[index]), collector.entropy)
        rows.append(Row(fold, case.identifier, name, *scores, signals[name]))
    return rows


def _mean_of_known(pairs: Sequence[np.ndarray], num_classes: int) -> np.ndarray:
    table = np.array(pairs).reshape(-1, num_classes)
    counts = np.isfinite(table).sum(0)
    return np.where(counts > 0, np.nansum(table, 0) / np.maximum(counts, 1), np.nan)


def compare(rows: Sequence[Row]) -> dict[str, Any]:
    """Fit a calibration to the held-out cases, and test it on the test cases.

    Args:
        rows: The rows of all cases.

    Returns:
        Figures for each class, and for whole cases.
    """
    names = list(dict.fromkeys(row.class_name for row in rows))
    held_out = []
    for row in rows:
        if row.fold:
            held_out.append(HeldOutClass(row.case, row.class_name, row.signals, row.dice))
    folds = sorted({row.fold for row in rows if row.fold})
    calibration = fit_calibration(held_out, names, folds, mirror=False)
    if calibration is None:
        raise UserError("too few held-out cases for a calibration")
    scored = []
    for row in rows:
        expected = calibration.classes[row.class_name].expect(row.signals)
        if not row.fold and expected.dice is not None and not math.isnan(row.dice):
            scored.append(Scored.of(row, expected))
    by_class, weights = {}, {}
    for name, of_class in calibration.classes.items():
        by_class[name] = figures([one for one in scored if one.class_name == name])
        weights[name] = {signal: scale.weight for signal, scale in of_class.weights.items()}
    return {
        "folds": len(folds),
        "held_out_cases": calibration.num_cases,
        "level": calibration.level,
        "classes": by_class,
        "cases": figures(_whole_cases(scored)),
        "weights": weights,
    }


@dataclass(frozen=True)
class Scored:
    """One class of a test case, or a whole case, with the measures that rank it.

    Attributes:
        case: The name of the case.
        class_name: The name of the class; empty for a whole case.
        dice: True Dice.
        expected: Expected Dice.
        pairwise: Mean Dice of the label maps of two folds.
        entropy: Mean entropy.
        is_inside: Whether the true Dice lies in the interval; None for a whole case.
        width: The width of the interval; None likewise.
        is_flagged: Whether it is flagged.
    """

    case: str
    class_name: str
    dice: float
    expected: float
    pairwise: float
    entropy: float
    is_inside: bool | None
    width: float | None
    is_flagged: bool

    @classmethod
    def of(cls, row: Row, expected: Expectation) -> Scored:
        """Compare a row with what was expected of it.

        Args:
            row: The row of a test case.
            expected: What was expected, a Dice among it.
        """
        assert expected.dice is not None
        assert expected.low is not None
        assert expected.high is not None
        return cls(
            case=row.case,
            class_name=row.class_name,
            dice=row.dice,
            expected=expected.dice,
            pairwise=row.pairwise,
            entropy=row.entropy,
            is_inside=expected.low <= row.dice <= expected.high,
            width=expected.high - expected.low,
            is_flagged=expected.is_doubtful,
        )


def _whole_cases(scored: Sequence[Scored]) -> list[Scored]:
    """Return the mean over the classes of each case, which is flagged where one of them is."""
    found = []
    for case in dict.fromkeys(one.case for one in scored):
        classes = [one for one in scored if one.case == case]
        found.append(
            Scored(
                case=case,
                class_name="",
                dice=float(np.mean([one.dice for one in classes])),
                expected=float(np.mean([one.expected for one in classes])),
                pairwise=float(np.mean([one.pairwise for one in classes])),
                entropy=classes[0].entropy,
                is_inside=None,
                width=None,
                is_flagged=any(one.is_flagged for one in classes),
            )
        )
    return found


def figures(scored: Sequence[Scored]) -> dict[str, Any]:
    """Compare measures with the true Dice.

    Args:
        scored: The test cases, by class or whole.

    Returns:
        Figures by name; NaN where there are too few cases.
    """
    dice = np.array([one.dice for one in scored])
    measures = {
        "expected Dice": np.array([one.expected for one in scored]),
        "pairwise Dice of folds": np.array([one.pairwise for one in scored]),
        "mean entropy": -np.array([one.entropy for one in scored]),
    }
    flagged = np.array([one.is_flagged for one in scored], dtype=bool)
    worst = lowest_fifth(dice)
    found: dict[str, Any] = {"number": len(scored), "Dice": float(dice.mean())}
    found["spearman"] = {name: correlation(values, dice) for name, values in measures.items()}
    found["worst fifth found"] = {
        name: float(np.isin(worst, lowest_fifth(values)).mean())
        for name, values in measures.items()
    }
    found["flagged"] = float(flagged.mean())
    found["worst fifth flagged"] = float(flagged[worst].mean())
    found["mean error"] = float(np.abs(measures["expected Dice"] - dice).mean())
    inside = [one.is_inside for one in scored if one.is_inside is not None]
    if inside:
        found["in the interval"] = float(np.mean(inside))
        found["width"] = float(np.mean([one.width for one in scored if one.width is not None]))
    return found


def lowest_fifth(values: np.ndarray) -> np.ndarray:
    """Return the positions of the lowest fifth, at least one.

    Args:
        values: A value for each case; NaN counts as high.
    """
    return np.argsort(values, kind="stable")[: math.ceil(len(values) / 5)]


def correlation(values: np.ndarray, dice: np.ndarray) -> float:
    """Return the rank correlation (Spearman); NaN where values are missing or all the same.

    Args:
        values: A measure for each case.
        dice: Its true Dice.
    """
    if not np.isfinite(values).all() or len(set(values)) < 2 or len(set(dice)) < 2:
        return math.nan
    return float(spearmanr(values, dice).statistic)


_PLAIN = ("fold", "case", "class_name", "dice", "pairwise", "entropy")
_SIGNALS = tuple(field.name for field in fields(ClassSignals))


def write_table(rows: Sequence[Row], file: Path) -> None:
    """Write the rows as CSV.

    Args:
        rows: The rows.
        file: The file.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*_PLAIN, *_SIGNALS])
    for row in rows:
        signals = asdict(row.signals)
        plain = [getattr(row, name) for name in _PLAIN]
        writer.writerow([*plain, *("" if value is None else value for value in signals.values())])
    write_text(file, text.getvalue())


def read_table(file: Path) -> list[Row]:
    """Read the rows that `write_table` wrote.

    Args:
        file: The file.

    Returns:
        The rows.
    """
    rows = []
    with file.open(encoding="utf-8", newline="") as handle:
        for cells in csv.DictReader(handle):
            signals = {name: float(cells[name]) if cells[name] else None for name in _SIGNALS}
            names = (cells["fold"], cells["case"], cells["class_name"])
            numbers = [float(cells[name]) for name in ("dice", "pairwise", "entropy")]
            rows.append(Row(*names, *numbers, ClassSignals(**signals)))  # type: ignore[arg-type]
    return rows


def describe(result: Mapping[str, Any]) -> str:
    """Return the figures as lines of text.

    Args:
        result: The result of `compare`.
    """
    lines = [f"{result['held_out_cases']} held-out cases of {result['folds']} folds"]
    for name, found in (*result["classes"].items(), ("whole cases", result["cases"])):
        lines.append(f"{name}: {found['number']} test cases, Dice {found['Dice']:.3f}")
        for measure, value in found["spearman"].items():
            share = found["worst fifth found"][measure]
            lines.append(f"  {measure:<24} Spearman {value:5.2f}, worst fifth found {share:4.0%}")
        lines.append(
            f"  flagged {found['flagged']:.0%}, of the worst fifth "
            f"{found['worst fifth flagged']:.0%}; mean error {found['mean error']:.3f}"
        )
        if "width" in found:
            lines.append(
                f"  in the interval {found['in the interval']:.0%}, width {found['width']:.2f}"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    start(main)
