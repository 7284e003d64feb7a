"""`samnet_demo`: all steps once, on a small synthetic data set."""

from __future__ import annotations

import argparse
from pathlib import Path

from samnet.cli.command import Command, duration, non_negative_int, positive_int


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("demo_output"),
        metavar="FOLDER",
        help="folder for all files (default: demo_output)",
    )
    parser.add_argument(
        "--num-training",
        type=positive_int,
        default=12,
        metavar="N",
        help="synthetic training cases (default: 12)",
    )
    parser.add_argument(
        "--num-test",
        type=positive_int,
        default=4,
        metavar="N",
        help="synthetic test cases (default: 4)",
    )
    # The whole demo is to take less than five minutes on two cores.
    parser.add_argument(
        "--max-time",
        type=duration,
        default=210.0,
        metavar="TIME",
        help="time limit of the training, such as 90s or 30m (default: 3.5m)",
    )
    parser.add_argument(
        "--seed",
        type=non_negative_int,
        default=0,
        metavar="N",
        help="seed of data and training (default: 0)",
    )
    parser.add_argument(
        "--device",
        metavar="DEVICE",
        help="cpu, cuda or mps (default: cpu, so that everyone sees the same)",
    )
    parser.add_argument(
        "--no-open",
        action="store_true",
        help="do not open the report in a browser (without a display, none is opened anyway)",
    )


def _run(options: argparse.Namespace) -> None:
    from samnet.core.browser import open_in_browser
    from samnet.demo.run import DemoOptions, run_demo

    result = run_demo(
        DemoOptions(
            folder=options.output,
            num_training=options.num_training,
            num_test=options.num_test,
            max_seconds=options.max_time,
            seed=options.seed,
            device=options.device or "cpu",
        )
    )
    if not options.no_open:
        open_in_browser(result.report)


COMMAND = Command(
    "samnet_demo",
    "Make a small synthetic CT-like data set and take it through all steps: plan, train, "
    "predict, evaluate, write a report.",
    _add_arguments,
    _run,
    examples=(
        ("samnet_demo", "run all steps in the folder demo_output"),
        ("samnet_demo -o trial --max-time 1m", "train for a minute only"),
    ),
)
main = COMMAND.main
