"""A training as the user asks for it: plan, prepared cases and folder of a run, then training and final validation."""

from __future__ import annotations

import logging
import platform
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from samnet import __version__
from samnet.core.errors import UserError
from samnet.core.files import read_json, remove_partial_files, write_json
from samnet.core.jobs import default_processes
from samnet.core.machine import choose_device
from samnet.core.paths import find_dataset_name, results_folder
from samnet.core.records import to_json
from samnet.dataset.cases import RawDataset
from samnet.dataset.splits import read_splits
from samnet.evaluation.evaluator import evaluate_folder
from samnet.fingerprint.extract import fingerprint_path
from samnet.fingerprint.records import Fingerprint
from samnet.inference.files import predict_cases
from samnet.inference.predictor import PLAN_FILE, Predictor
from samnet.models.network import build_network, count_parameters
from samnet.planning.plan import Plan, plan_path
from samnet.planning.planner import replan
from samnet.planning.splits import splits_path
from samnet.preprocessing.prepare import prepared_folder
from samnet.preprocessing.storage import StoredCase, load_case
from samnet.training.checkpoint import BEST, FINAL, LAST
from samnet.training.loop import Trainer, TrainingTask

log = logging.getLogger(__name__)
RUN_FILE = "run.json"
MAX_TRAINING_VALIDATION = 4


@dataclass(frozen=True)
class TrainingOptions:
    """What the user asks for beyond the plan.

    settings: values of the plan to change for this run. epochs: instead of steps. max_seconds: of training time.
    resume: go on with a run whatever its settings were. restart: delete it and start anew.
    num_cases: train on so many cases of the fold only.
    """

    settings: dict[str, Any] = field(default_factory=dict)
    epochs: int | None = None
    max_seconds: float | None = None
    seed: int = 0
    device: str | None = None
    num_cases: int | None = None
    workers: int | None = None
    resume: bool = False
    restart: bool = False


def train_folds(identifier: str, configuration: str, fold: str, options: TrainingOptions) -> None:
    """Train one fold, or with `cv` all of them.

    Raises:
        UserError: data set, configuration, fold or an option cannot be used.
    """
    dataset_name = find_dataset_name(identifier)
    if fold != "cv":
        train(dataset_name, configuration, fold, options)
        return
    for number in range(len(_read_splits(dataset_name))):
        train(dataset_name, configuration, str(number), options)


def train(dataset_name: str, configuration: str, fold: str, options: TrainingOptions) -> Path:
    """Train one fold to its end and validate it; returns its folder. A finished one is left as it is.

    Raises:
        UserError: the configuration, the fold or an option cannot be used.
    """
    folder = results_folder() / dataset_name / configuration / f"fold_{fold}"
    plan = _plan_of_run(dataset_name, configuration, folder, options)
    training, validation, held_out = choose_cases(_read_splits(dataset_name), fold, options)
    record = _run_record(plan, fold, training, options)
    if (folder / FINAL).is_file() and not options.restart:
        if options.resume or _same_run(folder, record):
            log.info("%s is finished; --restart would train it anew", folder)
            _validate_fold(dataset_name, folder, validation if held_out else [], options)
            return folder
        raise UserError(f"{folder} holds a finished training with other settings; --restart replaces it")
    _start_folder(folder, plan, record, options)
    values = plan.configuration(configuration)
    prepared = prepared_folder(dataset_name)
    task = TrainingTask(
        configuration=values,
        class_names=plan.class_names,
        ignore_label=plan.ignore_label,
        training_cases=_load_cases(prepared, training, values.views),
        validation_cases=_load_cases(prepared, validation, values.views),
        held_out=held_out,
        seed=options.seed,
        max_seconds=options.max_seconds,
        workers=_choose_workers(options),
    )
    torch.manual_seed(options.seed)
    network = build_network(values, len(plan.channel_names), plan.num_classes + 1)
    total, trained = count_parameters(network)
    device = torch.device(choose_device(options.device))
    log.info(
        "%s, fold %s: %s with %s head, %.2f of %.2f million parameters trained, %d cases, on %s",
        configuration,
        fold,
        values.backbone,
        values.head,
        trained / 1e6,
        total / 1e6,
        len(training),
        device,
    )
    Trainer(network, task, folder, device).run()
    _validate_fold(dataset_name, folder, validation if held_out else [], options)
    return folder


