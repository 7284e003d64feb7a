"""The steps before training, shared by the command that does all and those that do one of them."""

from __future__ import annotations

import argparse
import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from samnet.core.machine import Machine
    from samnet.dataset.cases import RawDataset
    from samnet.dataset.dataset_folder import DatasetFolder
    from samnet.plan.plan import Plan

log = logging.getLogger(__name__)


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

    A plan that was changed by hand is kept, except with `--overwrite`. Published configurations are
    planned where they are requested, or were before.

    Args:
        dataset: The raw data set.
        options: The parsed options, with those of `add_planning_options`, `--set` and `-np`.

    Returns:
        The plan.

    Raises:
        UserError: Settings are given, and would be lost because the plan was changed by hand; or
            there is no configuration of a requested name.
    """
    from samnet.core.locks import lock_folder
    from samnet.fingerprint.extract import extract_fingerprint
    from samnet.planning.planned_dataset import PLANNING, write_splits
    from samnet.planning.planner import make_plan
    from samnet.planning.presets import check_names
    from samnet.planning.replan import update_plan
    from samnet.training.kept_measurements import KeptMeasurements

    fingerprint = extract_fingerprint(dataset, chosen_processes(options))
    settings: dict[str, Any] = dict(options.settings)
    folder = dataset.folder
    requested: list[str] = options.configurations
    with lock_folder(folder.preprocessed, PLANNING):
        known = None if options.overwrite else _known_plan(folder)
        machine = _choose_machine(options, known)
        measure = KeptMeasurements(folder.step_memory_file)
        if known is None:
            check_names(requested)
            plan = make_plan(fingerprint, machine, settings, measure, requested)
        else:
            plan = update_plan(known, fingerprint, machine, settings, measure, requested)
        if plan != known:
            plan.save(folder.plan_file)
        write_splits(plan, fingerprint, folder)
    return plan


def _known_plan(folder: DatasetFolder) -> Plan | None:
    from samnet.core.errors import UserError
    from samnet.planning.planned_dataset import PlannedDataset

    if not folder.plan_file.is_file():
        return None
    try:
        return PlannedDataset(folder).plan
    except UserError as error:
        raise UserError(f"{error}. Fix it, or replace it with --overwrite") from None


def _choose_machine(options: argparse.Namespace, known: Plan | None) -> Machine:
    """Return the requested machine, else this one.

    A plan for a GPU is kept on a machine without one, such as a login node.
    """
    from samnet.core.machine import detect_machine, parse_memory

    memory = parse_memory(options.memory) if options.memory else None
    machine = detect_machine(options.device, memory)
    is_requested = options.device is not None or options.memory is not None
    if known is None or is_requested or machine.device != "cpu":
        return machine
    if known.machine.device != "cpu":
        log.info("planned for %s, which stays; --device cpu plans for this machine", known.machine)
    return known.machine
