"""`samnet_report`: one HTML page about a model, or about a folder of predictions."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from samnet.cli.command import Command, add_processes_option, non_negative_int
from samnet.cli.label_options import load_description
from samnet.core.errors import UserError

if TYPE_CHECKING:
    from samnet.reporting.source import Source

_SUMMARY = """\
Write one HTML page about a trained model or a folder of predictions. It shows the data, the plan
with its reasons, the curves of the training, the scores with their intervals, the agreement of the
volumes, a table of all cases, and the slices of the worst cases. The page opens from the disk and
needs no network."""


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    model = parser.add_argument_group("about a model")
    model.add_argument("-d", "--dataset", metavar="ID", help="id or name of its data set")
    model.add_argument("-c", "--configuration", metavar="CONFIG", help="its configuration")
    model.add_argument(
        "-m", "--model", type=Path, metavar="FOLDER", help="its folder, in place of -d and -c"
    )
    model.add_argument(
        "-f",
        "--folds",
        nargs="+",
        metavar="FOLD",
        help="the folds to report on (default: all that there are)",
    )
    predictions = parser.add_argument_group("about predictions")
    predictions.add_argument(
        "-p", "--predictions", type=Path, metavar="FOLDER", help="the predicted label maps"
    )
    predictions.add_argument("-i", "--images", type=Path, metavar="FOLDER", help="their images")
    predictions.add_argument(
        "-r",
        "--references",
        type=Path,
        metavar="FOLDER",
        help="the true label maps; without them the page has no scores",
    )
    predictions.add_argument(
        "--dataset-json",
        type=Path,
        metavar="FILE",
        help="the dataset.json that declares the labels (default: that of the data set of -d, else "
        "in the folder of predictions, else next to the folder of images)",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help="file for the page (default: report.html in the folder of the model or of the "
        "predictions)",
    )
    parser.add_argument(
        "--viewers",
        type=non_negative_int,
        default=8,
        metavar="N",
        help="number of cases whose slices are shown (default: %(default)s)",
    )
    add_processes_option(parser)


def _run(options: argparse.Namespace) -> None:
    from samnet.reporting.report import REPORT_FILE, ReportOptions, write_report

    if options.predictions is None:
        source, folder = _model_source(options)
    else:
        source, folder = _prediction_source(options), options.predictions
    file = options.output or folder / REPORT_FILE
    if file.is_dir():
        raise UserError(f"{file}: is a folder; give the name of a file, such as report.html")
    command = ("samnet_report", *options.arguments)
    notes = write_report(source, file, ReportOptions(options.viewers, command))
    for note in notes:
        print(note)
    megabytes = file.stat().st_size / 1e6
    print(f"written: {file} ({megabytes:.1f} MB); open it in a browser")


def _model_source(options: argparse.Namespace) -> tuple[Source, Path]:
    from samnet.inference.find_model import find_model
    from samnet.reporting.model_source import read_model

    given = {"-i": options.images, "-r": options.references, "--dataset-json": options.dataset_json}
    surplus = [flag for flag, value in given.items() if value is not None]
    if surplus:
        raise UserError(f"{surplus[0]} goes with the predictions of -p, which is missing")
    model = find_model(options.model, options.dataset, options.configuration)
    return read_model(model, options.folds), model.path


def _prediction_source(options: argparse.Namespace) -> Source:
    from samnet.core.worker_pool import default_processes
    from samnet.reporting.prediction_source import PredictionFolders, read_predictions

    given = {"-m": options.model, "-c": options.configuration, "-f": options.folds}
    surplus = [flag for flag, value in given.items() if value is not None]
    if surplus:
        raise UserError(f"{surplus[0]} names a model, -p predictions; give one of both")
    if options.images is None:
        raise UserError("-p needs the images of the predictions: -i FOLDER")
    processes = default_processes() if options.processes is None else options.processes
    folders = PredictionFolders(options.predictions, options.images, options.references)
    places = [options.predictions.absolute(), options.images.absolute().parent]
    return read_predictions(folders, load_description(options, places), processes)


COMMAND = Command(
    "samnet_report",
    _SUMMARY,
    _add_arguments,
    _run,
    examples=(
        ("samnet_report -d 8 -c lora", "write a page about the configuration lora of data set 8"),
        (
            "samnet_report -p masks -i imagesTs -r labelsTs",
            "write a page about predictions and their scores",
        ),
    ),
)
main = COMMAND.main
