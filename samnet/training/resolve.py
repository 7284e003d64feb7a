"""From a request to a run: its plan, its cases and its folder, checked against what is there."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from samnet.core.errors import UserError
from samnet.core.geometry import PATIENT
from samnet.core.records import to_json
from samnet.models.model_folder import LAST, ModelFolder, RunFolder
from samnet.plan.checks import check_value
from samnet.plan.plan import Plan
from samnet.planning.planned_dataset import PlannedDataset
from samnet.planning.replan import replan
from samnet.training.checkpoint import find_state, read_progress
from samnet.training.dry_run import measure_step
from samnet.training.kept_measurements import KeptMeasurements
from samnet.training.options import TrainingOptions
from samnet.training.run_cases import FoldCases, choose_cases, find_unlabelled
from samnet.training.run_record import (
    RunRecord,
    RunRequest,
    check_continuation,
    describe_differences,
)
from samnet.training.tracking.backend import check_tracker
from samnet.training.warm_start import Source, choose_source


@dataclass(frozen=True)
class ResolvedRun:
    """A training run with everything that defines it.

    Attributes:
        dataset: The planned data set.
        folder: The folder of the run.
        plan: The plan of its configuration alone, with the options worked in.
        cases: The cases it trains and validates on.
        request: What is requested, as it will be recorded.
        record: The record of what is in the folder, or None.
        options: The options, completed from the record where the run is resumed.
        is_finished: Whether nothing is left to train.
    """

    dataset: PlannedDataset
    folder: RunFolder
    plan: Plan
    cases: FoldCases
    request: RunRequest
    record: RunRecord | None
    options: TrainingOptions
    is_finished: bool


def resolve_run(
    dataset: PlannedDataset,
    configuration: str,
    fold: str,
    options: TrainingOptions,
    world_size: int = 1,
) -> ResolvedRun:
    """Resolve a request.

    Nothing is written, except a configuration that the plan lacks: it is planned and added.

    Args:
        dataset: The planned data set.
        configuration: The name of the configuration.
        fold: The number of the fold, or `all`.
        options: The options.
        world_size: Number of processes that train together.

    Returns:
        The run.

    Raises:
        UserError: The configuration, the fold or an option cannot be used, or another run is in the
            folder.
    """
    if options.track is not None:
        check_tracker(options.track)
    folder = ModelFolder.of(dataset.folder, configuration).run(fold)
    # A run that is to be replaced need not be readable.
    record = None if options.restart else RunRecord.load(folder)
    options = _complete_options(folder, record, options)
    plan = _plan_of_run(dataset, configuration, folder, options, world_size)
    _check_orientation(plan)
    _check_copied_labels(plan)
    cases = choose_cases(
        dataset.splits,
        fold,
        options.num_cases,
        options.seed or 0,
        num_patients=options.num_patients,
        patient_key=plan.patient_key,
    )
    request = RunRequest(
        fold=fold,
        training_cases=tuple(cases.training),
        num_patients=options.num_patients,
        seed=options.seed or 0,
        max_seconds=options.max_seconds,
        cache_size=options.cache_size,
        data_key=plan.data_key,
        start_from=_source(options, record),
        configuration=to_json(plan.single_configuration),
        unlabelled_cases=find_unlabelled(dataset.folder, plan.single_configuration, world_size),
    )
    is_finished = not options.restart and _is_finished(folder, record, request, options.resume)
    return ResolvedRun(dataset, folder, plan, cases, request, record, options, is_finished)


def _complete_options(
    folder: RunFolder, record: RunRecord | None, options: TrainingOptions
) -> TrainingOptions:
    """With `--continue`, take what is not given as the run began."""
    if not options.resume:
        return options
    if record is None:
        raise UserError(f"--continue: there is no training in {folder}")
    before = record.request
    if options.num_cases is None and options.num_patients is None:
        is_by_patient = before.num_patients is not None
        number = None if is_by_patient else len(before.training_cases)
        options = replace(options, num_cases=number, num_patients=before.num_patients)
    return replace(
        options,
        seed=before.seed if options.seed is None else options.seed,
        max_seconds=before.max_seconds if options.max_seconds is None else options.max_seconds,
        cache_size=before.cache_size if options.cache_size is None else options.cache_size,
    )


def _plan_of_run(
    dataset: PlannedDataset,
    configuration: str,
    folder: RunFolder,
    options: TrainingOptions,
    world_size: int,
) -> Plan:
    """Return the plan of one configuration with the options worked in.

    With `--continue` it is the plan that the run began with.
    """
    if options.resume:
        plan = _plan_in_folder(folder)
    else:
        measure = KeptMeasurements(dataset.folder.step_memory_file)
        plan = dataset.plan_with([configuration], measure)
    planned = plan.configuration(configuration)
    settings: dict[str, Any] = dict(options.settings)
    if options.epochs is not None:
        given = settings.get("steps_per_epoch", planned.steps_per_epoch)
        per_epoch = check_value("steps_per_epoch", given, "--set")
        settings |= {"steps": options.epochs * per_epoch, "steps_per_epoch": per_epoch}
    if "backbone" in settings and not options.resume:
        plan = replan(plan, dataset.fingerprint, configuration, settings, measure_step)
    elif settings:
        because = "set on the command line of the training"
        plan = plan.with_values(configuration, settings, because)
    if options.multiply_batch and not options.resume and world_size > 1:
        plan = _with_larger_batch(plan, configuration, world_size)
    if "steps" in settings and "warmup_steps" not in settings:
        plan = _with_shorter_warmup(plan, configuration)
    return plan.only(configuration)


def _check_orientation(plan: Plan) -> None:
    orientation = plan.single_configuration.orientation
    if orientation != PATIENT:
        raise UserError(
            f"{plan.dataset_name}: configuration {plan.single_name}: orientation is "
            f"{orientation!r}. Prepared cases have the patient's axes: train with orientation="
            f"{PATIENT}; others are for models that were trained elsewhere"
        )


def _check_copied_labels(plan: Plan) -> None:
    configuration = plan.single_configuration
    known = [value for value in plan.label_scheme.values if value != 0]
    unknown = set(configuration.copied_labels) - set(known)
    if configuration.structure_copying and unknown:
        raise UserError(
            f"{plan.dataset_name}: configuration {plan.single_name}: copied_labels are "
            f"{list(configuration.copied_labels)}, but the labels of the data set are {known}; "
            f"--set copied_labels=[{known[0]}] copies structures of the first one"
        )


def _plan_in_folder(folder: RunFolder) -> Plan:
    if not folder.plan_file.is_file():
        raise UserError(f"{folder.plan_file}: no such file; --restart begins again")
    return folder.plan


def _with_larger_batch(plan: Plan, configuration: str, world_size: int) -> Plan:
    batch_size = plan.configuration(configuration).batch_size
    because = f"{batch_size} in each of {world_size} processes, by --multiply-batch"
    return plan.with_values(configuration, {"batch_size": batch_size * world_size}, because)


def _with_shorter_warmup(plan: Plan, configuration: str) -> Plan:
    values = plan.configuration(configuration)
    warmup_steps = values.steps // 10
    if warmup_steps >= values.warmup_steps:
        return plan
    because = f"at most a tenth of the {values.steps} steps requested"
    return plan.with_values(configuration, {"warmup_steps": warmup_steps}, because)


def _source(options: TrainingOptions, record: RunRecord | None) -> Source | None:
    if options.start_from is not None:
        return choose_source(options.start_from)
    if options.resume and record is not None:
        return record.request.start_from
    return None


def _is_finished(
    folder: RunFolder, record: RunRecord | None, request: RunRequest, resume: bool
) -> bool:
    """Tell whether nothing is left to train of a request; refuse another run in the folder."""
    if not folder.is_finished and not folder.checkpoint(LAST).is_file():
        return False
    before = None if record is None else record.request
    if before == request:
        return folder.is_finished
    if not resume or before is None:
        changed = f" ({describe_differences(before, request)})" if before is not None else ""
        kind, remedy = "an unfinished", "resumes it"
        if folder.is_finished:
            kind, remedy = "a finished", "with more --steps, --epochs or --max-time prolongs it"
        raise UserError(
            f"{folder} holds {kind} training run with other settings{changed}; "
            f"--continue {remedy}, --restart replaces it"
        )
    check_continuation(folder, before, request)
    return folder.is_finished and not _has_more_to_do(folder, before, request)


def _has_more_to_do(folder: RunFolder, before: RunRequest, request: RunRequest) -> bool:
    """Tell whether more steps or time are requested of a finished run than it had.

    A run may have ended before its time limit, which is for what follows the training too.
    """
    steps = request.configuration["steps"]
    if request.max_seconds is not None:
        same_time = request.max_seconds == before.max_seconds
        if same_time and steps <= before.configuration["steps"]:
            return False
    state = find_state(folder)
    if state is None:
        return False
    progress, limit = read_progress(state), request.max_seconds
    is_in_time = limit is None or progress.seconds < limit
    return is_in_time and progress.step < steps
