"""Configurations whose held-out cases are predicted and scored, without any training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from builders.planned import CPU
from builders.tiny import make_configuration, make_model, make_plan
from samnet.dataset.cases import RawDataset
from samnet.dataset.images import read_labels, write_labels
from samnet.evaluation.evaluator import evaluate_folder
from samnet.fingerprint.extract import extract_fingerprint
from samnet.models.model_folder import ModelFolder
from samnet.planning.planned_dataset import PlannedDataset, write_splits
from samnet.planning.planner import make_plan as plan_dataset

# Number of a case and its true labels `(Z, Y, X)` -> what is predicted of it.
Change = Callable[[int, np.ndarray], np.ndarray]


def plan_raw(identifier: str) -> PlannedDataset:
    """Measure and plan a raw data set, and divide it into folds."""
    raw = RawDataset.load(identifier)
    fingerprint = extract_fingerprint(raw, processes=0)
    plan = plan_dataset(fingerprint, CPU)
    plan.save(raw.folder.plan_file)
    write_splits(plan, fingerprint, raw.folder)
    return PlannedDataset(raw.folder)


def validate(
    dataset: PlannedDataset, name: str, change: Change, *, input_size: int = 32, seed: int = 0
) -> ModelFolder:
    """Leave a configuration as its cross-validation does, with predictions that are given.

    Args:
        dataset: The planned data set.
        name: The name of the configuration.
        change: Makes the predictions.
        input_size: The input size of its networks, which have random weights.
        seed: Of the weights.

    Returns:
        The model.
    """
    raw = RawDataset.read(dataset.folder)
    by_name = {case.identifier: case for case in raw.cases}
    numbers = {name: number for number, name in enumerate(sorted(by_name))}
    model = ModelFolder.of(dataset.folder, name)
    configuration = make_configuration(input_size=input_size)
    plan = make_plan(
        configuration,
        label_scheme=raw.description.label_scheme,
        channel_names=tuple(raw.description.channel_names),
    )
    for fold, split in zip(dataset.fold_names, dataset.splits, strict=True):
        run = model.run(fold)
        make_model(run.path, seed + int(fold), plan)
        torch.manual_seed(0)
        references: dict[str, Path] = {}
        for case in split["val"]:
            file = by_name[case].label_file
            assert file is not None
            references[case] = file
            image = read_labels(file)
            labels = change(numbers[case], image.array[0].copy())
            write_labels(labels, image, run.validation / file.name)
        evaluate_folder(run.validation, references, raw.description, run.validation, 0)
    return model
