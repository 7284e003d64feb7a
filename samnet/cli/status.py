"""`samnet_status`: show how far all training runs are."""

from __future__ import annotations

import argparse

from samnet.cli.command import Command


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-d", "--dataset", metavar="ID", help="show the runs of this data set only: id or name"
    )
    parser.epilog = (
        "Read from the folders of the runs in $samnet_results: it works wherever these can be "
        "seen.\n"
        "The Dice of a finished run is that of its final scores over all held-out cases. Before, "
        "it is that of the last epoch, of a few whole volumes (at most 12), and so differs.\n"
        "A model without a record of its training run is shown as installed."
    )


def _run(options: argparse.Namespace) -> None:
    from samnet.cluster.status import find_runs, format_runs
    from samnet.core.paths import describe_results_folder, find_dataset_name, results_folder

    runs = find_runs(find_dataset_name(options.dataset) if options.dataset else None)
    nothing = f"no runs in {results_folder()} ({describe_results_folder()})"
    print(format_runs(runs) if runs else nothing)


COMMAND = Command(
    "samnet_status",
    "Show all training runs and installed models: state, epoch, Dice, time left.",
    _add_arguments,
    _run,
    examples=(
        ("samnet_status", "show all training runs"),
        ("samnet_status -d 8", "show those of data set 8"),
    ),
)
main = COMMAND.main
