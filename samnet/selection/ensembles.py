"""The scores of an ensemble: its held-out cases are predicted by the same fold of every member."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from samnet.core.errors import UserError
from samnet.core.files import read_json, write_json
from samnet.dataset.cases import RawDataset
from samnet.evaluation.evaluator import evaluate_folder
from samnet.inference.ensemble import load_predictor
from samnet.inference.files import predict_cases
from samnet.models.model_folder import ModelFolder
from samnet.models.weights_note import note_weights
from samnet.planning.planned_dataset import PlannedDataset

log = logging.getLogger(__name__)
WEIGHTS_FILE = "weights.json"


def model_folder(dataset: PlannedDataset, members: Sequence[str]) -> Path:
    """Return the folder that holds what is known of a model or of an ensemble.

    Args:
        dataset: The data set.
        members: The names of its configurations.
    """
    if len(members) == 1:
        return dataset.folder.model(members[0])
    return dataset.folder.ensemble(members)


def cross_validate_ensemble(
    dataset: PlannedDataset,
    members: Sequence[str],
    cases: Sequence[str],
    folds: Sequence[str],
    processes: int,
    device: str | None,
) -> dict[str, Any]:
    """Predict held-out cases with an ensemble, and score them.

    What is predicted already stays, as long as the weights of the members are the same.

    Args:
        dataset: The data set.
        members: The names of its configurations.
        cases: The held-out cases that count.
        folds: The folds that hold them out.
        processes: Number of worker processes for the scores; 0 for none.
        device: What to predict on; None for the best one here.

    Returns:
        The summary of the scores.

    Raises:
        UserError: A fold of a member is not trained to its end.
        SamnetError: A case cannot be predicted or scored.
    """
    models = [ModelFolder.of(dataset.folder, name) for name in members]
    folder = model_folder(dataset, members)
    _drop_outdated(folder, models, folds)
    raw = RawDataset.read(dataset.folder)
    by_name = {case.identifier: case for case in raw.cases}
    predictions = folder / "validation"
    log.info("ensemble of %s: predicting the held-out cases", " and ".join(members))
    for fold in folds:
        held_out = sorted(set(dataset.splits[int(fold)]["val"]) & set(cases))
        open_cases = [by_name[name] for name in held_out]
        if open_cases:
            predictor = load_predictor(models, [fold], device=device, postprocess=False)
            predict_cases(predictor, open_cases, predictions, keep_existing=True)
    references = {}
    for name in cases:
        file = by_name[name].label_file
        if file is None:
            raise UserError(f"{name}: its label map is missing in {dataset.folder.training_labels}")
        references[name] = file
    return evaluate_folder(
        predictions,
        references,
        raw.description,
        predictions,
        processes,
        skip_missing=True,
        patient_key=dataset.plan.patient_key,
    )


def _drop_outdated(folder: Path, models: Sequence[ModelFolder], folds: Sequence[str]) -> None:
    """Delete the predictions of other weights, and note the weights of those that are to be made.

    Weights of folds that are not compared now are kept in the note.
    """
    file = folder / WEIGHTS_FILE
    known = read_json(file) if file.is_file() else {}
    weights = note_weights(models, folds)
    if any(known.get(name, value) != value for name, value in weights.items()):
        log.info("%s: the members have been trained again, so it is predicted again", folder)
        shutil.rmtree(folder)
        known = {}
    write_json(file, known | weights)
