"""Opening a run: its network, its cases and its folder, ready to be trained."""

from __future__ import annotations

import contextlib
import logging
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import torch

from samnet.core.files import remove_partial_files
from samnet.core.locks import lock_folder
from samnet.fingerprint.training_data import summarize_training_data
from samnet.models.base import find_base_file, find_model_base, record_base
from samnet.models.model_folder import BEST, FINAL, LAST
from samnet.models.network import SegmentationNetwork, build_network, count_parameters
from samnet.models.precision import used_precision
from samnet.preprocessing.storage import StoredCase
from samnet.training.checkpoint import find_state
from samnet.training.curves import Epoch
from samnet.training.distributed import Distributed
from samnet.training.embeddings.cache import EmbeddingCache
from samnet.training.embeddings.choice import CacheChoice, choose_cache
from samnet.training.embeddings.variants import VariantReader
from samnet.training.loop import Trainer
from samnet.training.out_of_memory import Fallback
from samnet.training.resolve import ResolvedRun
from samnet.training.run_cases import load_cases, names_in_splits, warn_of_changed_data
from samnet.training.run_record import RunRecord, Session
from samnet.training.slice_reader import SampleSpecification
from samnet.training.task import TrainingTask
from samnet.training.time_limit import MAX_SHARE, estimate_prediction
from samnet.training.unlabelled.registered_labels import load_registered, take_labels
from samnet.training.warm_start import warm_start

log = logging.getLogger(__name__)


@contextlib.contextmanager
def open_run(
    run: ResolvedRun,
    distributed: Distributed,
    ends_at: float | None = None,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
) -> Iterator[Trainer]:
    """Build what a run needs and open its folder, locked against other training runs.

    Args:
        run: The run.
        distributed: The processes that train it together.
        ends_at: When the command is to end, by `time.monotonic`; None for no end.
        on_epoch: Called after each epoch, with its line of `metrics.jsonl`.

    Yields:
        The trainer, which resumes the run where it was.

    Raises:
        UserError: Weights or prepared cases are missing or do not fit.
        FolderBusy: Another process trains in the folder.
    """
    task = replace(_task(run, distributed), ends_at=ends_at)
    if distributed.is_master:
        warn_of_changed_data(
            run.dataset.folder,
            task.training_cases,
            _unlabelled_cases(run),
            run.options.file_processes,
        )
        _warn_of_other_machine(run, distributed.device)
    torch.manual_seed(task.seed)
    has_begun = not run.options.restart and find_state(run.folder) is not None
    network, base_file = _build_network(run, has_begun)
    _log_start(run, task, network, distributed.device)
    distributed.share_batch(task.configuration.batch_size)  # fails where it cannot be shared
    task = _with_expected_times(run, task, network, distributed)
    choice = distributed.gather(_choose_embeddings(run, task, network))[0]
    if choice is not None:
        task = replace(task, embeddings=_embedding_cache(run, task, choice))
    # Only now is the folder changed, as all that may be missing is there: what this run replaces
    # is not lost for nothing.
    parent = run.folder.path.parent
    locked = lock_folder(parent, f"training {run.folder.name}", waits=False)
    with locked if distributed.is_master else contextlib.nullcontext() as lock:
        precision = used_precision(task.configuration.precision, distributed.device)
        if distributed.is_master:
            _note_other_precision(_last_session(run), precision)
        session = Session.begin(distributed.device, precision, choice)
        record = RunRecord(run.request, [*_kept_sessions(run), session])
        if distributed.is_master:
            _start_folder(run, record)
            if not has_begun:
                record_base(task.configuration, run.folder, base_file)
        distributed.barrier()
        task = _with_registered_cases(run, task, distributed)

        def check_lock() -> None:
            if lock is not None:  # that of the master process, which writes
                lock.check()

        def note_fallback(fallback: Fallback) -> None:
            check_lock()
            record.add_fallback(fallback, run.folder)

        yield Trainer(
            network,
            task,
            run.folder,
            distributed.device,
            distributed,
            on_fallback=note_fallback,
            on_epoch=on_epoch,
            before_writing=check_lock,
        )


