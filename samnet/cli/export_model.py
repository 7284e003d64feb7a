"""`samnet_export_model`: pack a trained model into one file, and push it to a model hub."""

from __future__ import annotations

import argparse
from pathlib import Path

from samnet.cli.command import Command
from samnet.core.errors import UserError


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help="the archive, such as spleen.zip; with --push it may be left out",
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
    parser.add_argument(
        "--license",
        metavar="NAME",
        help="the licence that the model card states, such as CC-BY-4.0 (default: not stated)",
    )
    parser.add_argument(
        "--push",
        metavar="NAME",
        help="put the archive and its card on a model hub as NAME (ORG/NAME), a private model",
    )
    parser.add_argument(
        "--public", action="store_true", help="with --push, let everybody read the model"
    )
    parser.epilog = (
        "Without -m, -d, -c the only trained model is taken. The archive holds plan and adapter of "
        "each fold, a model card, and the hash of the weights they build on, not those weights. "
        "samnet_install_model unpacks it. --push needs huggingface-hub (pip install "
        '"samnet[hub]") and a token (hf auth login, or HF_TOKEN). HF_ENDPOINT names another hub.'
    )


def _run(options: argparse.Namespace) -> None:
    if options.output is None and options.push is None:
        raise UserError("name the archive with -o FILE.zip, or a model on a hub with --push")
    if options.public and options.push is None:
        raise UserError("--public is about models on a hub; name one with --push ORG/NAME")
    from samnet.inference.find_model import find_model
    from samnet.models.base import comes_with_samnet
    from samnet.sharing.export import export_model
    from samnet.sharing.push import push_model

    model = find_model(options.model, options.dataset, options.configuration)
    if options.push is None:
        manifest = export_model(model, options.output, options.folds, options.license)
        place = str(options.output)
    else:
        manifest, place = push_model(
            model,
            options.push,
            output=options.output,
            folds=options.folds,
            licence=options.license,
            public=options.public,
        )
    size = sum(member.size for member in manifest.files.values()) / 2**20
    title = f"{manifest.dataset_name}, {manifest.configuration}, {', '.join(manifest.folds)}"
    print(f"{place}: {title}, {size:.1f} MiB")
    if options.push is not None:
        print(f"install with: samnet_install_model {place}")
    if manifest.base is None:
        return
    if comes_with_samnet(manifest.base):
        print(f"it builds on {manifest.base.file_name}, which comes with samnet")
    else:
        print(f"whoever predicts with it also needs {manifest.base}")


COMMAND = Command(
    "samnet_export_model",
    "Pack a trained model into one small zip file to share, or push it to a model hub.",
    _add_arguments,
    _run,
    examples=(
        (
            "samnet_export_model -d 8 -c lora -o spleen.zip",
            "pack the configuration lora of data set 8",
        ),
        ("samnet_export_model -d 8 -c lora -f 0 -o spleen.zip", "pack its fold 0 only"),
        (
            "samnet_export_model -d 8 -c lora --push lab/spleen --license CC-BY-4.0",
            "put it on a model hub, as a private model with a card",
        ),
    ),
)
main = COMMAND.main
