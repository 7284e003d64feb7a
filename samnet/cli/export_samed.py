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
        "-f", "--fold", metavar="FOLD", help="number of the fold, where the model has several"
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        metavar="FILE",
        help="the file to write, such as spleen.pth",
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
    examples=(
        (
            "samnet_export_samed -m results/Dataset008_Spleen/samed -f 0 -o spleen.pth",
            "write fold 0 of a model",
        ),
    ),
)
main = COMMAND.main
