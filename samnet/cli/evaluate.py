"""`samnet_evaluate`: score a folder of predictions."""

from __future__ import annotations

import argparse
from pathlib import Path

from samnet.cli.command import Command, add_processes_option, positive_float
from samnet.cli.label_options import add_label_options, load_description
from samnet.core.errors import UserError
from samnet.evaluation.policies import DEFAULT_NSD_TOLERANCE_MM, POLICIES, STANDARD

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
        help="the true label maps, such as labelsTs",
    )
    add_label_options(parser)
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FOLDER",
        help="folder for what is written (default: the folder of predictions)",
    )
    parser.add_argument(
        "--policy",
        choices=list(POLICIES),
        default=STANDARD,
        help=f"how scores are defined, as described below (default: {STANDARD})",
    )
    parser.add_argument(
        "--nsd-tolerance",
        type=positive_float,
        default=DEFAULT_NSD_TOLERANCE_MM,
        metavar="MM",
        help="distance in mm up to which two surfaces count as equal for the NSD "
        "(default: %(default)s)",
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
        help="cases that are in one of the two folders only: fault, an error, or skip, left out "
        "and counted (default: fault)",
    )
    parser.add_argument(
        "--images",
        type=Path,
        metavar="FOLDER",
        help="the images of the cases, for the figures of the worst ones (default: imagesTs next "
        "to labelsTs, imagesTr next to labelsTr; else nothing is drawn)",
    )
    parser.add_argument("--no-figures", action="store_true", help="draw nothing")
    add_processes_option(parser)
    rules = [f"Policy {name}: {policy.statement}." for name, policy in POLICIES.items()]
    parser.epilog = "\n".join(rules)


def _run(options: argparse.Namespace) -> None:
    from samnet.core.worker_pool import default_processes
    from samnet.evaluation.evaluator import EvaluationIncomplete, evaluate_folder
    from samnet.evaluation.overlays.evaluated_cases import draw_evaluated_cases, find_images

    for folder in (options.predictions, options.references, options.images):
        if folder is not None and not folder.is_dir():
            raise UserError(f"{folder}: no such folder")
    output = options.output or options.predictions
    places = [options.references.absolute().parent, options.predictions.absolute()]
    description = load_description(options, places)
    images = (
        {} if options.no_figures else find_images(options.references, description, options.images)
    )
    try:
        summary = evaluate_folder(
            options.predictions,
            options.references,
            description,
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
    figures = draw_evaluated_cases(summary, images, description, output)
    if not images and not options.no_figures:
        print("no figures: no images were found; --images FOLDER names their folder")
    if figures is not None:
        print(f"figures of the worst cases and of a choice: {figures}")


def _print_result(summary: dict) -> None:
    from samnet.evaluation.tables import format_table
    from samnet.evaluation.worst_cases import format_worst_cases

    print(f"{format_table(summary)}\n")
    if worst := format_worst_cases(summary):
        print(f"{worst}\n")
    num_cases = len(summary["metric_per_case"])
    noun = "case" if num_cases == 1 else "cases"
    notes = [f"means over {num_cases} {noun}, policy {summary['policy']}"]
    if summary["skipped"]:
        notes.append(f"{len(summary['skipped'])} skipped, without prediction or reference")
    if summary["failed"]:
        notes.append(f"{len(summary['failed'])} failed")
    print("; ".join(notes))


COMMAND = Command(
    "samnet_evaluate",
    _SUMMARY,
    _add_arguments,
    _run,
    examples=(
        ("samnet_evaluate -p masks -r labelsTs", "score the label maps in masks"),
        (
            "samnet_evaluate -p masks -r labelsTs -d 8 --nsd-tolerance 2 -o scores",
            "take the labels of data set 8, 2 mm for the NSD, and another folder for the scores",
        ),
    ),
)
main = COMMAND.main
