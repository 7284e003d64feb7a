"""`samnet_download_checkpoint`: download the released weights of SAM."""

from __future__ import annotations

import argparse
from pathlib import Path

from samnet.cli.command import Command
from samnet.core.errors import UserError
from samnet.models.registry import CHECKPOINTS, checkpoints_folder


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"one or more of {', '.join(CHECKPOINTS)}"
    )
    parser.add_argument(
        "--list", action="store_true", help="show names, sizes and addresses, and what is here"
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FOLDER",
        help="folder for the files (default: $samnet_checkpoints, else "
        "~/.cache/samnet/checkpoints)",
    )
    parser.add_argument(
        "--mirror", metavar="URL", help="address of another folder with files of the same names"
    )
    parser.epilog = (
        "The same command resumes an interrupted download. A file gets its name only when its "
        "sha256 is right; one that is there already is left unchanged."
    )


def _run(options: argparse.Namespace) -> None:
    folder = options.output or checkpoints_folder()
    if options.list:
        print(_listing(folder))
        return
    unknown = [name for name in options.names if name not in CHECKPOINTS]
    if unknown or not options.names:
        wrong = f"no checkpoint {unknown[0]!r}" if unknown else "no checkpoint named"
        raise UserError(f"{wrong}; choose from {', '.join(CHECKPOINTS)}")
    from samnet.models.download import download_checkpoint

    for name in options.names:
        print(download_checkpoint(CHECKPOINTS[name], folder, mirror=options.mirror))


def _listing(folder: Path) -> str:
    lines = []
    for name, checkpoint in CHECKPOINTS.items():
        size = f"{checkpoint.size / 2**20:,.0f} MiB" if checkpoint.size else "size unknown"
        state = "is here" if (folder / checkpoint.file_name).is_file() else "is not here"
        lines += [
            f"{name}  {checkpoint.file_name}  {size}  {checkpoint.licence}  {state}",
            f"    {checkpoint.url}",
            f"    sha256 {checkpoint.sha256}",
        ]
    return "\n".join([*lines, f"folder: {folder}"])


COMMAND = Command(
    "samnet_download_checkpoint",
    "Download the weights of Meta's Segment Anything Model that training runs start from.",
    _add_arguments,
    _run,
    examples=(
        ("samnet_download_checkpoint --list", "show which weights there are"),
        ("samnet_download_checkpoint vit_b", "download SAM ViT-B"),
        (
            "samnet_download_checkpoint vit_b vit_h -o checkpoints",
            "download two into a folder of your choice",
        ),
    ),
)
main = COMMAND.main
