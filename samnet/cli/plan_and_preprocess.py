"""`samnet_plan_and_preprocess`: check, measure, plan and prepare data sets."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from samnet.cli.command import Command, add_part_options, add_processes_option, chosen_part
from samnet.cli.planning_steps import (
    add_dataset_option,
    add_planning_options,
    chosen_processes,
    load_datasets,
    plan_dataset,
)
from samnet.cli.settings import add_set_option

if TYPE_CHECKING:
    from samnet.dataset.cases import RawDataset


# What the worker processes of all steps need.
_WORKER_MODULES = (
    "samnet.dataset.case_integrity",
    "samnet.fingerprint.measure",
    "samnet.preprocessing.prepare",
)


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_dataset_option(parser)
    add_planning_options(parser)
    add_set_option(parser)
    parser.add_argument(
        "--unlabelled",
        type=Path,
        metavar="FOLDER",
        help="learn from the images without labels in this folder too; imagesUn of the data set "
        "becomes a link to it",
    )
    parser.add_argument("--no-verify", action="store_true", help="skip the check of the raw data")
    add_part_options(parser)
    add_processes_option(parser)


def _run(options: argparse.Namespace) -> None:
    from samnet.core.worker_processes import kept_worker_processes

    if options.unlabelled:
        _link_unlabelled(options.dataset, options.unlabelled)
    processes = chosen_processes(options)
    # Before anything heavy is imported here.
    with kept_worker_processes(processes, _WORKER_MODULES):
        for dataset in load_datasets(options):
            _plan_and_prepare(dataset, options, processes)


def _link_unlabelled(identifiers: list[str], images: Path) -> None:
    from samnet.core.errors import UserError
    from samnet.dataset.dataset_folder import DatasetFolder
    from samnet.dataset.unlabelled_folder import link_unlabelled_images

    if len(identifiers) > 1:
        raise UserError(
            f"--unlabelled {images}: a folder of images without labels belongs to one data set, "
            f"and -d names {len(identifiers)}; plan one after the other"
        )
    link_unlabelled_images(DatasetFolder.find(identifiers[0]), images)


def _plan_and_prepare(dataset: RawDataset, options: argparse.Namespace, processes: int) -> None:
    from samnet.dataset.integrity import verify_dataset
    from samnet.fingerprint.records import Fingerprint
    from samnet.planning.overview import order_configurations, overview
    from samnet.preprocessing.prepare import prepare_all_configurations

    if not options.no_verify:
        verify_dataset(dataset, processes)
    plan = plan_dataset(dataset, options)
    prepare_all_configurations(dataset, plan, processes, *chosen_part(options))
    number = dataset.folder.number
    print(overview(plan, Fingerprint.load(dataset.folder.fingerprint_file)))
    print(
        f"\nplanned and prepared; the plan, for reading and changing:\n"
        f"  {dataset.folder.plan_file}\n"
        f"the reasons: samnet_plan -d {number} --explain\n"
        f"next: samnet_train {number} {order_configurations(plan)[0]}"
    )


COMMAND = Command(
    "samnet_plan_and_preprocess",
    "Check, measure, plan and prepare data sets: everything before samnet_train.",
    _add_arguments,
    _run,
    examples=(
        ("samnet_plan_and_preprocess -d 8", "do everything before samnet_train for data set 8"),
        (
            "samnet_plan_and_preprocess -d 8 9 -np 4",
            "do it for two data sets with 4 worker processes",
        ),
        (
            "samnet_plan_and_preprocess -d 8 --unlabelled SCANS",
            "learn from the scans without labels in this folder too",
        ),
    ),
)
main = COMMAND.main