def _task(run: ResolvedRun, distributed: Distributed) -> TrainingTask:
    configuration, slices = run.plan.single_configuration, run.dataset.folder.slices
    return TrainingTask(
        configuration=configuration,
        label_scheme=run.plan.label_scheme,
        training_cases=load_cases(slices, run.cases.training, configuration.views),
        validation_cases=load_cases(slices, run.cases.validation, configuration.views),
        unlabelled_cases=_unlabelled_cases(run) if configuration.unlabelled_weight else (),
        held_out=run.cases.held_out,
        seed=run.request.seed,
        max_seconds=run.options.max_seconds,
        workers=run.options.sample_workers(distributed.world_size),
        save_seconds=run.options.save_seconds,
    )


def _with_registered_cases(
    run: ResolvedRun, task: TrainingTask, distributed: Distributed
) -> TrainingTask:
    """Add cases that take their labels over from the training cases, where the plan says so."""
    configuration, folder = task.configuration, run.folder.registered_labels
    if not configuration.registered_cases:
        return task
    without_labels = _unlabelled_cases(run)
    if distributed.is_master:
        found = take_labels(
            task.training_cases,
            without_labels,
            configuration.intensity,
            configuration.registered_cases,
            task.seed,
            task.label_scheme.ignore_label,
            folder,
            run.options.file_processes,
        )
        is_odd = found.failures or not found.is_used
        log.log(logging.WARNING if is_odd else logging.INFO, found.report())
    distributed.barrier()
    registered = load_registered(without_labels, folder)
    return replace(task, training_cases=[*task.training_cases, *registered])


def _unlabelled_cases(run: ResolvedRun) -> list[StoredCase]:
    views = run.plan.single_configuration.views
    return load_cases(run.dataset.folder.unlabelled_slices, run.request.unlabelled_cases, views)


def _with_expected_times(
    run: ResolvedRun, task: TrainingTask, network: SegmentationNetwork, distributed: Distributed
) -> TrainingTask:
    """Add how long validation and final prediction take."""
    scored = task.validation_cases if run.cases.held_out else []
    validation, prediction = distributed.maximum(
        *estimate_prediction(
            network.to(distributed.device),
            task.configuration,
            task.validation_cases,
            scored,
            task.label_scheme,
            distributed.world_size,
        )
    )
    if task.ends_at is not None and task.max_seconds is not None:
        reserved = min(validation + prediction, MAX_SHARE * task.max_seconds)
        log.info(
            "of the %.3g s, about %.3g s are kept for the last validation and the prediction of "
            "the held-out cases",
            task.max_seconds,
            reserved,
        )
    return replace(task, validation_seconds=validation, prediction_seconds=prediction)


def _build_network(run: ResolvedRun, has_begun: bool) -> tuple[SegmentationNetwork, Path | None]:
    """Build the network, with the weights it starts from unless a checkpoint replaces them."""
    configuration, source = run.plan.single_configuration, run.request.start_from
    if has_begun:
        base_file = find_model_base(configuration, run.folder)
    else:
        base_file = find_base_file(configuration)
    network = build_network(
        configuration,
        len(run.plan.channel_names),
        run.plan.label_scheme.num_outputs,
        load_pretrained=not has_begun,
        base_file=base_file,
    )
    if source is not None and not has_begun:
        log.info(warm_start(network, source, base_file).report())
    return network, base_file


def _log_start(
    run: ResolvedRun, task: TrainingTask, network: SegmentationNetwork, device: torch.device
) -> None:
    total, trained = count_parameters(network)
    log.info(
        "%s, fold %s: %s with %s head, %.2f of %.2f million parameters trained, %d cases, on %s "
        "in %s",
        run.plan.single_name,
        run.request.fold,
        task.configuration.backbone,
        task.configuration.head,
        trained / 1e6,
        total / 1e6,
        len(task.training_cases),
        device,
        used_precision(task.configuration.precision, device),
    )


