"""The steps before training, shared by the commands that do one of them and the one that does all."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from samnet.dataset.cases import RawDataset
    from samnet.planning.plan import Plan


def add_dataset_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-d", "--dataset", nargs="+", required=True, metavar="ID", help="ids or names of data sets, such as 8"
    )


def add_planning_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", help="plan for this device: cpu, cuda or mps (default: the best one here)")
    parser.add_argument("--memory", metavar="SIZE", help="plan for so much memory on the device, for example 16G")
    parser.add_argument("--overwrite", action="store_true", help="replace a plan that was changed by hand")


def chosen_processes(options: argparse.Namespace) -> int:
    from samnet.core.jobs import default_processes

    return default_processes() if options.processes is None else options.processes


def load_datasets(options: argparse.Namespace) -> list[RawDataset]:
    from samnet.dataset.cases import RawDataset

    return [RawDataset.load(identifier) for identifier in options.dataset]


def plan_dataset(dataset: RawDataset, options: argparse.Namespace) -> Plan:
    """Fingerprint and plan a data set, and write plan and splits. A plan changed by hand stays unless told otherwise.

    Raises:
        UserError: a plan changed by hand is there, and settings were given that would be lost on it.
    """
    from samnet.core.machine import detect_machine, parse_memory
    from samnet.fingerprint.extract import extract_fingerprint
    from samnet.planning.plan import plan_path
    from samnet.planning.planner import make_plan
    from samnet.planning.splits import write_splits

    fingerprint = extract_fingerprint(dataset, chosen_processes(options))
    memory = parse_memory(options.memory) if options.memory else None
    settings: dict[str, Any] = dict(options.settings)
    plan = make_plan(fingerprint, detect_machine(options.device, memory), settings)
    plan = _keep_hand_made(plan, options)
    plan.save(plan_path(dataset.name))
    write_splits(plan, list(fingerprint.cases))
    return plan


def _keep_hand_made(plan: Plan, options: argparse.Namespace) -> Plan:
    from samnet.core.errors import UserError
    from samnet.planning.plan import Plan, plan_path
    from samnet.planning.planner import find_hand_made

    path = plan_path(plan.dataset_name)
    if options.overwrite or not path.is_file():
        return plan
    try:
        known = Plan.load(path)
    except UserError as error:
        raise UserError(f"{error}. Mend it, or replace it with --overwrite") from None
    changes = find_hand_made(known, plan)
    if not changes:
        return plan
    if options.settings:
        raise UserError(
            f"{path} was changed by hand ({', '.join(changes[:5])}). Make the new settings there too, "
            "or replace the plan with --overwrite"
        )
    return known
