"""A small model with scored folds, and folders of predictions, for reports."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from builders.data import write_dataset
from builders.tiny import make_configuration, make_plan
from samnet.dataset.cases import RawDataset
from samnet.dataset.images import read_labels, write_labels
from samnet.evaluation.evaluator import evaluate_folder
from samnet.fingerprint.extract import extract_fingerprint
from samnet.models.model_folder import FINAL, ModelFolder, RunFolder
from samnet.plan.plan import Plan

AWKWARD = '<b>left & "right"</b>'
LABELS = {"background": 0, AWKWARD: 1, "Übergang": 2}
NUM_EPOCHS = {"0": 3, "1": 1}


def shift(reference: Path, prediction: Path, distance: int) -> None:
    """Write a label map that is another one, moved along x."""
    image = read_labels(reference)
    write_labels(np.roll(image.array[0], distance, axis=-1), image, prediction)


def write_model(raw: Path, results: Path) -> ModelFolder:
    """Write a data set of six cases, and a model with two scored folds.

    The predictions are the references, moved by as many voxels as the number of the case, so
    `case_00` is right and `case_05` the worst.
    """
    write_dataset(raw, num_cases=6, labels=LABELS)
    dataset = RawDataset.load("501")
    fingerprint = extract_fingerprint(dataset, processes=0)
    scheme = dataset.description.label_scheme
    configuration = make_configuration(backbone="small")
    plan = make_plan(configuration, label_scheme=scheme, data_key=fingerprint.data_key)
    model = ModelFolder(results / dataset.name / "lora")
    for fold, epochs in NUM_EPOCHS.items():
        run = model.run(fold)
        write_run(run, plan, epochs)
        references = {}
        for case in dataset.cases[int(fold) :: 2]:
            assert case.label_file is not None
            references[case.identifier] = case.label_file
            prediction = run.validation / case.label_file.name
            shift(case.label_file, prediction, int(case.identifier[-2:]))
        evaluate_folder(run.validation, references, dataset.description, run.validation, 0)
    return model


def write_run(run: RunFolder, plan: Plan, epochs: int) -> None:
    """Write what a finished training run leaves, except for its weights."""
    plan.save(run.plan_file)
    run.checkpoint(FINAL).touch()
    rows = []
    for epoch in range(1, epochs + 1):
        dice = dict.fromkeys(plan.label_scheme.class_names, 1 - 1 / (epoch + 1))
        row = {"epoch": epoch, "step": 10 * epoch, "loss": 1 / epoch, "dice": dice}
        row |= {"mean_dice": None if epoch == 1 < epochs else 0.5, "learning_rate": 1e-3 / epoch}
        rows.append(json.dumps(row | {"validated_on": "held-out cases"}) + "\n")
    run.metrics_file.write_text("".join(rows) + '{"epoch": ', encoding="utf-8")


def write_predictions(folder: Path, **options: Any) -> Path:
    """Write a data set with `imagesTr` and `labelsTr`, and predictions in `preds`.

    Args:
        folder: Where it is written to.
        **options: As for `write_dataset`.

    Returns:
        The folder of the data set.
    """
    dataset = write_dataset(folder, **options)
    (dataset / "preds").mkdir()
    for number, file in enumerate(sorted((dataset / "labelsTr").iterdir())):
        shift(file, dataset / "preds" / file.name, number)
    return dataset
