"""`samnet_submit`: run commands as jobs on a SLURM cluster."""

from __future__ import annotations

import argparse
import shlex
from typing import TYPE_CHECKING

from samnet.cli.command import Command, duration, non_negative_int, positive_int
from samnet.cli.named_positionals import add_named_positional, read_named_positionals

if TYPE_CHECKING:
    from samnet.cluster.script import Job, Resources

    _Kinds = argparse._SubParsersAction[argparse.ArgumentParser]


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="train|predict|preprocess")
    _add_train(kinds)
    _add_predict(kinds)
    _add_preprocess(kinds)
    parser.epilog = (
        "A task that is stopped before its time limit saves its state and is put back into the "
        "queue. The scripts and the output of the jobs are in $samnet_results/slurm. samnet_status "
        "shows how far they are."
    )


def _add_train(kinds: _Kinds) -> None:
    train = kinds.add_parser(
        "train", help="folds x configurations as a job array, then their summary and the choice"
    )
    add_named_positional(
        train, "dataset", "ID", "id or name of a planned and prepared data set, such as 8"
    )
    train.add_argument(
        "configuration",
        nargs="?",
        metavar="CONFIG",
        help="a configuration of its plan, such as lora, or a published one, such as samed",
    )
    train.add_argument(
        "-c",
        "--configs",
        nargs="+",
        default=[],
        metavar="CONFIG",
        help="one or more configurations, in place of CONFIG or in addition to it",
    )
    train.add_argument(
        "-f",
        "--folds",
        nargs="+",
        default=["cv"],
        metavar="FOLD",
        help="numbers of folds of splits_final.json, all, or cv for its folds (default: cv)",
    )
    _add_common_options(train, "samnet_train")


def _add_predict(kinds: _Kinds) -> None:
    predict = kinds.add_parser("predict", help="shares of the cases as a job array")
    predict.add_argument(
        "-i", "--input", required=True, metavar="IN", help="a folder of images or DICOM series"
    )
    predict.add_argument(
        "-o", "--output", required=True, metavar="OUT", help="folder for the label maps"
    )
    _add_parts(predict)
    _add_common_options(predict, "samnet_predict")


def _add_preprocess(kinds: _Kinds) -> None:
    preprocess = kinds.add_parser(
        "preprocess", help="planning, where there is no plan, then shares of the cases"
    )
    add_named_positional(preprocess, "dataset", "ID", "id or name of a data set, such as 8")
    _add_parts(preprocess)
    _add_common_options(preprocess, "samnet_plan")


def _add_parts(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--num-parts",
        type=positive_int,
        default=1,
        metavar="N",
        help="tasks of the array, each for a share of the cases (default: 1)",
    )


def _add_common_options(parser: argparse.ArgumentParser, command: str) -> None:
    """Add what all kinds of jobs have; `command` is the one that gets the further options."""
    _add_resources(parser)
    parser.add_argument(
        "--options", default="", metavar="TEXT", help=f"further options of {command}, in quotes"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="print the scripts, and submit nothing"
    )


def _add_resources(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--partition", metavar="NAME", help="partition of SLURM (default: that of the cluster)"
    )
    parser.add_argument(
        "--gpus",
        type=non_negative_int,
        default=0,
        metavar="N",
        help="GPUs of each task (default: 0)",
    )
    parser.add_argument("--cpus", type=positive_int, metavar="N", help="cores of each task")
    parser.add_argument("--memory", metavar="SIZE", help="memory of each task, such as 64G")
    parser.add_argument(
        "--time", type=duration, metavar="TIME", help="time limit of each task, such as 30m or 12h"
    )
    parser.add_argument(
        "--sbatch",
        action="append",
        default=[],
        metavar="OPTION",
        help="another option of sbatch, such as --sbatch=--account=imaging; may be repeated",
    )


def _run(options: argparse.Namespace) -> None:
    from samnet.cluster.submit import describe_jobs, submit_jobs

    jobs = _make_jobs(options)
    if options.dry_run:
        print(describe_jobs(jobs), end="")
        return
    for name, number in submit_jobs(jobs).items():
        print(f"{name}: job {number}")


def _make_jobs(options: argparse.Namespace) -> list[Job]:
    from samnet.cluster.jobs import prediction_jobs, preparation_jobs, training_jobs
    from samnet.core.errors import UserError

    resources, further = _resources(options), shlex.split(options.options)
    if options.kind != "predict":
        read_named_positionals(options, required=("dataset",))
    if options.kind == "train":
        first = [options.configuration] if options.configuration else []
        configurations = list(dict.fromkeys([*first, *options.configs]))
        if not configurations:
            raise UserError(
                "which configuration is to be trained? Give one, such as lora, or several with "
                "--configs"
            )
        return training_jobs(options.dataset, configurations, options.folds, further, resources)
    if options.kind == "predict":
        words = ["-i", options.input, "-o", options.output, *further]
        return prediction_jobs(words, options.num_parts, resources)
    return preparation_jobs(options.dataset, options.num_parts, further, resources)


def _resources(options: argparse.Namespace) -> Resources:
    from samnet.cluster.script import Resources

    return Resources(
        partition=options.partition,
        gpus=options.gpus,
        cpus=options.cpus,
        memory=options.memory,
        seconds=options.time,
        options=tuple(options.sbatch),
    )


COMMAND = Command(
    "samnet_submit",
    "Train, predict or prepare as jobs on a SLURM cluster, or print the scripts for another "
    "scheduler.",
    _add_arguments,
    _run,
    examples=(
        (
            "samnet_submit train 8 lora --gpus 1 --time 12h",
            "train all folds of the configuration lora as a job array",
        ),
        (
            "samnet_submit predict -i scans -o masks --num-parts 50 --options '-d 8 -c lora'",
            "segment in 50 tasks",
        ),
        (
            "samnet_submit preprocess 8 --num-parts 20 --cpus 4 --dry-run",
            "print the script that prepares data set 8 in 20 tasks",
        ),
    ),
)
main = COMMAND.main
