"""`samnet_install_model`: install a packed model."""

from __future__ import annotations

import argparse
from pathlib import Path

from samnet.cli.command import Command


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "archive", type=Path, metavar="FILE", help="a zip file that samnet_export_model wrote"
    )
    parser.add_argument(
        "--name", metavar="NAME", help="install as configuration NAME, or as DATASET/NAME"
    )
    parser.add_argument("--force", action="store_true", help="replace a model of this name")
    parser.epilog = (
        "The model is put into $samnet_results/DATASET/CONFIG. Archives hold no code; names, sizes "
        "and hashes are checked before anything is installed."
    )


def _run(options: argparse.Namespace) -> None:
    from samnet.models.base import advice, locate
    from samnet.sharing.install import install_model

    folder, manifest = install_model(options.archive, name=options.name, force=options.force)
    print(f"installed: {folder} ({', '.join(manifest.folds)})")
    print(f"predict with: samnet_predict -m {folder} -i IN -o OUT")
    if manifest.base is None:
        return
    file, others = locate(manifest.base)
    state = f"{file} is that file" if file else f"it is not here. {advice(manifest.base)}"
    print(f"it needs {manifest.base}: {state}")
    for other in others:
        print(f"({other} has another content)")


COMMAND = Command(
    "samnet_install_model",
    "Install a model that samnet_export_model has packed.",
    _add_arguments,
    _run,
    examples=(
        (
            "samnet_install_model spleen.zip",
            "install a packed model under the names it was trained with",
        ),
        (
            "samnet_install_model spleen.zip --name Dataset008_Spleen/theirs",
            "install it as the configuration theirs",
        ),
    ),
)
main = COMMAND.main
