r"""Simulate annotation: which strategy of `samnet_next` needs the fewest labels.

A pool of training images counts as unlabelled. Some cases, drawn by the seed, are labelled first.
In each round `samnet_next` chooses which cases are labelled next. Then a model is trained on all
that is labelled, starting from the model of the round before, and scored on test images. All
strategies begin with the same cases and the same model. References of the pool are looked at only
once their cases are chosen, those of the test images for scoring alone.

    python benchmarks/annotation_loop.py 20 --output OUT
    python benchmarks/annotation_loop.py 4 --pool 40 --test 16 --steps 60 --output OUT

The data set has to be planned and prepared. The plan is that of all its training cases. Finished
rounds are kept: after an interruption the same command resumes. Writes OUT/annotation_loop.csv, and
what the commands print into OUT/log.txt.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import math
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean, stdev
from typing import TextIO

import numpy as np
from runs import start, write_rows

from samnet.annotation.strategies import RANDOM, STRATEGIES
from samnet.cli.main import main as run_command
from samnet.core.errors import SamnetError
from samnet.core.files import write_json
from samnet.core.tables import align_numbers
from samnet.dataset.alignment import read_aligned_image
from samnet.dataset.cases import Case, RawDataset, find_prediction_input, label_file_of
from samnet.dataset.images import read_labels
from samnet.evaluation.metrics import dice_per_class
from samnet.inference.predictor import Predictor
from samnet.models.model_folder import ALL_CASES, ModelFolder, RunFolder
from samnet.planning.planned_dataset import PlannedDataset

START = "start"  # in place of a strategy: the first round, which all of them share
TABLE = "annotation_loop.csv"
ENVIRONMENT = ("samnet_raw", "samnet_preprocessed", "samnet_results")


@dataclass(frozen=True)
class Row:
    """A round of a simulated annotation.

    Attributes:
        strategy: Name of the strategy, or `START`.
        seed: Seed of the first cases and of everything random.
        round: Number of the round; 0 is that of the first cases.
        num_labelled: Number of labelled cases.
        dice: Mean Dice over classes and test cases.
        seconds: Time of the round.
        chosen: The cases that were labelled for it.
    """

    strategy: str
    seed: int
    round: int
    num_labelled: int
    dice: float
    seconds: float
    chosen: tuple[str, ...]


@dataclass(frozen=True)
class Pool:
    """What a simulation has.

    Attributes:
        dataset: The planned data set.
        cases: The cases of the pool, with their references.
        test_cases: The test cases.
    """

    dataset: PlannedDataset
    cases: tuple[Case, ...]
    test_cases: tuple[Case, ...]


def main() -> None:
    """Run all rounds that are not finished yet, then print the table."""
    options = parse()
    output: Path = options.output.absolute()
    output.mkdir(parents=True, exist_ok=True)
    pool = make_pool(PlannedDataset.find(options.dataset), options.pool, options.test)
    rows = read_rows(output / TABLE)
    with (output / "log.txt").open("a", encoding="utf-8") as log:
        for seed in options.seeds:
            for strategy in (START, *options.strategies):
                for row in simulate(pool, strategy, seed, rows, options, log):
                    rows.append(row)
                    write_rows(output / TABLE, rows, Row)
                    found = f"{row.num_labelled} cases, Dice {row.dice:.3f}"
                    print(f"seed {seed}, {strategy}: {found}, {row.seconds:.0f} s", flush=True)
    print(summarize(rows))


def parse() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dataset", help="id or name of a planned and prepared data set")
    parser.add_argument("--strategies", nargs="+", default=list(STRATEGIES), choices=STRATEGIES)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--pool", type=int, default=60, help="number of training images")
    parser.add_argument("--test", type=int, default=30, help="number of test images")
    parser.add_argument("--first", type=int, default=2, help="cases that are labelled first")
    parser.add_argument("--add", type=int, default=2, help="cases that a round adds")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=60, help="steps of the training of a round")
    parser.add_argument("-c", "--configuration", default="lora")
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--output", type=Path, required=True)
    return parser.parse_args()


def make_pool(dataset: PlannedDataset, num_cases: int, num_test: int) -> Pool:
    """Choose the pool and the test cases: evenly among all, so that most patients are in them.

    Args:
        dataset: The data set.
        num_cases: Number of cases of the pool.
        num_test: Number of test cases.

    Returns:
        The pool.
    """
    cases = _evenly(RawDataset.read(dataset.folder).cases, num_cases)
    source = find_prediction_input(dataset.folder.test_images, dataset.plan.description)
    references = dataset.folder.test_labels
    test_cases = []
    for case in _evenly(source.cases, num_test):
        test_cases.append(replace(case, label_file=label_file_of(case, references)))
    return Pool(dataset, tuple(cases), tuple(test_cases))


def _evenly(cases: Sequence[Case], number: int) -> list[Case]:
    places = np.linspace(0, len(cases) - 1, min(number, len(cases))).round().astype(int)
    return [cases[place] for place in places]


def simulate(
    pool: Pool,
    strategy: str,
    seed: int,
    rows: Sequence[Row],
    options: argparse.Namespace,
    log: TextIO,
) -> Iterator[Row]:
    """Run the rounds of a strategy that are missing.

    Args:
        pool: The pool.
        strategy: A strategy, or `START` for the first round.
        seed: The seed.
        rows: The rounds that are there.
        options: The options of the script.
        log: An open file for what the commands print.

    Yields:
        A row for each round.
    """
    folder = options.output.absolute() / f"seed_{seed}"
    random = np.random.default_rng(seed)
    first = random.choice(len(pool.cases), options.first, replace=False)
    labelled = tuple(pool.cases[index].identifier for index in sorted(first))
    before = _run_of(pool, folder / START / "round_0", options)
    last = 0 if strategy == START else options.rounds
    for number in range(min(last, 1), last + 1):
        done = _find(rows, strategy, seed, number)
        here = folder / strategy / f"round_{number}"
        if done is not None:
            labelled = labelled if number == 0 else (*labelled, *done.chosen)
            before = _run_of(pool, here, options)
            continue
        began = time.monotonic()
        shutil.rmtree(here, ignore_errors=True)
        with contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
            chosen = labelled
            if number > 0:
                draw = seed * 1000 + number
                chosen = choose(pool, strategy, draw, labelled, before, here, options)
                labelled = (*labelled, *chosen)
            source = before if number > 0 else None
            before = train(pool, labelled, seed, source, here, options)
            dice = score(before, pool.test_cases)
        seconds = time.monotonic() - began
        yield Row(strategy, seed, number, len(labelled), round(dice, 5), round(seconds, 1), chosen)


def _find(rows: Sequence[Row], strategy: str, seed: int, number: int) -> Row | None:
    key = (strategy, seed, number)
    return next((row for row in rows if (row.strategy, row.seed, row.round) == key), None)


def _run_of(pool: Pool, folder: Path, options: argparse.Namespace) -> RunFolder:
    model = ModelFolder(folder / "results" / pool.dataset.name / options.configuration)
    return model.run(ALL_CASES)


def train(
    pool: Pool,
    labelled: Sequence[str],
    seed: int,
    source: RunFolder | None,
    folder: Path,
    options: argparse.Namespace,
) -> RunFolder:
    """Train on the labelled cases.

    Args:
        pool: The pool.
        labelled: The names of the labelled cases.
        seed: Seed of the training.
        source: The run to start from, or None.
        folder: The folder of the round.
        options: The options of the script.

    Returns:
        The run.
    """
    with folders_of(pool, labelled, folder):
        # No validation before the end: there is nothing to choose by it.
        words = ["train", pool.dataset.name, options.configuration, ALL_CASES]
        words += ["--steps", str(options.steps), "--set", f"steps_per_epoch={options.steps}"]
        words += ["--seed", str(seed), "--device", "cpu", "--workers", "0"]
        for setting in options.settings:
            words += ["--set", setting]
        if source is not None:
            words += ["--from", str(source.path)]
        _call(words)
    return _run_of(pool, folder, options)


def choose(
    pool: Pool,
    strategy: str,
    seed: int,
    labelled: Sequence[str],
    run: RunFolder,
    folder: Path,
    options: argparse.Namespace,
) -> tuple[str, ...]:
    """Choose the next cases by `samnet_next`.

    Args:
        pool: The pool.
        strategy: The strategy.
        seed: Seed of what it draws.
        labelled: The names of the labelled cases.
        run: The model.
        folder: The folder of the round.
        options: The options of the script.

    Returns:
        The names of the cases.
    """
    with folders_of(pool, labelled, folder) as raw:
        words = ["next", "-d", pool.dataset.name, "-i", str(raw / "imagesTr"), "-m", str(run.path)]
        words += ["-o", str(folder / "next"), "--strategy", strategy, "--seed", str(seed)]
        _call([*words, "--device", "cpu"])
    with (folder / "next" / "next.csv").open(encoding="utf-8", newline="") as handle:
        names = [row["case"] for row in csv.DictReader(handle)]
    return tuple(names[: options.add])


@contextlib.contextmanager
def folders_of(pool: Pool, labelled: Sequence[str], folder: Path) -> Iterator[Path]:
    """Let samnet see a data set of which only some cases are labelled.

    Args:
        pool: The pool.
        labelled: The names of the labelled cases.
        folder: The folder of the round, in which the data set is made of links.

    Yields:
        The folder of its raw data.
    """
    name = pool.dataset.name
    source = pool.dataset.folder
    raw, prepared = folder / "raw" / name, folder / "preprocessed" / name
    for part in (folder / "raw", folder / "preprocessed"):
        shutil.rmtree(part, ignore_errors=True)
    for made in (raw / "imagesTr", raw / "labelsTr", prepared):
        made.mkdir(parents=True)
    (raw / "dataset.json").symlink_to(source.description_file.absolute())
    for case in pool.cases:
        for file in case.image_files:
            (raw / "imagesTr" / file.name).symlink_to(file.absolute())
        if case.identifier in labelled and case.label_file is not None:
            (raw / "labelsTr" / case.label_file.name).symlink_to(case.label_file.absolute())
    for file in (source.plan_file, source.fingerprint_file, source.slices):
        (prepared / file.name).symlink_to(file.absolute())
    source.embeddings.mkdir(exist_ok=True)  # those of a frozen encoder are made once for all rounds
    (prepared / source.embeddings.name).symlink_to(source.embeddings.absolute())
    # A fold has to name validation cases; the fold `all` trains on all that are named.
    fold = {"train": sorted(labelled), "val": sorted(labelled)}
    write_json(prepared / source.splits_file.name, [fold])
    before = {key: os.environ.get(key) for key in ENVIRONMENT}
    for key in ENVIRONMENT:
        os.environ[key] = str(folder / key.removeprefix("samnet_"))
    try:
        yield raw
    finally:
        for key, value in before.items():
            os.environ.pop(key)
            if value is not None:
                os.environ[key] = value


def _call(words: Sequence[str]) -> None:
    code = run_command(words)
    if code:
        raise SamnetError(f"exit code {code}: samnet {' '.join(words)}; see log.txt")


def score(run: RunFolder, cases: Sequence[Case]) -> float:
    """Predict the test cases and compare them with their references.

    Args:
        run: The model.
        cases: The test cases, with references.

    Returns:
        The mean Dice over classes and cases.
    """
    predictor = Predictor.from_folder(run.path, device="cpu")
    scheme = predictor.plan.label_scheme
    found = []
    for case in cases:
        assert case.label_file is not None
        image = read_aligned_image(case, len(predictor.plan.channel_names))
        labels = predictor.predict_and_check(image.array, image.grid).labels
        found.append(dice_per_class(labels, read_labels(case.label_file).array[0], scheme))
    return float(np.nanmean(found))


def read_rows(table: Path) -> list[Row]:
    """Read the rounds that are there.

    Args:
        table: The CSV file.

    Returns:
        The rows; none where there is no file.
    """
    if not table.is_file():
        return []
    rows = []
    with table.open(encoding="utf-8", newline="") as handle:
        for row in csv.DictReader(handle):
            numbers = (int(row["seed"]), int(row["round"]), int(row["num_labelled"]))
            scores = (float(row["dice"]), float(row["seconds"]))
            rows.append(Row(row["strategy"], *numbers, *scores, tuple(row["chosen"].split())))
    return rows


def summarize(rows: Sequence[Row]) -> str:
    """Compare the strategies.

    Args:
        rows: The rounds.

    Returns:
        A table: the mean Dice over seeds by number of labelled cases; the mean over the rounds of
        its difference from `random` with the same seed, and the standard deviation of that over
        seeds. Only rounds that `random` has as well count for the difference.
    """
    counts = sorted({row.num_labelled for row in rows if row.strategy != START})
    titles = ["strategy", *map(str, counts), "seeds", "from random", "sd"]
    table = [titles]
    for strategy in dict.fromkeys(row.strategy for row in rows if row.strategy != START):
        of_strategy = [row for row in rows if row.strategy == strategy]
        cells = [strategy]
        for count in counts:
            dice = [row.dice for row in of_strategy if row.num_labelled == count]
            cells.append(f"{mean(dice):.3f}" if dice else "-")
        differences = differences_from_random(rows, strategy)
        cells.append(str(len({row.seed for row in of_strategy})))
        cells.append(f"{mean(differences):+.3f}" if differences else "-")
        cells.append(f"{stdev(differences):.3f}" if len(differences) > 1 else "-")
        table.append(cells)
    return align_numbers(table, has_total=False) if len(table) > 1 else "no round is finished"


def differences_from_random(rows: Sequence[Row], strategy: str) -> list[float]:
    """Return the difference from `random`, averaged over rounds, of each seed.

    Args:
        rows: The rounds.
        strategy: The strategy.

    Returns:
        One number for each seed of which both have a round.
    """
    found = []
    for seed in sorted({row.seed for row in rows}):
        pairs = []
        for row in rows:
            if (row.strategy, row.seed) == (strategy, seed):
                other = _find(rows, RANDOM, seed, row.round)
                pairs.append(math.nan if other is None else row.dice - other.dice)
        known = [value for value in pairs if not math.isnan(value)]
        if known:
            found.append(mean(known))
    return found


if __name__ == "__main__":
    start(main)
