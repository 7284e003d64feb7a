"""A training run from the request to the scores: resolve, open, fit, validate."""

from __future__ import annotations

import contextlib
import logging
import time
from dataclasses import replace

import torch

from samnet.core.machine import choose_device
from samnet.core.progress import CommandBar
from samnet.inference.files import PREDICTING
from samnet.models.model_folder import ModelFolder, RunFolder
from samnet.planning.planned_dataset import PlannedDataset
from samnet.training.curves import read_epochs
from samnet.training.distributed import Distributed, join_process_group
from samnet.training.final_validation import validate_run
from samnet.training.open_run import open_run
from samnet.training.options import TrainingOptions
from samnet.training.resolve import resolve_run
from samnet.training.time_limit import MARGIN
from samnet.training.tracking.tracker import RunTracker

log = logging.getLogger(__name__)
CROSS_VALIDATION = "cv"


def train_folds(
    identifier: str,
    configuration: str,
    fold: str,
    options: TrainingOptions,
    began: float | None = None,
) -> list[RunFolder]:
    """Train one fold, or all of them; in several processes where `torchrun` started them.

    Args:
        identifier: Id or name of a planned and prepared data set.
        configuration: The name of a configuration of its plan.
        fold: The number of a fold, `all`, or `cv` for all folds one after the other.
        options: The options.
        began: When the command began, by `time.monotonic`, from where its time limit counts; None
            for now.

    Returns:
        The folders of the runs; none in a process that trains for another one.

    Raises:
        UserError: Data set, configuration, fold or an option cannot be used.
    """
    dataset = PlannedDataset.find(identifier)
    folds = dataset.fold_names if fold == CROSS_VALIDATION else [fold]
    model = ModelFolder.of(dataset.folder, configuration)
    with (
        join_process_group(torch.device(choose_device(options.device))) as distributed,
        CommandBar(f"{configuration}, fold {fold}", disable=not distributed.is_master) as bar,
    ):
        runs = []
        for number, name in enumerate(folds, 1):
            # In a cross-validation, folds that have not begun begin.
            may_resume = fold != CROSS_VALIDATION or model.run(name).record_file.is_file()
            fold_options = replace(options, resume=options.resume and may_resume)
            bar.begin_round(rounds_left=len(folds) - number)
            runs.append(
                train(dataset, configuration, name, fold_options, distributed, bar=bar, began=began)
            )
            began = None  # each fold has the whole limit
        return runs if distributed.is_master else []


def train(
    dataset: PlannedDataset,
    configuration: str,
    fold: str,
    options: TrainingOptions,
    distributed: Distributed | None = None,
    *,
    bar: CommandBar | None = None,
    began: float | None = None,
) -> RunFolder:
    """Train one fold to its end and validate it. A finished one stays unchanged.

    Args:
        dataset: The planned and prepared data set.
        configuration: The name of a configuration of its plan.
        fold: The number of a fold, or `all`.
        options: The options.
        distributed: The processes that do it together; None for this one alone.
        bar: The progress bar of the command; None to show one for this run.
        began: When the command began, by `time.monotonic`; None for now.

    Returns:
        The folder of the run.

    Raises:
        UserError: The configuration, the fold or an option cannot be used.
        FolderBusy: Another process trains in the folder.
    """
    if distributed is None:
        distributed = Distributed(device=torch.device(choose_device(options.device)))
    if bar is None:
        is_master = distributed.is_master
        with CommandBar(f"{configuration}, fold {fold}", disable=not is_master) as own_bar:
            own_bar.begin_round(rounds_left=0)
            return train(
                dataset, configuration, fold, options, distributed, bar=own_bar, began=began
            )
    began = time.monotonic() if began is None else began
    run = resolve_run(dataset, configuration, fold, options, distributed.world_size)
    limit = run.options.max_seconds  # with `--continue` that of the beginning
    ends_at = None if limit is None else began + limit
    bar.end_round_at(ends_at)
    distributed.barrier()  # all have read the folder before the first changes it
    with contextlib.closing(RunTracker.of(run, distributed)) as tracker:
        if run.is_finished:
            log.info("%s is finished; --restart would train it again", run.folder)
            tracker.begin(read_epochs(run.folder.metrics_file))
        else:
            with open_run(run, distributed, ends_at, tracker.add_epoch) as trainer:
                bar.expect(PREDICTING, trainer.task.prediction_seconds / MARGIN)
                tracker.begin(trainer.history.rows)
                trainer.run()
        validate_run(run, distributed, ends_at)
        tracker.finish(run.folder)
    return run.folder
