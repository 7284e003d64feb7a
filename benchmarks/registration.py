"""Measure the labels that registration brings from a few training cases to others.

Of a planned and prepared data set, some training cases are taken as labelled ones, and others as
cases without labels (`samnet/training/unlabelled/registered_labels.py`). The labels that they take
over are compared with their own. Test cases are not used. Prints the mean Dice of the cases that
have taken labels over (the most alike three quarters), and of those that a run learns from (half of
all), the median similarity near the structures, the share of the contrast that the labels keep, and
the time of a case.

    python benchmarks/registration.py 4 --cases 1 --others 24 --seeds 0 1 2
    python benchmarks/registration.py 20 --patients --cases 1 --others 24
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from pathlib import Path

import numpy as np
from few_shot import add_patients_option, chosen_cases
from few_shot_tables import Row
from runs import start

from samnet.evaluation.metrics import dice_per_class
from samnet.planning.planned_dataset import PlannedDataset
from samnet.preprocessing.storage import with_labels
from samnet.training.run_cases import load_cases, names_in_splits
from samnet.training.unlabelled.registered_labels import take_labels


def main() -> None:
    """Measure every seed, and print a line for each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dataset", help="id or name of a planned and prepared data set")
    parser.add_argument("--cases", type=int, default=1, help="labelled cases (default: 1)")
    add_patients_option(parser, "the number is one of patients, all cases of whom are labelled")
    parser.add_argument("--others", type=int, default=24, help="other cases (default: 24)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="draw the cases")
    options = parser.parse_args()
    dataset = PlannedDataset.find(options.dataset)
    print(f"{dataset.name}: {options.cases} labelled {options.unit}, {options.others} others")
    for seed in options.seeds:
        with tempfile.TemporaryDirectory() as folder:
            print(f"seed {seed}: {measure(dataset, options, seed, Path(folder))}", flush=True)


def measure(dataset: PlannedDataset, options: argparse.Namespace, seed: int, folder: Path) -> str:
    """Register once.

    Args:
        dataset: The data set.
        options: Those of the command line.
        seed: Draws the cases.
        folder: An empty folder for the labels.

    Returns:
        What was found, in words.
    """
    plan, names = dataset.plan, names_in_splits(dataset.splits)
    configuration, scheme = plan.configuration("lora"), plan.label_scheme
    row = Row("lora", options.cases, seed, math.nan, math.nan, 0, "", options.unit)
    chosen = chosen_cases(dataset, row)
    left = [name for name in names if name not in chosen]
    drawn = np.random.default_rng(seed).permutation(left)[: options.others].tolist()
    labelled, others = (
        load_cases(dataset.folder.slices, part, configuration.views) for part in (chosen, drawn)
    )
    started = time.monotonic()
    found = take_labels(
        labelled,
        others,
        configuration.intensity,
        math.ceil(len(others) / 2),
        seed,
        scheme.ignore_label,
        folder / "labels",
        processes=0,
    )
    seconds = (time.monotonic() - started) / len(others)
    scores = {}
    for case in others:
        if case.identifier in found.similarities:
            taken = with_labels(case, folder / "labels").labels()
            scores[case.identifier] = float(
                np.nanmean(dice_per_class(taken, case.labels(), scheme))
            )
    if not scores:
        return found.report()
    learnt = [scores[name] for name in found.cases]
    used = f"{np.mean(learnt):.3f} of the {len(learnt)}" if learnt else "none"
    similarity = np.median(list(found.similarities.values()))
    return (
        f"Dice {np.mean(list(scores.values())):.3f} of {len(scores)}, {used} to learn from; "
        f"similarity {similarity:.2f}; "
        f"{found.kept_contrast:.0%} of the contrast; {seconds:.1f} s a case; "
        f"{len(found.failures)} not registered"
    )


if __name__ == "__main__":
    start(main)
