"""`samnet COMMAND ...`: all commands under one name, and `python -m samnet`."""

from __future__ import annotations

import argparse
import difflib
import importlib
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from samnet import __version__
from samnet.cli.completion import (
    SHELLS,
    complete,
    completed_command,
    completion_script,
    is_completing,
)
from samnet.cli.help_layout import HelpLayout, describe_examples, list_names
from samnet.core.streams import prepare_standard_streams

if TYPE_CHECKING:
    from samnet.cli.command import Command

# In the order in which a project needs them. These are names, because `samnet --help` would have to
# wait for the import of the modules.
COMMANDS = {
    "convert_msd": "make a data set of a task of the Medical Segmentation Decathlon",
    "convert_folder": "make a data set of images and masks",
    "convert_dicom": "make a data set of DICOM studies",
    "plan_and_preprocess": "check, measure, plan and prepare data sets",
    "verify_dataset": "check raw data sets",
    "doctor": "what is odd about raw data sets",
    "extract_fingerprint": "measure raw data sets",
    "plan": "plan data sets, explain a plan",
    "preprocess": "prepare the training cases",
    "train": "train a configuration",
    "predict": "segment images",
    "next": "which unlabelled images to label next",
    "ensemble": "average the probabilities of several predictions",
    "find_best_configuration": "summarise cross-validations, choose a configuration",
    "evaluate": "compare predictions with references",
    "overlays": "draw predictions or their errors over their images",
    "measure": "measure predictions without references: volumes, parts, intensities",
    "report": "a page about a model or predictions",
    "zero_shot": "plain SAM with boxes from the reference, as a baseline",
    "download_checkpoint": "get SAM's weights",
    "export_model": "pack a trained model into one file",
    "install_model": "install a packed model",
    "models": "which models and base weights are installed",
    "import_samed": "make a model from a file of SAMed",
    "export_samed": "write a model as a file for SAMed",
    "serve": "predict, label and train from 3D Slicer or OHIF",
    "submit": "train, predict or prepare as jobs on a SLURM cluster",
    "status": "how far all training runs are",
    "pretrain": "pre-train the small backbone on synthetic images",
    "demo": "everything once, on synthetic data",
}

_COMPLETION = f"--completion {'|'.join(SHELLS)}"
_OPTIONS = {
    "-h, --help": "show this help message and exit",
    "--version": "show the version of samnet and exit",
    _COMPLETION: "print a script that lets this shell complete samnet's commands",
}
EXAMPLES = (
    ("samnet demo", "run all steps once, on synthetic data"),
    ("samnet plan_and_preprocess -d 8", "check, plan and prepare data set 8"),
    ("samnet train 8 lora", "train the configuration lora on fold 0 of data set 8"),
    ("samnet predict -i scans -o masks -d 8 -c lora", "segment the images in scans with it"),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that the first word names.

    Args:
        arguments: The words after `samnet`. None for those of this process.

    Returns:
        The exit code of the command; 2 where there is no such command.
    """
    if is_completing():
        _complete()
    prepare_standard_streams()
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help"):
        print(_usage())
        return 0
    if words[0] == "--version":
        print(f"samnet {__version__}")
        return 0
    if words[0] == "--completion":
        return _print_completion(words[1:])
    if words[0] not in COMMANDS:
        finding = f"samnet: unknown command {words[0]!r}{_suggestion(words[0])}"
        print(f"{finding}\n\n{_usage()}", file=sys.stderr)
        return 2
    return _load(words[0]).main(words[1:])


def _load(name: str) -> Command:
    return importlib.import_module(f"samnet.cli.{name}").COMMAND


def _complete() -> None:
    """Complete `samnet COMMAND ...` for a shell, and end the process."""
    name = completed_command()
    if name in COMMANDS:
        complete(_load(name).parser(), words_before=1)
    parser = argparse.ArgumentParser(prog="samnet", add_help=False, formatter_class=HelpLayout)
    parser.add_argument("-h", "--help", action="store_true", help=_OPTIONS["-h, --help"])
    parser.add_argument("--version", action="store_true", help=_OPTIONS["--version"])
    parser.add_argument("--completion", choices=SHELLS, help=_OPTIONS[_COMPLETION])
    command = parser.add_argument("command", help="a command")
    complete(parser, {command.dest: COMMANDS})


def _print_completion(words: Sequence[str]) -> int:
    if len(words) != 1 or words[0] not in SHELLS:
        print(f"samnet: error: write {_COMPLETION}", file=sys.stderr)
        return 2
    names = ["samnet", *(f"samnet_{name}" for name in COMMANDS)]
    print(completion_script(names, words[0]))
    return 0


def _suggestion(word: str) -> str:
    """Return a question that names the command most like an unknown one; empty for none."""
    typed = word.lower().replace("-", "_").removeprefix("samnet_")
    similar = difflib.get_close_matches(typed, COMMANDS, n=1)
    return f"; did you mean {similar[0]!r}?" if similar else ""


def _usage() -> str:
    return "\n\n".join(
        [
            "usage: samnet COMMAND [OPTIONS]",
            list_names(list(COMMANDS.items())),
            "options:\n" + list_names(list(_OPTIONS.items())),
            "Every command also exists as samnet_COMMAND.\n"
            "samnet COMMAND --help lists its options.",
            describe_examples(EXAMPLES),
        ]
    )
