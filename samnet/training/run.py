"""A training as the user asks for it: plan, prepared cases and folder of a run, then training and final validation."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from samnet.core.errors import UserError
from samnet.core.locks import lock_folder
from samnet.core.machine import choose_device
from samnet.core.paths import find_dataset_name, preprocessed_folder
from samnet.core.records import from_json, to_json
from samnet.core.worker_pool import default_processes
from samnet.dataset.cases import RawDataset
from samnet.evaluation.evaluator import evaluate_folder
from samnet.fingerprint.extract import fingerprint_path
from samnet.fingerprint.records import Fingerprint
from samnet.inference.files import predict_cases
from samnet.inference.predictor import PLAN_FILE, Predictor
from samnet.models.base import find_base_file, find_model_base, record_base
from samnet.models.network import SegmentationNetwork, build_network, count_parameters
from samnet.models.precision import used_precision
from samnet.plan.configuration import check_value
from samnet.plan.plan import Plan, plan_path
from samnet.planning.replan import replan
from samnet.training.checkpoint import find_state
from samnet.training.distributed import Distributed, join_process_group
from samnet.training.dry_run import measure_step
from samnet.training.embeddings.cache import EmbeddingCache
from samnet.training.embeddings.choice import CacheChoice, choose_cache
from samnet.training.embeddings.views import SliceViews
from samnet.training.loop import Trainer
from samnet.training.run_cases import choose_cases, load_cases, load_splits, warn_of_changed_data
from samnet.training.run_folder import (
    RUN_FILE,
    VALIDATION,
    is_finished,
    last_sitting,
    read_asked,
    run_folder,
    start_folder,
)
from samnet.training.task import SAVE_EVERY_SECONDS, TrainingTask
from samnet.training.warm_start import Source, choose_source, start_from

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingOptions:
    """What the user asks for beyond the plan.

    settings: values of the plan to change for this run. epochs: instead of steps. max_seconds: of training time.
    seed: None for 0. num_cases, num_patients: train on so many of the fold only. start_from: the folder of a trained
        model whose weights to begin with, as far as they fit.
    cache_size: GiB for the embeddings of a frozen encoder; 0 to keep none, None for as much as is sensible.
    save_seconds: how often the state is saved, besides at the end of each epoch.
    multiply_batch: whether each of several processes takes the plan's whole batch, instead of a share of it.
    resume: go on with a run; what is not given here is as it began. restart: delete it and start anew.
    """

    settings: dict[str, Any] = field(default_factory=dict)
    epochs: int | None = None
    max_seconds: float | None = None
    seed: int | None = None
    device: str | None = None
    num_cases: int | None = None
    num_patients: int | None = None
    start_from: Path | None = None
    workers: int | None = None
    cache_size: float | None = None
    save_seconds: float = SAVE_EVERY_SECONDS
    multiply_batch: bool = False
    resume: bool = False
    restart: bool = False


def train_folds(identifier: str, configuration: str, fold: str, options: TrainingOptions) -> None:
    """Train one fold, or with `cv` all of them; in several processes where `torchrun` started them.

    Raises:
        UserError: data set, configuration, fold or an option cannot be used.
    """
    dataset_name = find_dataset_name(identifier)
    folds = (
        [str(number) for number in range(len(load_splits(dataset_name)))]
        if fold == "cv"
        else [fold]
    )
    with join_process_group(torch.device(choose_device(options.device))) as processes:
        for one in folds:
            begun = fold != "cv" or bool(read_asked(run_folder(dataset_name, configuration, one)))
            train(
                dataset_name,
                configuration,
                one,
                replace(options, resume=options.resume and begun),
                processes,
            )


def train(
    dataset_name: str,
    configuration: str,
    fold: str,
    options: TrainingOptions,
    distributed: Distributed | None = None,
) -> Path:
    """Train one fold to its end and validate it; returns its folder. A finished one is left as it is.

    processes: that do it together; None for this one alone.

    Raises:
        UserError: the configuration, the fold or an option cannot be used.
        FolderBusy: another training is at work there.
    """
    distributed = distributed or Distributed(device=torch.device(choose_device(options.device)))
    folder = run_folder(dataset_name, configuration, fold)
    options = _complete_options(folder, options)
    plan = _plan_of_run(dataset_name, configuration, folder, options, distributed)
    training, validation, held_out = choose_cases(
        load_splits(dataset_name),
        fold,
        options.num_cases,
        options.seed or 0,
        num_patients=options.num_patients,
        patient_key=plan.patient_key,
    )
    source = choose_source(options.start_from, read_asked(folder) if options.resume else {})
    record = _run_record(plan, fold, training, options, source)
    has_finished = not options.restart and is_finished(folder, record, resume=options.resume)
    distributed.barrier()  # all have read the folder before the first changes it
    if has_finished:
        log.info("%s is finished; --restart would train it anew", folder)
    else:
        values = plan.configuration(configuration)
        task = TrainingTask(
            configuration=values,
            class_names=plan.class_names,
            ignore_label=plan.ignore_label,
            training_cases=load_cases(dataset_name, training, values.views),
            validation_cases=load_cases(dataset_name, validation, values.views),
            held_out=held_out,
            seed=record["seed"],
            max_seconds=options.max_seconds,
            workers=_choose_workers(options, distributed),
            regions=plan.regions,
            save_seconds=options.save_seconds,
        )
        device = distributed.device
        if distributed.is_master:
            warn_of_changed_data(dataset_name, task.training_cases, _processes(options))
            _warn_of_another_device(dataset_name, plan, device)
            _warn_of_another_precision(dataset_name, values.precision, device)
        torch.manual_seed(task.seed)
        begun = not options.restart and find_state(folder) is not None
        base_file = find_model_base(values, folder) if begun else find_base_file(values)
        network = build_network(
            values,
            len(plan.channel_names),
            plan.num_outputs,
            load_pretrained=not begun,
            base_file=base_file,
        )
        if source is not None and not begun:
            log.info(start_from(network, source, base_file).report())
        _log_start(configuration, fold, task, network, device)
        distributed.share_batch(values.batch_size)
        # Only now, as all that may be missing is there: what this run replaces is not lost for nothing.
        embeddings = distributed.gather(
            _choose_embeddings(dataset_name, folder, task, network, options)
        )[0]
        choice = to_json(embeddings.choice) if embeddings else None
        lock = lock_folder(folder.parent, f"training {folder.name}", waits=False)
        with lock if distributed.is_master else contextlib.nullcontext():
            if distributed.is_master:
                start_folder(
                    folder, plan, record, device, restart=options.restart, embeddings=choice
                )
                if not begun:
                    record_base(values, folder, base_file)
            distributed.barrier()
            Trainer(network, replace(task, embeddings=embeddings), folder, device, distributed).run()
    _validate_fold(dataset_name, folder, validation if held_out else [], options, distributed)
    return folder


def _log_start(
    configuration: str,
    fold: str,
    task: TrainingTask,
    network: SegmentationNetwork,
    device: torch.device,
) -> None:
    total, trained = count_parameters(network)
    log.info(
        "%s, fold %s: %s with %s head, %.2f of %.2f million parameters trained, %d cases, on %s",
        configuration,
        fold,
        task.configuration.backbone,
        task.configuration.head,
        trained / 1e6,
        total / 1e6,
        len(task.training_cases),
        device,
    )


def _complete_options(folder: Path, options: TrainingOptions) -> TrainingOptions:
    """With `--continue`, what was not given anew is as the run began.

    Raises:
        UserError: there is no run to go on with.
    """
    if not options.resume:
        return options
    asked = read_asked(folder)
    if not asked:
        raise UserError(f"--continue: there is no training in {folder}")
    if options.num_cases is None and options.num_patients is None:
        patients = asked.get("num_patients")
        number = len(asked["training_cases"]) if patients is None else None
        options = replace(options, num_cases=number, num_patients=patients)
    return replace(
        options,
        seed=asked["seed"] if options.seed is None else options.seed,
        max_seconds=asked["max_seconds"] if options.max_seconds is None else options.max_seconds,
        cache_size=asked.get("cache_size") if options.cache_size is None else options.cache_size,
    )


def _plan_of_run(
    dataset_name: str,
    configuration: str,
    folder: Path,
    options: TrainingOptions,
    distributed: Distributed,
) -> Plan:
    """The plan of one configuration with the options worked in; with `--continue`, the one the run began with."""
    file = folder / PLAN_FILE if options.resume else plan_path(dataset_name)
    if not file.is_file():
        raise UserError(f"{file}: no such file; run samnet_plan_and_preprocess -d {dataset_name}")
    plan = Plan.load(file)
    planned = plan.configuration(configuration)
    settings = dict(options.settings)
    if options.epochs is not None:
        per_epoch = check_value(
            "steps_per_epoch", settings.get("steps_per_epoch", planned.steps_per_epoch), "--set"
        )
        settings |= {"steps": options.epochs * per_epoch, "steps_per_epoch": per_epoch}
    if "backbone" in settings and not options.resume:
        plan = replan(
            plan,
            Fingerprint.load(fingerprint_path(dataset_name)),
            configuration,
            settings,
            measure_step,
        )
    elif settings:
        plan = plan.with_values(configuration, settings, "set on the command line of the training")
    values = plan.configuration(configuration)
    if options.multiply_batch and not options.resume and distributed.size > 1:
        because = f"{values.batch_size} in each of {distributed.size} processes, as asked for"
        plan = plan.with_values(
            configuration, {"batch_size": values.batch_size * distributed.size}, because
        )
    warmup_steps = min(values.warmup_steps, values.steps // 10)
    if (
        "steps" in settings
        and "warmup_steps" not in settings
        and warmup_steps < values.warmup_steps
    ):
        because = f"at most a tenth of the {values.steps} steps asked for"
        plan = plan.with_values(configuration, {"warmup_steps": warmup_steps}, because)
    return plan.only(configuration)


def _run_record(
    plan: Plan, fold: str, training: Sequence[str], options: TrainingOptions, source: Source | None
) -> dict[str, Any]:
    return {
        "fold": fold,
        "training_cases": list(training),
        "num_patients": options.num_patients,
        "seed": options.seed or 0,
        "max_seconds": options.max_seconds,
        "cache_size": options.cache_size,
        "data_key": plan.data_key,
        "start_from": None if source is None else to_json(source),
        "configuration": to_json(plan.configuration(next(iter(plan.configurations)))),
    }


def _choose_embeddings(
    dataset_name: str,
    folder: Path,
    task: TrainingTask,
    network: SegmentationNetwork,
    options: TrainingOptions,
) -> EmbeddingCache | None:
    """What the training keeps of a frozen encoder's work; what it kept before, as its samples depend on that."""
    root = preprocessed_folder() / dataset_name / "embeddings"
    earlier = {} if options.restart else last_sitting(folder)
    if "embeddings" in earlier and read_asked(folder).get("cache_size") == options.cache_size:
        known = earlier["embeddings"]
        choice = (
            from_json(CacheChoice, known, f"{folder / RUN_FILE}: embeddings") if known else None
        )
    else:
        views = SliceViews(
            task.training_cases,
            task.configuration,
            stride=network.stride,
            seed=task.seed,
            ignore_label=task.ignore_label,
        )
        choice = choose_cache(views, network, root, options.cache_size)
    if choice is None:
        return None
    cases = task.training_cases
    if options.num_cases is None and options.num_patients is None:  # all folds share the bound
        names = {
            case for split in load_splits(dataset_name) for case in split["train"] + split["val"]
        }
        cases = load_cases(dataset_name, sorted(names), task.configuration.views)
    return EmbeddingCache(root, choice, cases)


