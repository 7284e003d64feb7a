"""`samnet_train`: train a configuration of a plan."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from samnet.cli.command import Command, duration, non_negative_int, positive_float, positive_int
from samnet.cli.named_positionals import add_named_positional, read_named_positionals
from samnet.cli.settings import add_set_option
from samnet.training.tracking.backend import TRACKERS


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    _add_target(parser)
    _add_plan_options(parser)
    _add_start_options(parser)
    _add_resource_options(parser)
    _add_resume_options(parser)
    _add_tracking_option(parser)
    parser.epilog = (
        "The same command resumes an interrupted run. Results: "
        "$samnet_results/DATASET/CONFIG/fold_FOLD (metrics.jsonl, progress.png, checkpoints, "
        "validation)."
    )


def _add_target(parser: argparse.ArgumentParser) -> None:
    """Add what is trained: in order, or by the flags of samnet_predict."""
    add_named_positional(
        parser, "dataset", "ID", "id or name of a planned and prepared data set, such as 8"
    )
    add_named_positional(
        parser,
        "configuration",
        "CONFIG",
        "a configuration of its plan, such as lora, or a published one, such as samed",
    )
    add_named_positional(
        parser,
        "fold",
        "FOLD",
        "the number of a fold of splits_final.json, all, or cv for its folds one after the other "
        "(default: 0)",
    )


def _add_plan_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that change values of the plan, and the length of the training."""
    parser.add_argument(
        "--epochs",
        type=positive_int,
        metavar="N",
        help="train for N epochs, each of the plan's steps_per_epoch steps",
    )
    parser.add_argument(
        "--steps", type=positive_int, metavar="N", help="train for N optimiser steps"
    )
    parser.add_argument(
        "--max-time",
        type=duration,
        metavar="TIME",
        help="time limit of each fold, such as 30m or 12h, validation and the prediction of the "
        "held-out cases included; the same command does what is left of that",
    )
    parser.add_argument("--lr", type=positive_float, metavar="RATE", help="peak learning rate")
    parser.add_argument("--batch-size", type=positive_int, metavar="N", help="slices in a step")
    parser.add_argument(
        "--backbone",
        metavar="NAME",
        help="small, vit_b, vit_l or vit_h; what depends on it is planned again",
    )
    add_set_option(parser)


def _add_start_options(parser: argparse.ArgumentParser) -> None:
    """Add the options for seed, device, cases, and the weights to start from."""
    parser.add_argument(
        "--seed", type=non_negative_int, metavar="N", help="seed of everything random (default: 0)"
    )
    parser.add_argument(
        "--device", metavar="DEVICE", help="cpu, cuda or mps (default: the best one here)"
    )
    number = parser.add_mutually_exclusive_group()
    number.add_argument(
        "--num-cases", type=positive_int, metavar="N", help="train on N cases of the fold only"
    )
    number.add_argument(
        "--num-patients",
        type=positive_int,
        metavar="N",
        help="train on all cases of N patients of the fold only",
    )
    parser.add_argument(
        "--from",
        dest="start_from",
        type=Path,
        metavar="FOLDER",
        help="begin with the weights of this trained model, as far as they fit; those that do not "
        "are listed",
    )


def _add_resource_options(parser: argparse.ArgumentParser) -> None:
    """Add the options for processes, disk and GPUs."""
    parser.add_argument(
        "--workers",
        type=non_negative_int,
        metavar="N",
        help="worker processes that prepare samples, 0 for no worker processes at all (default: "
        "one less than the cores, 1 to 7)",
    )
    cache = parser.add_mutually_exclusive_group()
    cache.add_argument(
        "--cache-size",
        metavar="SIZE",
        help="space for the embeddings of a frozen encoder, such as 20G: the more fit, the more "
        "augmented variants of each slice are kept (default: 20G, or half of the free disk)",
    )
    cache.add_argument(
        "--no-cache",
        action="store_true",
        help="run a frozen encoder at every step, on a new variant of each slice",
    )
    parser.add_argument(
        "--save-every",
        type=duration,
        default=300.0,
        metavar="TIME",
        help="save the state this often, such as 90s or 10m (default: 5m)",
    )
    parser.add_argument(
        "--gpus",
        type=positive_int,
        metavar="N",
        help="train on N GPUs of this machine (with --device cpu: in N processes)",
    )
    parser.add_argument(
        "--multiply-batch",
        action="store_true",
        help="give each GPU the plan's whole batch instead of a share of it; the learning rate is "
        "not changed",
    )


