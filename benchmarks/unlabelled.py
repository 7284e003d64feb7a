r"""Measure what images without labels gain, at equal time.

Of a data set, a few cases drawn by a seed keep their labels, those that `few_shot.py` draws. The
images of all other training cases become images without labels. Each way trains on both for the
same time, then predicts the test images and is evaluated against their labels, by the commands that
a user would type. Ways alternate. Finished runs are kept: the same command resumes.

    python benchmarks/unlabelled.py 4 --cases 1 --seeds 0 1 2 --minutes 10 --output OUT
    python benchmarks/unlabelled.py 20 --patients --cases 1 --minutes 10 --output OUT
    python benchmarks/unlabelled.py 4 --cases 5 --output OUT \
        --ways lora lora:unlabelled_weight=1:weight_average=0.99

The data set has to be planned, for the choice of cases; each choice is planned again by itself.
Test images are neither planned nor trained on. Writes OUT/unlabelled.csv.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
from dataclasses import replace
from pathlib import Path

from few_shot import add_patients_option, chosen_cases, copy_dataset, score
from few_shot_tables import Row, read_rows, summary
from runs import SAMNET, call, last_epoch, start, write_rows

from samnet.dataset.cases import RawDataset
from samnet.models.model_folder import ALL_CASES, ModelFolder
from samnet.planning.planned_dataset import PlannedDataset

NUMBER = 991
WAYS = ["lora", "lora:weight_average=0.99", "lora:unlabelled_weight=1:weight_average=0.99"]


def main() -> None:
    """Run everything that is not finished yet, and print the table."""
    options = parse()
    options.output = options.output.resolve()
    options.output.mkdir(parents=True, exist_ok=True)
    dataset = PlannedDataset.find(options.dataset)
    table = options.output / "unlabelled.csv"
    rows = read_rows(table)
    for seed in options.seeds:
        for way in options.ways:
            planned = Row(way, options.cases, seed, options.minutes, math.nan, 0, "", options.unit)
            if any(row.folder == planned.folder for row in rows):
                continue
            rows.append(run(dataset, planned, options.output))
            write_rows(table, rows, Row)
            print(f"{way}, seed {seed}: {rows[-1].dice:.3f} in {rows[-1].steps} steps", flush=True)
    print(summary(rows))


def parse() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dataset", help="id or name of a planned data set")
    parser.add_argument("--cases", type=int, default=1, help="cases with labels (default: 1)")
    add_patients_option(parser, "the number is one of patients, all cases of whom have labels")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--minutes", type=float, default=10.0, help="of a run (default: 10)")
    parser.add_argument("--ways", nargs="+", default=WAYS, help="CONFIG or CONFIG:KEY=VALUE:...")
    parser.add_argument("--output", type=Path, required=True)
    return parser.parse_args()


def run(dataset: PlannedDataset, planned: Row, output: Path) -> Row:
    """Train one way, predict and evaluate.

    Args:
        dataset: The data set.
        planned: The row of the run, without results.
        output: The folder of all results.

    Returns:
        The row with its results.

    Raises:
        SamnetError: A command failed.
    """
    work = output / f"labelled_{planned.cases}_{planned.unit}_seed_{planned.seed}"
    name = f"Dataset{NUMBER}_Unlabelled"
    folder = output / "runs" / planned.folder
    parts = {f"samnet_{part}": str(work / part) for part in ("raw", "preprocessed")}
    environment = {**os.environ, **parts, "samnet_results": str(folder / "results")}
    if not (work / "raw" / name).is_dir():
        split(dataset, chosen_cases(dataset, planned), work / "raw" / name)
    device = ["--device", "cpu"]
    prepare = [*SAMNET, "plan_and_preprocess", "-d", name, *device]
    call(prepare, folder / "plan.log", environment)
    configuration, *changes = planned.way.split(":")
    settings = [word for change in changes for word in ("--set", change)]
    train = [*SAMNET, "train", name, configuration, ALL_CASES, "--seed", str(planned.seed)]
    train += ["--max-time", f"{planned.minutes * 60:g}s", *settings, *device]
    call(train, folder / "train.log", environment)
    trained = ModelFolder(folder / "results" / name / configuration).run(ALL_CASES)
    images, predictions = dataset.folder.test_images, folder / "predictions"
    predict = [*SAMNET, "predict", "-i", images, "-o", predictions, "-m", trained.path, *device]
    call(predict, folder / "predict.log", environment)
    return score(dataset, folder, replace(planned, steps=last_epoch(trained)["step"]))


def split(dataset: PlannedDataset, labelled: list[str], target: Path) -> None:
    """Write a raw data set of some cases with labels, and the images of all others without.

    Args:
        dataset: The data set.
        labelled: The cases that keep their labels.
        target: The folder to write.
    """
    source = RawDataset.read(dataset.folder)
    copy_dataset(source, target, labelled)
    shutil.rmtree(target / "imagesTs")
    (target / "imagesUn").mkdir()
    for case in source.cases:
        if case.identifier not in labelled:
            for file in case.image_files:
                shutil.copy(file, target / "imagesUn")
    count = len(list((target / "imagesUn").iterdir()))
    print(json.dumps({"with labels": len(labelled), "files without": count}), flush=True)


if __name__ == "__main__":
    start(main)
