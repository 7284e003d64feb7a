"""Dice against the number of training cases, for several ways of adapting, at equal training time.

Each way is a configuration of the plan, with changed values after colons. Every run is the commands a user would type,
in processes of their own, one after the other: train on N cases drawn by a seed (those of more cases contain those of
fewer), predict the test images, evaluate against their labels. Ways alternate, so that whatever else the machine does
meets all. Finished runs are kept: the same command goes on where it was ended, and with more ways, seeds or numbers of
cases it adds to the table.

    python benchmarks/few_shot.py 4 --cases 1 5 20 --seeds 0 1 2 --minutes 5 --ways lora scratch --output OUT
    python benchmarks/few_shot.py 20 --patients --cases 1 3 --ways lora scratch --output OUT
    python benchmarks/few_shot.py 4 --cases 5 --ways lora lora:lora_rank=16 lora:lora_rank=1:head=cnn_slim --output OUT
    python benchmarks/few_shot.py 4 --cases 20 --ways lora --nnunet 2d --nnunet-python ENV/bin/python \
        --nnunet-script nnunet_cpu.py --output OUT

The data set has to be planned and prepared. Writes OUT/few_shot.csv, OUT/few_shot.png and, for the machine and
versions, OUT/few_shot.json. nnU-Net is run by a script that trains for `NNUNET_MINUTES`, in an environment of its own.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import shutil
import time
from collections import defaultdict
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import torch
from measuring import describe_machine
from runs import SAMNET, call, last_epoch, read_dice, start, write_rows

from samnet.core.machine import choose_device
from samnet.core.paths import find_dataset_name, raw_folder
from samnet.dataset.cases import RawDataset
from samnet.dataset.splits import patient_of, read_splits
from samnet.fingerprint.extract import fingerprint_path
from samnet.fingerprint.records import Fingerprint
from samnet.plan.plan import Plan, plan_path
from samnet.planning.splits import splits_path
from samnet.training.run_cases import choose_cases

NNUNET_ID = 990


@dataclass(frozen=True)
class Row:
    """One run. cases: trained on, or patients, as `unit` says; 0 stands for all.

    dice: mean over foreground classes and test cases.
    """

    way: str
    cases: int
    seed: int
    minutes: float
    dice: float
    steps: int
    per_class: str
    unit: str = "cases"

    @property
    def folder(self) -> str:
        """The run's own, below that of all runs."""
        way = self.way.replace(":", "_").replace("/", "_")
        patients = "patients-" if self.unit == "patients" else ""
        return f"{way}-{patients}{self.cases}-{self.seed}-{self.minutes:g}"


def main() -> None:
    options = parse()
    options.output.mkdir(parents=True, exist_ok=True)
    name = find_dataset_name(options.dataset)
    table = options.output / "few_shot.csv"
    rows = read_rows(table)
    for cases in options.cases:
        for seed in options.seeds:
            for way in [
                *options.ways,
                *(f"nnunet:{configuration}" for configuration in options.nnunet),
            ]:
                wanted = Row(way, cases, seed, options.minutes, math.nan, 0, "", options.unit)
                if any(row.folder == wanted.folder for row in rows):
                    continue
                run = run_nnunet if way.startswith("nnunet:") else run_samnet
                row = run(name, wanted, options)
                rows.append(row)
                write_rows(table, rows, Row)
                print(
                    f"{way}, {cases or 'all'} {row.unit}, seed {seed}: {row.dice:.3f} after {row.steps} steps",
                    flush=True,
                )
    write_facts(options, name)
    alike = [row for row in rows if (row.minutes, row.unit) == (options.minutes, options.unit)]
    draw(alike, options.output / "few_shot.png", name)
    print(summary(alike))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dataset", help="id or name of a planned and prepared data set")
    parser.add_argument(
        "--cases", type=int, nargs="+", default=[1, 5, 20], help="to train on; 0 for all"
    )
    parser.add_argument(
        "--patients",
        dest="unit",
        action="store_const",
        const="patients",
        default="cases",
        help="the numbers are of patients, all of whose cases are trained on",
    )
    parser.add_argument(
        "--seeds",
        type=int,
        nargs="+",
        default=[0],
        help="of the choice of cases and of the training",
    )
    parser.add_argument(
        "--minutes", type=float, default=5.0, help="of training for each run (default: 5)"
    )
    parser.add_argument(
        "--ways", nargs="+", default=["lora", "scratch"], help="CONFIG or CONFIG:KEY=VALUE:..."
    )
    parser.add_argument(
        "--device", default=None, help="cpu, cuda or mps (default: the best one here)"
    )
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument(
        "--nnunet", nargs="+", default=[], metavar="CONFIG", help="nnU-Net's, such as 2d 3d_fullres"
    )
    parser.add_argument(
        "--nnunet-python", type=Path, help="the Python of an environment with nnU-Net"
    )
    parser.add_argument(
        "--nnunet-script", type=Path, help="runs `train` and `predict` for NNUNET_MINUTES"
    )
    options = parser.parse_args()
    if options.nnunet and not (options.nnunet_python and options.nnunet_script):
        parser.error("--nnunet needs --nnunet-python and --nnunet-script")
    return options


