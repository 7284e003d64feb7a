"""`samnet_overlays`: draw predictions, or their errors, over their images."""

from __future__ import annotations

import argparse
from pathlib import Path

from samnet.cli.command import Command, add_processes_option, positive_int
from samnet.cli.label_options import add_label_options, load_description
from samnet.core.errors import UserError

_SUMMARY = """\
Draw predictions over their images. With references: true, missed and false voxels, in three planes
through the place of the largest error, for the worst cases, the lower quartile, the median and the
best case. Without: the outlines of the classes, in the planes with most foreground. Writes one PNG
for each case, index.png with all of them, and figures.json, which names them."""


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-p",
        "--predictions",
        type=Path,
        required=True,
        metavar="FOLDER",
        help="the predicted label maps",
    )
    parser.add_argument(
        "-i", "--images", type=Path, required=True, metavar="FOLDER", help="their images"
    )
    parser.add_argument(
        "-r",
        "--references",
        type=Path,
        metavar="FOLDER",
        help="the true label maps, such as labelsTs, to draw errors",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FOLDER",
        help="folder for what is written (default: figures in the folder of predictions)",
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--cases", nargs="+", metavar="CASE", help="draw these cases")
    which.add_argument(
        "--number",
        type=positive_int,
        default=8,
        metavar="N",
        help="number of cases to draw (default: %(default)s)",
    )
    add_label_options(parser)
    add_processes_option(parser)


def _run(options: argparse.Namespace) -> None:
    from samnet.core.worker_pool import default_processes
    from samnet.dataset.cases import find_prediction_cases
    from samnet.evaluation.overlays.draw import INDEX_FILE
    from samnet.evaluation.overlays.evaluated_cases import FIGURES_FOLDER
    from samnet.evaluation.overlays.folder import draw_folder

    for folder in (options.predictions, options.images, options.references):
        if folder is not None and not folder.exists():
            raise UserError(f"{folder}: no such folder")
    places = [options.predictions.absolute(), options.images.absolute().parent]
    if options.references is not None:
        places.insert(0, options.references.absolute().parent)
    description = load_description(options, places)
    output = options.output or options.predictions / FIGURES_FOLDER
    output.mkdir(parents=True, exist_ok=True)  # fails once, and not for every case
    outcome = draw_folder(
        find_prediction_cases(options.images, description),
        options.predictions,
        options.references,
        description,
        output,
        default_processes() if options.processes is None else options.processes,
        number=options.number,
        identifiers=options.cases,
    )
    if outcome.results:
        print(f"{len(outcome.results)} cases drawn, all of them in {output / INDEX_FILE}")
        for file in outcome.results.values():
            print(f"  {file}")
    outcome.raise_if_failed("drawing")


COMMAND = Command(
    "samnet_overlays",
    _SUMMARY,
    _add_arguments,
    _run,
    examples=(
        ("samnet_overlays -p masks -i scans", "draw the outlines of the predictions"),
        (
            "samnet_overlays -p masks -i imagesTs -r labelsTs --number 4",
            "draw the errors of 4 cases",
        ),
    ),
)
main = COMMAND.main
