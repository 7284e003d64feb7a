"""`samnet_plan`: plan data sets, and explain a plan."""

from __future__ import annotations

import argparse

from samnet.cli.command import Command, add_processes_option
from samnet.cli.planning_steps import (
    add_dataset_option,
    add_planning_options,
    load_datasets,
    plan_dataset,
)
from samnet.cli.settings import add_set_option


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_dataset_option(parser)
    add_planning_options(parser)
    add_set_option(parser)
    parser.add_argument(
        "--explain",
        action="store_true",
        help="print every decision, its reason, and what would change it; with -c for these "
        "configurations only",
    )
    add_processes_option(parser)


def _run(options: argparse.Namespace) -> None:
    from samnet.fingerprint.records import Fingerprint
    from samnet.planning.explain import explain
    from samnet.planning.overview import overview

    for dataset in load_datasets(options):
        plan = plan_dataset(dataset, options)
        fingerprint = Fingerprint.load(dataset.folder.fingerprint_file)
        if options.explain:
            print(explain(plan, fingerprint, options.configurations))
            continue
        print(overview(plan, fingerprint))
        print(f"\nthe plan, for reading and changing: {dataset.folder.plan_file}")
        print(f"the reasons: samnet_plan -d {dataset.folder.number} --explain")


COMMAND = Command(
    "samnet_plan",
    "Plan data sets: decide everything about preprocessing and training, with reasons, in "
    "samnetPlans.json.",
    _add_arguments,
    _run,
    examples=(
        ("samnet_plan -d 8", "plan data set 8"),
        ("samnet_plan -d 8 --explain", "print every decision with its reason"),
        ("samnet_plan -d 8 --set zoom=3 --overwrite", "replace the plan by one with another value"),
        ("samnet_plan -d 8 --device cuda --memory 16G", "plan for a GPU of 16 GiB"),
    ),
)
main = COMMAND.main