def run_samnet(name: str, wanted: Row, options: argparse.Namespace) -> Row:
    configuration, *changes = wanted.way.split(":")
    folder = options.output / "runs" / wanted.folder
    results = folder / "results"
    environment = {**os.environ, "samnet_results": str(results)}
    device = ["--device", options.device] if options.device else []
    settings = [word for change in changes for word in ("--set", change)]
    number = [f"--num-{wanted.unit}", str(wanted.cases)] if wanted.cases else []
    train = [
        *SAMNET,
        "train",
        name,
        configuration,
        "all",
        "--seed",
        str(wanted.seed),
        "--max-time",
        f"{options.minutes * 60:g}s",
    ]
    call([*train, *number, *settings, *device], folder / "train.log", environment)
    model = results / name / configuration / "fold_all"
    predictions = folder / "predictions"
    images = raw_folder() / name / "imagesTs"
    predict = [*SAMNET, "predict", "-i", images, "-o", predictions, "-m", model, *device]
    call(predict, folder / "predict.log", environment)
    return score(name, folder, replace(wanted, steps=last_epoch(model)["step"]))


def run_nnunet(name: str, wanted: Row, options: argparse.Namespace) -> Row:
    """nnU-Net on the same cases, planned on them alone, as samnet's runs see no others while they train."""
    configuration = wanted.way.partition(":")[2]
    folder = (options.output / "runs" / wanted.folder).resolve()
    dataset = f"Dataset{NNUNET_ID}_FewShot"
    chosen = chosen_cases(name, wanted)
    copy_dataset(raw_folder() / name, folder / "raw" / dataset, chosen)
    environment = {
        **os.environ,
        **{f"nnUNet_{part}": str(folder / part) for part in ("raw", "preprocessed", "results")},
        "nnUNet_compile": "f",
        "NNUNET_MINUTES": str(options.minutes),
    }
    tools = options.nnunet_python.parent
    script = [options.nnunet_python, options.nnunet_script]
    device = ["-device", options.device or ("cuda" if torch.cuda.is_available() else "cpu")]
    which = ["-d", str(NNUNET_ID), "-c", configuration]
    call(
        [tools / "nnUNetv2_plan_and_preprocess", *which, "-np", "2", "-npfp", "2"],
        folder / "plan.log",
        environment,
    )
    call(
        [*script, "train", str(NNUNET_ID), configuration, "all", *device],
        folder / "train.log",
        environment,
    )
    inputs = [
        "-i",
        folder / "raw" / dataset / "imagesTs",
        "-o",
        folder / "predictions",
        "-f",
        "all",
    ]
    call([*script, "predict", *which, *inputs, *device], folder / "predict.log", environment)
    log = (folder / "train.log").read_text(encoding="utf-8", errors="replace")
    steps = next(
        (int(line.split()[1]) for line in log.splitlines() if line.startswith("nnU-Net: ")), 0
    )
    return score(name, folder, replace(wanted, steps=steps))


def score(name: str, folder: Path, row: Row) -> Row:
    """The row with the Dice of the predictions in a run's folder."""
    references = raw_folder() / name / "labelsTs"
    files: list[str | Path] = [
        "-p",
        folder / "predictions",
        "-r",
        references,
        "-d",
        name,
        "-o",
        folder / "scores",
    ]
    call([*SAMNET, "evaluate", *files], folder / "evaluate.log", dict(os.environ))
    dice = read_dice(folder / "scores" / "summary.json")
    per_class = " ".join(f"{label}={value:.3f}" for label, value in dice.by_class.items())
    return replace(row, dice=round(dice.mean, 5), per_class=per_class)


