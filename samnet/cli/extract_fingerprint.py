"""`samnet_extract_fingerprint`: measure raw data sets."""

from __future__ import annotations

import argparse

from samnet.cli.command import Command, add_processes_option
from samnet.cli.planning_steps import add_dataset_option, chosen_processes, load_datasets


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_dataset_option(parser)
    add_processes_option(parser)


def _run(options: argparse.Namespace) -> None:
    from samnet.fingerprint.extract import extract_fingerprint

    for dataset in load_datasets(options):
        extract_fingerprint(dataset, chosen_processes(options))
        print(dataset.folder.fingerprint_file)


COMMAND = Command(
    "samnet_extract_fingerprint",
    "Measure raw data sets: spacings, intensities, sizes of classes.",
    _add_arguments,
    _run,
    examples=(
        ("samnet_extract_fingerprint -d 8", "measure data set 8"),
        (
            "samnet_extract_fingerprint -d 8 9 -np 4",
            "measure two data sets with 4 worker processes",
        ),
    ),
)
main = COMMAND.main