def _warn_of_another_device(dataset_name: str, plan: Plan, device: torch.device) -> None:
    """Backbone, precision and batch are planned for a device; on another they are too slow, or less than it can do."""
    if device.type != plan.machine.device:
        log.warning(
            "%s is planned for %s, and trained on %s: samnet_plan -d %s --device %s plans for that",
            dataset_name,
            plan.machine,
            device.type,
            dataset_name,
            device.type,
        )


def _warn_of_another_precision(dataset_name: str, planned: str, device: torch.device) -> None:
    """The memory of a step is planned in the planned precision, and single precision takes up to twice as much."""
    if device.type == "cuda" and used_precision(planned, device) != planned:
        log.warning(
            "%s has no %s: training in single precision; samnet_plan -d %s --set precision=float32 plans for that",
            torch.cuda.get_device_name(device),
            planned,
            dataset_name,
        )


def _processes(options: TrainingOptions) -> int:
    """For work on files; without workers for the samples none for files either, as some containers allow none."""
    return 0 if options.workers == 0 else default_processes()


def _choose_workers(options: TrainingOptions, distributed: Distributed) -> int:
    if options.workers is not None:
        return options.workers
    return min(8, max(1, default_processes() // distributed.size - 1))


def _validate_fold(
    dataset_name: str,
    folder: Path,
    cases: Sequence[str],
    options: TrainingOptions,
    distributed: Distributed,
) -> None:
    """Predict the held-out cases as files, and evaluate them: what the choice of a configuration rests on."""
    output = folder / VALIDATION
    if not cases or (output / "summary.json").is_file():
        return
    dataset = RawDataset.load(dataset_name)
    chosen = [case for case in dataset.cases if case.identifier in set(cases)]
    predictor = Predictor.from_folder(folder, device=str(distributed.device))
    predict_cases(predictor, distributed.share(chosen), output, keep_existing=True)
    distributed.barrier()
    if not distributed.is_master:
        return
    references = {
        case.identifier: case.label_file for case in chosen if case.label_file is not None
    }
    evaluate_folder(
        output, references, dataset.description, output, _processes(options), skip_missing=True
    )