def chosen_cases(name: str, wanted: Row) -> list[str]:
    """Those that `samnet_train ID CONFIG all --num-cases N --seed S`, or `--num-patients N`, trains on."""
    fingerprint = Fingerprint.load(fingerprint_path(name))
    splits = read_splits(splits_path(name), list(fingerprint.cases))
    number = wanted.cases or None
    if wanted.unit == "cases":
        return choose_cases(splits, "all", number, wanted.seed)[0]
    key = Plan.load(plan_path(name)).patient_key
    return choose_cases(splits, "all", seed=wanted.seed, num_patients=number, patient_key=key)[0]


def copy_dataset(source: Path, target: Path, chosen: list[str]) -> None:
    """A raw data set of the chosen training cases, and all test images."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source / "imagesTs", target / "imagesTs")
    (target / "imagesTr").mkdir()
    (target / "labelsTr").mkdir()
    for case in RawDataset.load(source.name).cases:
        if case.identifier in chosen:
            for file in case.image_files:
                shutil.copy(file, target / "imagesTr")
            assert case.label_file is not None
            shutil.copy(case.label_file, target / "labelsTr")
    description = json.loads((source / "dataset.json").read_text(encoding="utf-8"))
    description["numTraining"] = len(chosen)
    (target / "dataset.json").write_text(json.dumps(description), encoding="utf-8")


def read_rows(table: Path) -> list[Row]:
    if not table.is_file():
        return []
    kinds = {
        field.name: {"int": int, "float": float, "str": str}[str(field.type)]
        for field in fields(Row)
    }
    with table.open(encoding="utf-8", newline="") as handle:
        return [
            Row(**{key: kinds[key](value) for key, value in row.items()})
            for row in csv.DictReader(handle)
        ]


def write_facts(options: argparse.Namespace, name: str) -> None:
    facts = {
        "dataset": name,
        "machine": describe_machine(choose_device(options.device)),
        "written": time.strftime("%Y-%m-%d %H:%M"),
        "arguments": {key: str(value) for key, value in vars(options).items()},
    }
    (options.output / "few_shot.json").write_text(
        json.dumps(facts, indent=2) + "\n", encoding="utf-8"
    )


def grouped(rows: list[Row]) -> dict[str, dict[int, list[float]]]:
    """way -> cases -> Dice of every seed."""
    groups: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        groups[row.way][row.cases].append(row.dice)
    return groups


def summary(rows: list[Row]) -> str:
    lines = [
        f"{'way':<40} {rows[0].unit if rows else 'cases'}  Dice (mean of seeds, lowest to highest)"
    ]
    for way, by_cases in grouped(rows).items():
        for cases, dice in sorted(by_cases.items()):
            spread = f"{np.mean(dice):.3f}  ({min(dice):.3f} to {max(dice):.3f}, {len(dice)} seeds)"
            lines.append(f"{way:<40} {cases or 'all':>5}  {spread}")
    return "\n".join(lines)


def count_all(name: str, unit: str) -> int:
    cases = [case.identifier for case in RawDataset.load(name).cases]
    key = Plan.load(plan_path(name)).patient_key if unit == "patients" else None
    return len({patient_of(case, key) for case in cases})


def draw(rows: list[Row], file: Path, name: str) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    total = count_all(name, rows[0].unit) if rows else 0
    for way, by_cases in grouped(rows).items():
        points = sorted((cases or total, dice) for cases, dice in by_cases.items())
        (line,) = axes.plot(
            [x for x, _ in points], [np.mean(dice) for _, dice in points], marker="o", label=way
        )
        for x, dice in points:
            axes.scatter([x] * len(dice), dice, color=line.get_color(), s=10, alpha=0.5)
    axes.set_xscale("log")
    ticks = sorted({row.cases or total for row in rows})
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel(f"training {rows[0].unit}" if rows else "training cases")
    axes.set_ylabel("mean foreground Dice on the test cases")
    axes.set_title(f"{name}, {rows[0].minutes:g} minutes of training each" if rows else name)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(file, dpi=120)


if __name__ == "__main__":
    start(main)
