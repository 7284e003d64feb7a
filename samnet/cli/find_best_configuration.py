"""`samnet_find_best_configuration`: compare cross-validations, and choose the best."""

from __future__ import annotations

import argparse

from samnet.cli.command import Command, add_processes_option
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
    parser.add_argument(
        "-f",
        "--folds",
        nargs="+",
        default=[],
        metavar="FOLD",
        help="folds to compare them on, such as 0 1 (default: all)",
    )
    parser.add_argument(
        "--no-ensembles",
        action="store_true",
        help="compare single configurations only; ensembles of two have to predict every held-out "
        "case",
    )
    parser.add_argument(
        "--device",
        metavar="DEVICE",
        help="what ensembles predict on: cpu, cuda or mps (default: the best one here)",
    )
    add_processes_option(parser)
    parser.epilog = (
        "Every held-out case counts once. Where the mean Dice of several is the same within noise "
        "(95 % interval of the difference, paired bootstrap over cases), the one that computes "
        "least is taken. Postprocessing is taken where it is better beyond noise, kept with the "
        "model, and applied by samnet_predict.\n"
        "Results: $samnet_results/DATASET/best_configuration.json, and cross_validation.json, .csv "
        "and postprocessing.json for each configuration."
    )


def _run(options: argparse.Namespace) -> None:
    from samnet.core.worker_pool import default_processes
    from samnet.selection.best_configuration import find_best_configuration

    read_named_positionals(options, required=("dataset",))
    choice = find_best_configuration(
        options.dataset,
        options.configurations,
        options.folds,
        with_ensembles=not options.no_ensembles,
        processes=default_processes() if options.processes is None else options.processes,
        device=options.device,
    )
    print(choice)


COMMAND = Command(
    "samnet_find_best_configuration",
    "Compare the cross-validations of configurations and of ensembles of two, choose the best, and "
    "the postprocessing for it.",
    _add_arguments,
    _run,
    examples=(
        (
            "samnet_find_best_configuration 8",
            "compare all configurations of data set 8 whose folds are trained",
        ),
        (
            "samnet_find_best_configuration 8 -c lora full --no-ensembles",
            "compare these two, without their ensemble",
        ),
    ),
)
main = COMMAND.main
