"""A raw data set from its measurement to its written plan and folds."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from samnet.core.errors import UserError
from samnet.core.locks import lock_folder
from samnet.core.machine import Machine, detect_machine, parse_memory
from samnet.dataset.cases import RawDataset
from samnet.dataset.dataset_folder import DatasetFolder
from samnet.fingerprint.extract import extract_fingerprint
from samnet.plan.plan import Plan
from samnet.planning.memory import Meter
from samnet.planning.planned_dataset import PLANNING, PlannedDataset, write_splits
from samnet.planning.planner import make_plan
from samnet.planning.presets import check_names
from samnet.planning.replan import update_plan

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PlanningOptions:
    """What a user may request of a plan.

    Attributes:
        device: `cpu`, `cuda` or `mps` to plan for; None for the best one here.
        memory: The memory of the device to plan for, such as `16G`; None for what it has.
        settings: Values of the plan, by key.
        configurations: Published configurations to plan too.
        overwrite: Whether to replace a plan that was changed by hand.
    """

    device: str | None = None
    memory: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    configurations: Sequence[str] = ()
    overwrite: bool = False


def plan_dataset(
    dataset: RawDataset,
    options: PlanningOptions,
    processes: int,
    meter_of: Callable[[Path], Meter],
) -> Plan:
    """Measure and plan a data set, and write plan and splits.

    A plan that was changed by hand is kept, unless it is to be overwritten. Published
    configurations are planned where they are requested, or were before.

    Args:
        dataset: The raw data set.
        options: What is requested.
        processes: Number of worker processes; 0 for none.
        meter_of: Returns what measures training steps and keeps that in a file.

    Returns:
        The plan.

    Raises:
        UserError: Settings are given, and would be lost because the plan was changed by hand; or
            there is no configuration of a requested name.
    """
    fingerprint = extract_fingerprint(dataset, processes)
    folder, settings, requested = dataset.folder, dict(options.settings), options.configurations
    with lock_folder(folder.preprocessed, PLANNING):
        known = None if options.overwrite else _known_plan(folder)
        machine = _choose_machine(options, known)
        measure = meter_of(folder.step_memory_file)  # in the locked folder, as it is written
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
    if not folder.plan_file.is_file():
        return None
    try:
        return PlannedDataset(folder).plan
    except UserError as error:
        raise UserError(f"{error}. Fix it, or replace it with --overwrite") from None


def _choose_machine(options: PlanningOptions, known: Plan | None) -> Machine:
    """Return the requested machine, else this one.

    A plan for a GPU is kept on a machine without one, such as a login node.
    """
    memory = parse_memory(options.memory) if options.memory else None
    machine = detect_machine(options.device, memory)
    is_requested = options.device is not None or options.memory is not None
    if known is None or is_requested or machine.device != "cpu":
        return machine
    if known.machine.device != "cpu":
        log.info("planned for %s, which stays; --device cpu plans for this machine", known.machine)
    return known.machine
