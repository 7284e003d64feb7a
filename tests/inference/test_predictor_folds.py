"""What a predictor of several folds takes from each of them."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from builders.fingerprint import make_fingerprint
from builders.tiny import make_configuration, make_model, make_plan, thresholds, tiny_backbone

from samnet.core.errors import PredictionWarning, UserError
from samnet.dataset.label_scheme import LabelScheme
from samnet.fingerprint.training_data import TrainingData, summarize_training_data
from samnet.inference.predictor import Predictor
from samnet.models.model_folder import RunFolder

__all__ = ["tiny_backbone"]
SHAPE = (5, 20, 24)


def image() -> np.ndarray:
    """Return noise `(Z, Y, X)` without zeros."""
    return np.random.default_rng(0).integers(1, 255, SHAPE).astype(np.int16)


def training_data(spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> TrainingData:
    fingerprint = make_fingerprint(SHAPE, spacing, values=(1.0, 254.0))
    data = summarize_training_data(fingerprint, fingerprint.cases)
    assert data is not None
    return data


def test_images_are_compared_with_the_training_data_of_all_folds(tmp_path: Path) -> None:
    for fold, thickness in enumerate((1.0, 20.0)):
        make_model(tmp_path / f"fold_{fold}")
        data = training_data((thickness, 1.0, 1.0))
        data.save(RunFolder(tmp_path / f"fold_{fold}").training_data_file)
    predictor = Predictor.from_folder(tmp_path)
    assert predictor.training_data is not None
    assert predictor.training_data.spacing[0] == (1.0, 20.0)


def test_a_fold_that_does_not_tell_its_training_data_makes_that_of_all_unknown(
    tmp_path: Path,
) -> None:
    for fold in range(2):
        make_model(tmp_path / f"fold_{fold}")
    training_data().save(RunFolder(tmp_path / "fold_0").training_data_file)
    assert Predictor.from_folder(tmp_path).training_data is None


def test_folds_whose_regions_are_written_in_another_order_are_not_averaged(tmp_path: Path) -> None:
    labels = {"background": 0, "whole": (1, 2), "core": (2,)}
    for fold, order in enumerate(((1, 2), (2, 1))):
        scheme = LabelScheme(labels, regions_class_order=order)
        plan = make_plan(make_configuration(), label_scheme=scheme)
        make_model(tmp_path / f"fold_{fold}", plan=plan)
    with pytest.raises(UserError, match=r"fold_1 was trained with regions .*choose one with -f"):
        Predictor.from_folder(tmp_path)


@pytest.mark.parametrize("covers_images", [False, True])
def test_full_prediction_is_named_unless_training_images_were_as_full(covers_images: bool) -> None:
    configuration = make_configuration()
    network = thresholds([9.0, 9.0, 0.0], stride=4)
    data = replace(training_data(), foreground=(0.1, 1.0 if covers_images else 0.5))
    predictor = Predictor(
        make_plan(configuration), configuration, [network], mirror=False, training_data=data
    )
    with warnings.catch_warnings(record=True, category=PredictionWarning) as caught:
        warnings.simplefilter("always")
        predictor.predict(image(), orientation="SAR", spacing=(1.0, 1.0, 1.0))
    named = [str(one.message) for one in caught if "every voxel" in str(one.message)]
    assert bool(named) is not covers_images
