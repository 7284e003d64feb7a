"""`samnet.train`: train a configuration of a prepared data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from samnet.api.scores import Scores, scores_of
from samnet.api.session import Folder, api_call, optional_path
from samnet.core.progress_listener import Progress
from samnet.dataset.dataset_folder import DatasetFolder
from samnet.evaluation.evaluator import SUMMARY_FILE
from samnet.evaluation.summary_files import read_summary
from samnet.evaluation.worst_cases import LowScore
from samnet.models.model_folder import RunFolder
from samnet.selection.cross_validation import merge_summaries
from samnet.training.curves import read_epochs
from samnet.training.options import SAVE_EVERY_SECONDS, TrainingOptions
from samnet.training.results import describe_results
from samnet.training.run import train_folds


@dataclass(frozen=True)
class FoldResult:
    """One trained fold.

    Attributes:
        fold: Its name, such as `0` or `all`.
        folder: The folder of the run: weights, curves, `metrics.jsonl`, validation.
        steps: Number of optimiser steps done.
        history: The numbers of each epoch: loss, Dice, learning rate, seconds.
        is_finished: Whether the training has come to its end.
        scores: The scores of the held-out cases; None where there are none, or not yet.
    """

    fold: str
    folder: Path
    steps: int
    history: tuple[dict[str, Any], ...]
    is_finished: bool
    scores: Scores | None

    def __repr__(self) -> str:
        dice = "" if self.scores is None else f", Dice {self.scores.dice:.4f}"
        return f"FoldResult(fold {self.fold}, {self.steps} steps{dice})"


@dataclass(frozen=True)
class TrainingResult:
    """What a call of `samnet.train` has trained.

    Attributes:
        folder: The folder of the run; of several folds that of the configuration.
            `samnet.Predictor.from_folder` takes it.
        folds: The trained folds.
        scores: The scores of the held-out cases of all these folds; None where there are none.
        description: What `samnet_train` prints.
    """

    folder: Path
    folds: tuple[FoldResult, ...]
    scores: Scores | None
    description: str

    @property
    def steps(self) -> int:
        """Number of optimiser steps done, of all folds together."""
        return sum(fold.steps for fold in self.folds)

    @property
    def dice(self) -> float | None:
        """The mean Dice of the held-out cases; None where there are none."""
        return None if self.scores is None else self.scores.dice

    @property
    def worst_cases(self) -> tuple[LowScore, ...]:
        """The held-out cases, the one with the lowest Dice first."""
        return () if self.scores is None else self.scores.worst_cases

    def __str__(self) -> str:
        """Return what `samnet_train` prints."""
        return self.description

    def __repr__(self) -> str:
        dice = "no scores" if self.dice is None else f"Dice {self.dice:.4f}"
        return f"TrainingResult({str(self.folder)!r}, {self.steps} steps, {dice})"


def train(
    dataset: int | str,
    configuration: str = "lora",
    fold: int | str = 0,
    *,
    raw: Folder | None = None,
    preprocessed: Folder | None = None,
    results: Folder | None = None,
    steps: int | None = None,
    epochs: int | None = None,
    max_seconds: float | None = None,
    settings: Mapping[str, Any] | None = None,
    seed: int | None = None,
    device: str | None = None,
    num_cases: int | None = None,
    num_patients: int | None = None,
    start_from: Folder | None = None,
    workers: int | None = None,
    cache_gib: float | None = None,
    save_seconds: float = SAVE_EVERY_SECONDS,
    resume: bool = False,
    restart: bool = False,
    progress: Progress | bool | None = None,
) -> TrainingResult:
    """Train a configuration of a prepared data set, as `samnet_train` does.

    The same call resumes a run that was stopped: by an error that `progress` raised, by Ctrl-C, by
    a signal. A finished run stays, and its scores are returned. It trains on one device; for
    several GPUs use `samnet_train --gpus N`.

    Args:
        dataset: Id or name of the data set.
        configuration: The name of a configuration of its plan, such as `lora`.
        fold: The number of a fold, `"all"` for all cases, or `"cv"` for all folds one after the
            other.
        raw: As for `samnet.plan`.
        preprocessed: As for `samnet.plan`.
        results: The folder of trained models; by default the environment variable
            `samnet_results`, else `samnet_data/results`.
        steps: Number of optimiser steps; None for what the plan says.
        epochs: Length of the training in epochs, in place of steps.
        max_seconds: Limit of the time of each fold, with its validation.
        settings: Values of the plan to change for this run, by key.
        seed: Seed of everything random; None for 0.
        device: `cpu`, `cuda` or `mps`; None for the best one here.
        num_cases: Train on so many cases of the fold only.
        num_patients: Train on all cases of so many patients of the fold only.
        start_from: Folder of a trained model whose weights to start with, as far as they fit.
        workers: Number of worker processes that prepare samples; 0 for no worker processes at all,
            None for one less than the cores, 1 to 7.
        cache_gib: GiB of disk for the embeddings of a frozen encoder; 0 for none, None for 20 or
            half of the free disk.
        save_seconds: How often the state is saved, in addition to the end of each epoch.
        resume: Resume a run with the settings that it began with, where they are not given here.
        restart: Delete what is there and train again.
        progress: As for `samnet.verify`. Before an error that it raises comes out of this call, the
            state of the training is saved.

    Returns:
        Where the run is, and the scores of the held-out cases.

    Raises:
        UserError: Data set, configuration, fold or an option cannot be used.
        SamnetError: The training failed, for example because the loss is not finite.

    Examples:
        >>> result = samnet.train(8, "lora", fold=0, results="data/results")
        >>> result.dice, result.worst_cases[0].case
        (0.9412, 'liver_17')
    """
    values = dict(settings or {})
    if steps is not None:
        values["steps"] = steps
    options = TrainingOptions(
        settings=values,
        epochs=epochs,
        max_seconds=max_seconds,
        seed=seed,
        device=device,
        num_cases=num_cases,
        num_patients=num_patients,
        start_from=optional_path(start_from),
        workers=workers,
        cache_size=cache_gib,
        save_seconds=save_seconds,
        resume=resume,
        restart=restart,
    )
    with api_call(progress, raw, preprocessed, results):
        runs = train_folds(str(dataset), configuration, str(fold), options)
        if not runs:  # in a process that trains for another one
            model = DatasetFolder.find(dataset).model(configuration)
            return TrainingResult(model, (), None, "")
    return _result(runs)


def _result(runs: Sequence[RunFolder]) -> TrainingResult:
    folds = tuple(_fold_result(run) for run in runs)
    files = [run.validation / SUMMARY_FILE for run in runs]
    scored = [file for file in files if file.is_file()]
    if len(runs) == 1:
        return TrainingResult(runs[0].path, folds, folds[0].scores, describe_results(runs))
    scores = scores_of(merge_summaries(scored)) if scored else None
    return TrainingResult(runs[0].path.parent, folds, scores, describe_results(runs))


def _fold_result(run: RunFolder) -> FoldResult:
    history = read_epochs(run.metrics_file)
    file = run.validation / SUMMARY_FILE
    return FoldResult(
        run.name.removeprefix("fold_"),
        run.path,
        int(history[-1]["step"]) if history else 0,
        tuple(history),
        run.is_finished,
        scores_of(read_summary(file)) if file.is_file() else None,
    )
