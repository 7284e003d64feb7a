"""`samnet_find_best_configuration`: summarise cross-validations, and choose the best."""

from __future__ import annotations

import argparse

from samnet.cli.command import Command
from samnet.cli.named_positionals import add_named_positional, read_named_positionals


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_named_positional(parser, "dataset", "ID", "id or name of a data set, such as 8")
    parser.add_argument(
        "-c",
        "--configurations",
        nargs="+",
        default=[],
        metavar="CONFIG",
        help="configurations to compare (default: all whose folds are all trained)",
    )
    parser.epilog = (
        "Results: $samnet_results/DATASET/best_configuration.json, and cross_validation.json and "
        ".csv for each configuration. Every held-out case counts once."
    )


def _run(options: argparse.Namespace) -> None:
    from samnet.evaluation.best_configuration import find_best_configuration

    read_named_positionals(options, required=("dataset",))
    print(find_best_configuration(options.dataset, options.configurations))


COMMAND = Command(
    "samnet_find_best_configuration",
    "Summarise cross-validations, and choose the configuration with the highest mean foreground "
    "Dice.",
    _add_arguments,
    _run,
)
main = COMMAND.main
