"""`samnet_evaluate`: score a folder of predictions."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from samnet.cli.command import Command, add_processes_option, positive_float
from samnet.core.errors import UserError
from samnet.evaluation.policies import DEFAULT_NSD_TOLERANCE_MM, POLICIES, STANDARD

if TYPE_CHECKING:
    from samnet.dataset.description import DatasetDescription

_SUMMARY = """\
Score predictions against references: Dice, IoU, precision and recall; on surfaces HD95, ASSD and
NSD (normalised surface Dice) in mm, or in pixels or voxels where no spacing is known; volumes and
their error in mL (2D: mm2, pixels); and separate lesions that are found, missed and invented. A
prediction has the name of its reference. Prints tables of means with 95 % intervals and the worst
cases, and writes summary.json (which nnU-Net's tools read) and metrics.csv (one row for each case
and class). A region counts as the union of its labels. Voxels that the reference marks as ignored
count in no score."""


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-p",
        "--predictions",
        type=Path,
        required=True,
        metavar="FOLDER",
        help="the label maps to be scored",
    )
    parser.add_argument(
        "-r",
        "--references",
        type=Path,
        required=True,
        metavar="FOLDER",
        help="the true label maps, e.g. labelsTs",
    )
    description = parser.add_mutually_exclusive_group()
    description.add_argument(
        "-d", "--dataset", metavar="ID", help="the data set that declares the labels: id or name"
    )
    description.add_argument(
        "--dataset-json",
        type=Path,
        metavar="FILE",
        help="the dataset.json that declares the labels (default: next to the folder of "
        "references, else in the folder of predictions)",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FOLDER",
        help="where to write (default: the folder of predictions)",
    )
    rules = "; ".join(f"{name}: {policy.statement}" for name, policy in POLICIES.items())
    parser.add_argument(
        "--policy",
        choices=list(POLICIES),
        default=STANDARD,
        help=f"how scores are defined (default: {STANDARD}). {rules}",
    )
    parser.add_argument(
        "--nsd-tolerance",
        type=positive_float,
        default=DEFAULT_NSD_TOLERANCE_MM,
        metavar="MM",
        help="distance up to which two surfaces count as equal for the NSD "
        "(default: %(default)s mm)",
    )
    parser.add_argument(
        "--cldice",
        nargs="+",
        default=[],
        metavar="CLASS",
        help="classes that are tubes, such as vessels: their clDice, the overlap of centrelines",
    )
    parser.add_argument(
        "--missing",
        choices=["fault", "skip"],
        default="fault",
        help="cases that are in one of the two folders only: an error (default), or left out and "
        "counted",
    )
    add_processes_option(parser)


def _run(options: argparse.Namespace) -> None:
    from samnet.core.worker_pool import default_processes
    from samnet.evaluation.evaluator import EvaluationIncomplete, evaluate_folder

    for folder in (options.predictions, options.references):
        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder")
    output = options.output or options.predictions
    try:
        summary = evaluate_folder(
            options.predictions,
            options.references,
            _load_description(options),
            output,
            default_processes() if options.processes is None else options.processes,
            policy=options.policy,
            nsd_tolerance_mm=options.nsd_tolerance,
            skip_missing=options.missing == "skip",
            tubes=options.cldice,
        )
    except EvaluationIncomplete as error:
        if error.summary["metric_per_case"]:
            _print_result(error.summary)
        raise
    _print_result(summary)
    print(f"written: {output / 'summary.json'}, {output / 'metrics.csv'}")


def _load_description(options: argparse.Namespace) -> DatasetDescription:
    from samnet.dataset.description import DatasetDescription

    return DatasetDescription.load(_find_dataset_json(options))


def _find_dataset_json(options: argparse.Namespace) -> Path:
    from samnet.dataset.dataset_folder import DatasetFolder

    if options.dataset_json is not None:
        return options.dataset_json
    if options.dataset is not None:
        return DatasetFolder.find(options.dataset).description_file
    places = [options.references.absolute().parent, options.predictions.absolute()]
    for place in places:
        if (place / "dataset.json").is_file():
            return place / "dataset.json"
    raise UserError(
        f"no dataset.json in {places[0]} or {places[1]}; name the data set with -d ID, or the file "
        "with --dataset-json"
    )


def _print_result(summary: dict) -> None:
    from samnet.evaluation.tables import format_table
    from samnet.evaluation.worst_cases import format_worst_cases

    print(f"{format_table(summary)}\n")
    if worst := format_worst_cases(summary):
        print(f"{worst}\n")
    num_cases = len(summary["metric_per_case"])
    notes = [f"means over {num_cases} cases, policy {summary['policy']}"]
    if summary["skipped"]:
        notes.append(f"{len(summary['skipped'])} skipped, without prediction or reference")
    if summary["failed"]:
        notes.append(f"{len(summary['failed'])} failed")
    print("; ".join(notes))


COMMAND = Command("samnet_evaluate", _SUMMARY, _add_arguments, _run)
main = COMMAND.main
