"""`samnet_export_model`: pack a trained model into one file."""

from __future__ import annotations

import argparse
from pathlib import Path

from samnet.cli.command import Command


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        metavar="FILE",
        help="the archive, such as spleen.zip",
    )
    parser.add_argument(
        "-m",
        "--model",
        type=Path,
        metavar="FOLDER",
        help="folder of a model (a configuration or fold)",
    )
    parser.add_argument(
        "-d", "--dataset", metavar="ID", help="the data set the model was trained on"
    )
    parser.add_argument("-c", "--configuration", metavar="CONFIG", help="its configuration")
    parser.add_argument(
        "-f",
        "--folds",
        nargs="+",
        metavar="FOLD",
        help="folds to pack (default: those that a prediction takes)",
    )
    parser.epilog = (
        "Without -m, -d, -c the only trained model is taken. The archive holds plan and adapter of "
        "each fold, and the hash of the weights they build on, not those weights. "
        "samnet_install_model unpacks it."
    )


def _run(options: argparse.Namespace) -> None:
    from samnet.inference.find_model import find_model
    from samnet.sharing.export import export_model

    model = find_model(options.model, options.dataset, options.configuration)
    manifest = export_model(model, options.output, options.folds)
    size = options.output.stat().st_size / 2**20
    title = f"{manifest.dataset_name}, {manifest.configuration}, {', '.join(manifest.folds)}"
    print(f"{options.output}: {title}, {size:.1f} MiB")
    if manifest.base is not None:
        print(f"whoever predicts with it also needs {manifest.base}")


COMMAND = Command(
    "samnet_export_model",
    "Pack a trained model into one small zip file to share.",
    _add_arguments,
    _run,
    examples=(
        (
            "samnet_export_model -d 8 -c lora -o spleen.zip",
            "pack the configuration lora of data set 8",
        ),
        ("samnet_export_model -d 8 -c lora -f 0 -o spleen.zip", "pack its fold 0 only"),
    ),
)
main = COMMAND.main
