"""The rules that hold for the weights of a model as they are now."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from samnet.dataset.label_scheme import LabelScheme
from samnet.models.model_folder import ModelFolder
from samnet.models.weights_note import retrained_runs
from samnet.postprocessing.rules import (
    NO_POSTPROCESSING,
    POSTPROCESSING_FILE,
    Postprocessing,
    load_postprocessing,
)

log = logging.getLogger(__name__)


def load_current_rules(
    folder: Path, models: Sequence[ModelFolder], label_scheme: LabelScheme
) -> Postprocessing:
    """Read the rules of a model or an ensemble. Those that were chosen for other weights are none.

    A warning in the log then says so.

    Args:
        folder: The folder of the model or of the ensemble, which holds the file.
        models: The model, or the members of the ensemble.
        label_scheme: Their classes or regions.

    Returns:
        The rules.

    Raises:
        UserError: As for `load_postprocessing`.
    """
    rules = load_postprocessing(folder, label_scheme)
    outdated = describe_outdated(rules, folder, models)
    if outdated is None:
        return rules
    log.warning("%s", outdated)
    return NO_POSTPROCESSING


def describe_outdated(
    rules: Postprocessing, folder: Path, models: Sequence[ModelFolder]
) -> str | None:
    """Say that a model was trained again after its rules were chosen.

    Args:
        rules: The rules.
        folder: The folder that holds their file.
        models: The model, or the members of the ensemble.

    Returns:
        A sentence, and what to do; None where the rules hold.
    """
    retrained = retrained_runs(rules.weights or {}, models)
    if not retrained:
        return None
    return (
        f"{folder / POSTPROCESSING_FILE}: its rules were chosen before {', '.join(retrained)} was "
        "trained again, and are not applied; run samnet_find_best_configuration again (or, to "
        'apply them all the same, delete "weights" from the file)'
    )
