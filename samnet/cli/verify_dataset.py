"""`samnet_verify_dataset`"""

from __future__ import annotations

import argparse

from samnet.cli.command import Command, add_processes_option
from samnet.cli.planning_steps import add_dataset_option, chosen_processes, load_datasets


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_dataset_option(parser)
    add_processes_option(parser)


def _run(options: argparse.Namespace) -> None:
    from samnet.core.errors import DatasetFaults, UserError
    from samnet.dataset.integrity import verify_dataset

    reports = []
    for dataset in load_datasets(options):
        try:
            verify_dataset(dataset, chosen_processes(options))
        except DatasetFaults as error:
            reports.append(str(error))
        else:
            print(f"{dataset.name}: {len(dataset.cases)} cases, no faults")
    if reports:
        raise UserError("\n".join(reports))


COMMAND = Command(
    "samnet_verify_dataset", "Check raw data sets and report all their faults at once.", _add_arguments, _run
)
main = COMMAND.main
