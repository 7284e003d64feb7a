"""The steps before training, shared by the command that does all and those that do one of them."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from samnet.dataset.cases import RawDataset
    from samnet.plan.plan import Plan


def add_dataset_option(parser: argparse.ArgumentParser) -> None:
    """Add the option that names one or more data sets.

    Args:
        parser: The parser of a command.
    """
    parser.add_argument(
        "-d",
        "--dataset",
        nargs="+",
        required=True,
        metavar="ID",
        help="ids or names of data sets, such as 8",
    )


def add_planning_options(parser: argparse.ArgumentParser) -> None:
    """Add the options for the machine to plan for, and for replacing a plan.

    Args:
        parser: The parser of a command.
    """
    parser.add_argument(
        "--device",
        metavar="DEVICE",
        help="plan for this device: cpu, cuda or mps (default: the best one here)",
    )
    parser.add_argument(
        "--memory", metavar="SIZE", help="plan for this much memory on the device, such as 16G"
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace a plan, even one that was changed by hand"
    )
    parser.add_argument(
        "-c",
        "--configurations",
        nargs="+",
        default=[],
        metavar="CONFIG",
        help="plan these published configurations too, such as samed; otherwise each is planned "
        "when it is first trained",
    )


def chosen_processes(options: argparse.Namespace) -> int:
    """Choose the number of worker processes.

    Args:
        options: The parsed options, with that of `add_processes_option`.

    Returns:
        The given number, else the default of this machine. 0 stands for no worker processes.
    """
    from samnet.core.worker_pool import default_processes

    return default_processes() if options.processes is None else options.processes


def load_datasets(options: argparse.Namespace) -> list[RawDataset]:
    """Read the descriptions and find the cases of the data sets that the options name.

    Args:
        options: The parsed options, with that of `add_dataset_option`.

    Returns:
        The raw data sets in the given order.

    Raises:
        UserError: There is no such data set, or its description cannot be used.
    """
    from samnet.dataset.cases import RawDataset

    return [RawDataset.load(identifier) for identifier in options.dataset]


def plan_dataset(dataset: RawDataset, options: argparse.Namespace) -> Plan:
    """Measure and plan a data set, and write plan and splits.

    Args:
        dataset: The raw data set.
        options: The parsed options, with those of `add_planning_options`, `--set` and `-np`.

    Returns:
        The plan.

    Raises:
        UserError: As for `samnet.planning.plan_dataset.plan_dataset`.
    """
    from samnet.planning import plan_dataset as planning
    from samnet.training.kept_measurements import KeptMeasurements

    requested = planning.PlanningOptions(
        device=options.device,
        memory=options.memory,
        settings=dict(options.settings),
        configurations=options.configurations,
        overwrite=options.overwrite,
    )
    return planning.plan_dataset(dataset, requested, chosen_processes(options), KeptMeasurements)