def _choose_embeddings(
    run: ResolvedRun, task: TrainingTask, network: SegmentationNetwork
) -> CacheChoice | None:
    """Choose what is kept of a frozen encoder's work.

    A resumed run keeps what it kept before, as its samples depend on that. Where structures are
    copied into slices, nothing is kept.
    """
    earlier = _last_session(run)
    is_copying = task.configuration.structure_copying > 0
    if earlier is not None and _has_same_cache_size(run) and not is_copying:
        return earlier.embeddings
    if task.unlabelled_cases or task.configuration.registered_cases:
        return None  # embeddings are kept of labelled cases alone
    specification = SampleSpecification(
        task.configuration, task.label_scheme, network.stride, task.seed
    )
    variants = VariantReader(task.training_cases, specification)
    root = run.dataset.folder.embeddings
    return choose_cache(variants, network, root, run.options.cache_size)


def _has_same_cache_size(run: ResolvedRun) -> bool:
    return run.record is not None and run.record.request.cache_size == run.options.cache_size


def _embedding_cache(run: ResolvedRun, task: TrainingTask, choice: CacheChoice) -> EmbeddingCache:
    """Return where embeddings are kept; all folds share the bound."""
    cases = task.training_cases
    if run.options.num_cases is None and run.options.num_patients is None:
        names = names_in_splits(run.dataset.splits)
        cases = load_cases(run.dataset.folder.slices, names, task.configuration.views)
    return EmbeddingCache(run.dataset.folder.embeddings, choice, cases)


def _kept_sessions(run: ResolvedRun) -> list[Session]:
    """Return the sessions whose state is resumed."""
    has_state = run.folder.checkpoint(LAST).is_file()
    if run.options.restart or run.record is None or not has_state:
        return []
    return run.record.sessions


def _last_session(run: ResolvedRun) -> Session | None:
    """Return the last session of an unfinished or prolonged run."""
    sessions = _kept_sessions(run)
    return sessions[-1] if sessions else None


def _start_folder(run: ResolvedRun, record: RunRecord) -> None:
    """Make the folder of a run, or open it for another session.

    What a longer training makes untrue is deleted.
    """
    folder = run.folder
    shutil.rmtree(folder.validation, ignore_errors=True)
    folder.checkpoint(FINAL).unlink(missing_ok=True)
    if run.options.restart and folder.path.exists():
        shutil.rmtree(folder.path)
    folder.path.mkdir(parents=True, exist_ok=True)
    remove_partial_files(folder.path)
    if not folder.checkpoint(LAST).is_file():
        folder.checkpoint(BEST).unlink(missing_ok=True)
    run.plan.save(folder.plan_file)
    training_data = summarize_training_data(run.dataset.fingerprint, run.cases.training)
    if training_data is not None:
        training_data.save(folder.training_data_file)
    record.save(folder)


def _warn_of_other_machine(run: ResolvedRun, device: torch.device) -> None:
    """Warn where backbone, precision and batch are planned for another kind of machine.

    On it they are too slow, or less than it can do.
    """
    name, plan = run.dataset.name, run.plan
    if device.type != plan.machine.device:
        log.warning(
            "%s is planned for %s, and trained on %s: samnet_plan -d %s --device %s plans for that",
            name,
            plan.machine,
            device.type,
            name,
            device.type,
        )
    planned = plan.single_configuration.precision
    # The memory of a step is planned in that precision; single precision takes up to twice as much.
    if used_precision(planned, device) == planned:
        return
    if device.type == "cuda":
        log.warning(
            "%s has no %s: training in single precision; samnet_plan -d %s --set precision=float32 "
            "plans for that",
            torch.cuda.get_device_name(device),
            planned,
            name,
        )
    elif device.type == "cpu" and plan.machine.device == "cpu":
        log.warning(
            "this CPU is not faster in %s: training in single precision; samnet_plan -d %s "
            "--device cpu plans for that",
            planned,
            name,
        )


def _note_other_precision(earlier: Session | None, precision: str) -> None:
    """Note that a run is resumed in another precision than that of its last session."""
    if earlier is not None and earlier.precision not in ("", precision):
        log.info("trained in %s before, in %s from here on", earlier.precision, precision)