def _add_resume_options(parser: argparse.ArgumentParser) -> None:
    """Add the options for what is done with a run that is there already."""
    ending = parser.add_mutually_exclusive_group()
    ending.add_argument(
        "--continue",
        dest="resume",
        action="store_true",
        help="resume a run, with the settings it began with where they are not given again; with "
        "more --steps, --epochs or --max-time also a finished one",
    )
    ending.add_argument(
        "--restart", action="store_true", help="delete what is there and start again"
    )


def _add_tracking_option(parser: argparse.ArgumentParser) -> None:
    """Add the option for the tool that follows the run."""
    parser.add_argument(
        "--track",
        choices=TRACKERS,
        help="also send metrics, plan and figures to this tool; everything stays in the folder of "
        "the run unless variables of the tool say otherwise; needs the extra of its name",
    )


def _run(options: argparse.Namespace) -> None:
    began = time.monotonic()  # loading the libraries takes seconds, and counts for --max-time
    from samnet.core.errors import UserError
    from samnet.core.machine import choose_device, parse_memory
    from samnet.training.distributed import started_by_torchrun
    from samnet.training.launch import end_with_launcher, launch
    from samnet.training.options import TrainingOptions
    from samnet.training.results import describe_results
    from samnet.training.run import train_folds

    read_named_positionals(options, required=("dataset", "configuration"), defaults={"fold": "0"})
    if options.gpus is not None and options.gpus > 1 and not started_by_torchrun():
        launch(options.gpus, choose_device(options.device), ["train", *options.arguments])
        return
    end_with_launcher()
    if options.epochs is not None and options.steps is not None:
        raise UserError("--epochs and --steps both say how long to train; give one")
    cache_size = None if options.cache_size is None else parse_memory(options.cache_size)
    training_options = TrainingOptions(
        settings=_settings(options),
        epochs=options.epochs,
        max_seconds=options.max_time,
        seed=options.seed,
        device=options.device,
        num_cases=options.num_cases,
        num_patients=options.num_patients,
        start_from=options.start_from,
        workers=options.workers,
        cache_size=0.0 if options.no_cache else cache_size,
        save_seconds=options.save_every,
        multiply_batch=options.multiply_batch,
        resume=options.resume,
        restart=options.restart,
        track=options.track,
    )
    runs = train_folds(
        options.dataset, options.configuration, options.fold, training_options, began
    )
    if runs:
        print(describe_results(runs))


def _settings(options: argparse.Namespace) -> dict[str, Any]:
    """Return the values of the plan that are given by `--set` or by flags; flags come first."""
    flags = {
        "steps": options.steps,
        "learning_rate": options.lr,
        "batch_size": options.batch_size,
        "backbone": options.backbone,
    }
    given = {key: value for key, value in flags.items() if value is not None}
    return dict(options.settings) | given


COMMAND = Command(
    "samnet_train",
    "Train a configuration of a plan.",
    _add_arguments,
    _run,
    examples=(
        ("samnet_train 8 lora", "train the configuration lora on fold 0 of data set 8"),
        ("samnet_train 8 lora cv --max-time 2h", "train all folds, each for two hours"),
        ("samnet_train 8 lora 0 --continue --steps 4000", "prolong a run to 4000 steps"),
        (
            "samnet_train -d 8 -c lora -f all --set zoom=3",
            "train on all cases, with another value of the plan",
        ),
    ),
)
main = COMMAND.main
