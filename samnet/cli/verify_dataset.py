"""`samnet_verify_dataset`: check raw data sets."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from samnet.cli.command import Command, add_processes_option
from samnet.cli.planning_steps import add_dataset_option, chosen_processes

if TYPE_CHECKING:
    from samnet.dataset.faults import Report


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    add_dataset_option(parser)
    parser.add_argument(
        "--json", type=Path, metavar="FILE", help="also write the report to this file, as JSON"
    )
    parser.add_argument(
        "--fix",
        action="store_true",
        help="where there is one class, map masks of 0 and 255 to 0 and 1; the unchanged files are "
        "kept in labelsTr_before_fix",
    )
    add_processes_option(parser)
    parser.epilog = (
        "Exit code 0: no faults, perhaps something to look at. Exit code 2: faults, at which "
        "samnet_plan_and_preprocess stops."
    )


def _run(options: argparse.Namespace) -> None:
    from samnet.core.errors import UserError
    from samnet.core.files import write_json
    from samnet.core.records import to_json
    from samnet.dataset.integrity import inspect_dataset_by_name

    reports = []
    for identifier in options.dataset:
        report = inspect_dataset_by_name(identifier, chosen_processes(options))
        if options.fix:
            report = _fix(identifier, report, chosen_processes(options))
        if not report.faults:
            print(report)
        reports.append(report)
    if options.json:
        write_json(options.json, {"datasets": to_json(reports)})
    if faulty := [str(report) for report in reports if report.faults]:
        raise UserError("\n".join(faulty))


def _fix(identifier: str, report: Report, processes: int) -> Report:
    """Correct what can be corrected, print it, and check again where anything was changed."""
    from samnet.dataset.integrity import inspect_dataset_by_name
    from samnet.dataset.repair import map_masks

    is_changed = False
    for sentence in map_masks(report):
        print(sentence, flush=True)
        is_changed = True
    return inspect_dataset_by_name(identifier, processes) if is_changed else report


COMMAND = Command(
    "samnet_verify_dataset",
    "Check raw data sets and report all their faults at once.",
    _add_arguments,
    _run,
    examples=(
        ("samnet_verify_dataset -d 8", "check data set 8"),
        ("samnet_verify_dataset -d 8 --json faults.json", "also write the report as JSON"),
    ),
)
main = COMMAND.main
