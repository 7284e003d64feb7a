"""Notes of the trained weights that something was chosen for, and what has changed since."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from samnet.core.hashing import remembered_sha256
from samnet.models.model_folder import FINAL, ModelFolder, RunFolder


def note_weights(models: Sequence[ModelFolder], folds: Sequence[str]) -> dict[str, str]:
    """Return the hashes of the final weights of some models.

    Args:
        models: Their folders.
        folds: The folds that count; those that are not finished are left out.

    Returns:
        Name of a run -> sha256 of its weights. The name is that of the fold, such as `fold_0`; of
        several models it begins with that of the configuration, such as `lora/fold_0`.
    """
    runs = _named_runs(models, [model.run(fold) for model in models for fold in folds])
    return {name: remembered_sha256(run.checkpoint(FINAL)) for name, run in runs.items()}


def retrained_runs(noted: Mapping[str, str], models: Sequence[ModelFolder]) -> list[str]:
    """List the runs that have other final weights than those that were noted.

    Args:
        noted: What `note_weights` has returned for the same models.
        models: Their folders.

    Returns:
        The names of the runs. Those that are not there or were not noted are left out: a model may
        be exported with some of its folds, and predict with folds that were trained later.
    """
    runs = _named_runs(models, [run for model in models for run in model.runs()])
    return [
        name
        for name, run in runs.items()
        if name in noted and noted[name] != remembered_sha256(run.checkpoint(FINAL))
    ]


def _named_runs(models: Sequence[ModelFolder], runs: Sequence[RunFolder]) -> dict[str, RunFolder]:
    """Return the finished runs by their names. The only model may be renamed."""
    named = {}
    for run in runs:
        if run.is_finished:
            prefix = f"{run.path.parent.name}/" if len(models) > 1 else ""
            named[f"{prefix}{run.name}"] = run
    return named
