"""`samnet_doctor`: say in plain words what is odd about data sets."""

from __future__ import annotations

import argparse

from samnet.cli.command import Command, add_processes_option
from samnet.cli.planning_steps import add_dataset_option, chosen_processes


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_dataset_option(parser)
    parser.add_argument(
        "--device",
        metavar="DEVICE",
        help="where there is no plan, plan for this device: cpu, cuda or mps (default: the best "
        "one here)",
    )
    add_processes_option(parser)
    parser.epilog = (
        "Looks for classes that never occur, cases that are there twice, structures too small for "
        "the planned input, mixed spacings and directions, odd intensities, and patients or "
        "images on both sides of a fold.\n"
        "Exit code 0: nothing, or only things to look at. Exit code 2: faults, as "
        "samnet_verify_dataset reports them."
    )


def _run(options: argparse.Namespace) -> None:
    from samnet.core.errors import UserError
    from samnet.core.machine import detect_machine
    from samnet.planning.doctor import examine_dataset
    from samnet.training.kept_measurements import KeptMeasurements

    machine = detect_machine(options.device)
    processes = chosen_processes(options)
    reports = [
        examine_dataset(identifier, processes, machine, KeptMeasurements)
        for identifier in options.dataset
    ]
    for report in reports:
        if not report.faults:
            print(report)
    if faulty := [str(report) for report in reports if report.faults]:
        raise UserError("\n".join(faulty))


COMMAND = Command(
    "samnet_doctor",
    "Say in plain words what is odd about data sets.",
    _add_arguments,
    _run,
    examples=(
        ("samnet_doctor -d 8", "examine data set 8"),
        ("samnet_doctor -d 8 9", "examine two data sets"),
    ),
)
main = COMMAND.main
