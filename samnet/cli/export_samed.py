"""`samnet_export_samed`: write a model as a file for SAMed's own code."""

from __future__ import annotations

import argparse
from pathlib import Path

from samnet.cli.command import Command


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-m",
        "--model",
        type=Path,
        required=True,
        metavar="FOLDER",
        help="folder of a model or fold",
    )
    parser.add_argument(
        "-f", "--fold", metavar="FOLD", help="the fold, where the model has several"
    )
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="FILE", help="the .pth to write"
    )


def _run(options: argparse.Namespace) -> None:
    from samnet.sharing.samed import export_samed

    differences = export_samed(options.model, options.output, options.fold)
    print(options.output)
    for sentence in differences:
        print(f"note: {sentence}")


COMMAND = Command(
    "samnet_export_samed",
    "Write a model of the configurations samed, samed_s or samed_h as a file for SAMed's own code.",
    _add_arguments,
    _run,
)
main = COMMAND.main
