"""`samnet_preprocess`: prepare the training cases of planned data sets."""

from __future__ import annotations

import argparse

from samnet.cli.command import Command, add_part_options, add_processes_option, chosen_part
from samnet.cli.planning_steps import add_dataset_option, chosen_processes, load_datasets


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_dataset_option(parser)
    add_part_options(parser)
    add_processes_option(parser)


def _run(options: argparse.Namespace) -> None:
    from samnet.preprocessing.prepare_planned import prepare_planned_dataset
    from samnet.training.kept_measurements import KeptMeasurements

    for dataset in load_datasets(options):
        measure = KeptMeasurements(dataset.folder.step_memory_file)
        prepare_planned_dataset(dataset, chosen_processes(options), measure, *chosen_part(options))


COMMAND = Command(
    "samnet_preprocess",
    "Prepare the training cases of planned data sets. Run again, it finishes what is missing.",
    _add_arguments,
    _run,
    examples=(
        ("samnet_preprocess -d 8", "prepare the cases of data set 8"),
        (
            "samnet_preprocess -d 8 --num-parts 4 --part-id 0",
            "prepare the first of four parts of them",
        ),
    ),
)
main = COMMAND.main
