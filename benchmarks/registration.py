"""Measure the labels that registration brings from a few training cases to others.

Of a planned and prepared data set, some training cases are taken as labelled ones, and others as
cases without labels (`samnet/training/unlabelled/registered_labels.py`). The labels that they take
over are compared with their own. Test cases are not used. Prints the mean and the lowest Dice, the
share of the contrast that the labels keep, and the time of a case.

    python benchmarks/registration.py 4 --cases 1 --others 24 --seeds 0 1 2
    python benchmarks/registration.py 20 --cases 20 --others 30
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
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
    parser.add_argument("--others", type=int, default=24, help="other cases (default: 24)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="draw the cases")
    options = parser.parse_args()
    dataset = PlannedDataset.find(options.dataset)
    print(f"{dataset.name}: {options.cases} labelled, {options.others} others at most")
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
    order = np.random.default_rng(seed).permutation(names).tolist()
    labelled, others = (
        load_cases(dataset.folder.slices, part, configuration.views)
        for part in (
            order[: options.cases],
            order[options.cases : options.cases + options.others],
        )
    )
    started = time.monotonic()
    found = take_labels(
        labelled,
        others,
        configuration.intensity,
        len(others),
        seed,
        scheme.ignore_label,
        folder / "labels",
        processes=0,
    )
    seconds = (time.monotonic() - started) / len(others)
    scores = []
    for case in others:
        if case.identifier in found.cases:
            taken = with_labels(case, folder / "labels").labels()
            scores.append(float(np.nanmean(dice_per_class(taken, case.labels(), scheme))))
    dice = f"Dice {np.mean(scores):.3f}, lowest {min(scores):.3f}" if scores else "no Dice"
    return (
        f"{dice}; {found.kept_contrast:.0%} of the contrast; {seconds:.1f} s a case; "
        f"{len(found.failures)} not registered"
    )


if __name__ == "__main__":
    start(main)
