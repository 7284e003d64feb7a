"""`samnet_measure`: measure predictions without a reference."""

from __future__ import annotations

import argparse
from pathlib import Path

from samnet.cli.command import Command, add_processes_option
from samnet.cli.label_options import add_label_options, load_description

_SUMMARY = """\
Measure label maps without a reference, by case and class: volume in mL (mm2 for images of one
slice, pixels or voxels where no spacing is known), number of separate parts and the largest one,
extent and centroid along the patient's axes; with the images, mean, spread and percentiles of the
intensity. Writes measurements.csv and measurements.json. Files that cannot be measured are named,
and do not stop the others."""


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-p",
        "--predictions",
        type=Path,
        required=True,
        metavar="FOLDER",
        help="the label maps to be measured",
    )
    parser.add_argument(
        "-i",
        "--images",
        type=Path,
        metavar="FOLDER",
        help="their images, to measure intensities (default: none are measured)",
    )
    add_label_options(parser, default="in the folder of predictions, else next to it")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FOLDER",
        help="folder for what is written (default: the folder of predictions)",
    )
    add_processes_option(parser)


def _run(options: argparse.Namespace) -> None:
    from samnet.core.errors import UserError
    from samnet.core.worker_pool import default_processes
    from samnet.evaluation.measure_folder import (
        CSV_FILE,
        JSON_FILE,
        format_measurements,
        measure_folder,
    )

    if not options.predictions.is_dir():
        raise UserError(f"{options.predictions}: no such folder")
    folder = options.predictions.absolute()
    output = options.output or options.predictions
    measured = measure_folder(
        options.predictions,
        load_description(options, [folder, folder.parent]),
        output,
        default_processes() if options.processes is None else options.processes,
        images=options.images,
    )
    if measured.cases:
        print(format_measurements(measured))
        print(f"written: {output / CSV_FILE}, {output / JSON_FILE}")
    measured.raise_if_failed()


COMMAND = Command(
    "samnet_measure",
    _SUMMARY,
    _add_arguments,
    _run,
    examples=(
        ("samnet_measure -p masks", "measure the volumes of all label maps in masks"),
        ("samnet_measure -p masks -i scans", "also measure the intensities"),
    ),
)
main = COMMAND.main