def choose_cases(
    splits: Sequence[dict[str, list[str]]], fold: str, options: TrainingOptions
) -> tuple[list[str], list[str], bool]:
    """Training cases, validation cases, and whether the latter are kept from the training.

    `all` trains on every case and watches a few of them. With `num_cases` a random order, fixed by the seed, is cut
    off: fewer cases are always a subset of more.

    Raises:
        UserError: there is no such fold, or fewer cases than asked for.
    """
    if fold == "all":
        training = sorted({case for split in splits for case in split["train"] + split["val"]})
        validation, held_out = [], False
    elif fold.isdigit() and int(fold) < len(splits):
        split = splits[int(fold)]
        training, validation = sorted(split["train"]), sorted(split["val"])
        held_out = not set(training) & set(validation)
    else:
        raise UserError(f"fold {fold!r}: choose from 0 to {len(splits) - 1}, all, or cv")
    if options.num_cases is not None:
        if options.num_cases > len(training):
            raise UserError(f"--num-cases {options.num_cases}: fold {fold} has {len(training)} training cases")
        order = np.random.default_rng(options.seed).permutation(len(training))
        training = sorted(training[index] for index in order[: options.num_cases])
    if not held_out:
        validation = training[:MAX_TRAINING_VALIDATION]
    return training, validation, held_out


def _plan_of_run(dataset_name: str, configuration: str, folder: Path, options: TrainingOptions) -> Plan:
    """The plan of one configuration with the options worked in; with `--continue`, the one the run began with."""
    if options.resume and not options.restart:
        if not (folder / PLAN_FILE).is_file():
            raise UserError(f"--continue: there is no training in {folder}")
        plan = Plan.load(folder / PLAN_FILE)
    else:
        plan = Plan.load(plan_path(dataset_name))
        plan.configuration(configuration)
    settings = dict(options.settings)
    if options.epochs is not None:
        per_epoch = settings.get("steps_per_epoch", plan.configuration(configuration).steps_per_epoch)
        settings["steps"] = options.epochs * per_epoch
    if "backbone" in settings and not options.resume:
        fingerprint = Fingerprint.load(fingerprint_path(dataset_name))
        plan = replan(plan, fingerprint, configuration, settings)
    elif settings:
        plan = plan.with_values(configuration, settings, "set on the command line of the training")
    plan.configuration(configuration)
    return plan.only(configuration)


def _run_record(plan: Plan, fold: str, training: Sequence[str], options: TrainingOptions) -> dict[str, Any]:
    return {
        "fold": fold,
        "training_cases": list(training),
        "seed": options.seed,
        "max_seconds": options.max_seconds,
        "data_key": plan.data_key,
        "configuration": to_json(plan.configuration(next(iter(plan.configurations)))),
    }


def _same_run(folder: Path, record: dict[str, Any]) -> bool:
    if not (folder / RUN_FILE).is_file():
        return False
    return read_json(folder / RUN_FILE).get("asked") == record


def _start_folder(folder: Path, plan: Plan, record: dict[str, Any], options: TrainingOptions) -> None:
    """Make the run's folder, or check that what is in it is the same run.

    Raises:
        UserError: an unfinished run with other settings is there.
    """
    if options.restart and folder.exists():
        shutil.rmtree(folder)
    started = (folder / LAST).is_file()
    if started and not options.resume and not _same_run(folder, record):
        raise UserError(
            f"{folder} holds an unfinished training with other settings; --continue goes on with it, "
            "--restart replaces it"
        )
    folder.mkdir(parents=True, exist_ok=True)
    remove_partial_files(folder)
    if not started:
        (folder / BEST).unlink(missing_ok=True)
    plan.save(folder / PLAN_FILE)
    write_json(
        folder / RUN_FILE,
        {
            "asked": record,
            "command": sys.argv,
            "started": time.strftime("%Y-%m-%d %H:%M:%S"),
            "samnet": __version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
            "machine": f"{platform.system()} {platform.machine()}",
        },
    )


def _load_cases(folder: Path, identifiers: Sequence[str], views: Sequence[int]) -> list[StoredCase]:
    cases = [load_case(folder, identifier) for identifier in identifiers]
    for case in cases:
        if not all(str(axis) in case.record.class_slices for axis in views):
            raise UserError(
                f"case {case.identifier!r} is not prepared for the views {list(views)}; set them in the plan and run "
                "samnet_preprocess"
            )
    return cases


def _read_splits(dataset_name: str) -> list[dict[str, list[str]]]:
    fingerprint = Fingerprint.load(fingerprint_path(dataset_name))
    return read_splits(splits_path(dataset_name), list(fingerprint.cases))


def _choose_workers(options: TrainingOptions) -> int:
    return min(8, max(1, default_processes() - 1)) if options.workers is None else options.workers


def _validate_fold(dataset_name: str, folder: Path, cases: Sequence[str], options: TrainingOptions) -> None:
    """Predict the held-out cases as files, and evaluate them: what the choice of a configuration rests on."""
    output = folder / "validation"
    if not cases or (output / "summary.json").is_file():
        return
    dataset = RawDataset.load(dataset_name)
    chosen = [case for case in dataset.cases if case.identifier in set(cases)]
    predictor = Predictor.from_folder(folder, device=options.device)
    predict_cases(predictor, chosen, output, keep_existing=True)
    references = dataset.folder / "labelsTr"
    evaluate_folder(output, references, dataset.description, output, default_processes(), skip_missing=True)
