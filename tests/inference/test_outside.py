"""Predictions are background outside the field of view, where the plan says so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders.tiny import TWO_CLASSES, make_configuration, make_model, make_plan, tiny_backbone

from samnet.core.geometry import Grid
from samnet.dataset.label_scheme import LabelScheme
from samnet.inference.ensemble import EnsemblePredictor
from samnet.inference.prediction import ArrayPredictor
from samnet.inference.predictor import Predictor
from samnet.models.model_folder import RunFolder

__all__ = ["tiny_backbone"]
# A grid whose axes run to the back, to the feet and to the left.
GRID = Grid(
    (9, 20, 16),
    np.array([[0, 0, -1.0, 5], [-0.9, 0, 0, 0], [0, -1.2, 0, 3], [0, 0, 0, 1]], float),
)
NESTED = LabelScheme({"background": 0, "whole": (1, 2), "core": 2}, regions_class_order=(1, 2))


def scan() -> np.ndarray:
    """Return noise `(1, Z, Y, X)` in zeros, of which a part is cropped away."""
    array = np.zeros((1, *GRID.shape), np.float32)
    array[:, 2:, :9, 3:12] = np.random.default_rng(0).integers(50, 255, (1, 7, 9, 9))
    array[:, 2:, 12:14, 13:] = 100  # so that the crop keeps zeros
    return array


def is_outside(axis: int = 1) -> np.ndarray:
    """Return what is outside of `scan()` in slices across an axis of the file.

    Its Z is the patient's X, its Y the patient's Z, and its X the patient's Y.
    """
    is_zero = np.moveaxis(scan()[0] == 0, axis, 0)
    padded = np.pad(is_zero, ((0, 0), (1, 1), (1, 1)), constant_values=True)
    outside = is_zero.copy()
    for shift in np.ndindex(3, 3):
        outside &= np.roll(padded, np.subtract(shift, 1), (1, 2))[:, 1:-1, 1:-1]
    return np.moveaxis(outside, 0, axis)


def predict(predictor: ArrayPredictor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return labels, probabilities and uncertainty."""
    object.__setattr__(predictor, "maps_uncertainty", True)
    prediction = predictor.predict_and_check(scan(), GRID, keep_probabilities=True)
    assert prediction.probabilities is not None
    assert prediction.uncertainty is not None
    array = prediction.probabilities.array().astype(np.float32)
    return prediction.labels, array, prediction.uncertainty


def check(
    found: ArrayPredictor, without: ArrayPredictor, background: list[int], outside: np.ndarray
) -> None:
    """Compare predictions with those of the same model without the key."""
    before, after = predict(without), predict(found)
    assert before[0][outside].any()
    for values in (after[0], after[2]):
        assert not values[outside].any()
    assert np.array_equal(after[1][:, outside].mean(1), background)
    for one, other in zip(before, after, strict=True):
        assert np.array_equal(one[..., ~outside], other[..., ~outside])


@pytest.mark.parametrize("scheme", [TWO_CLASSES, NESTED], ids=["classes", "regions"])
@pytest.mark.parametrize("views", [(0,), (0, 1, 2)])
def test_labels_probabilities_and_uncertainty_are_those_of_the_background(
    tmp_path: Path, scheme: LabelScheme, views: tuple[int, ...]
) -> None:
    predictors = []
    for is_on in (True, False):
        configuration = make_configuration(views=views, background_outside=is_on)
        fold = tmp_path / str(is_on) / "fold_0"
        make_model(fold, plan=make_plan(configuration, label_scheme=scheme))
        predictors.append(Predictor.from_folder(fold))
    background = [0, 0] if scheme is NESTED else [1, 0, 0]
    check(*predictors, background=background, outside=is_outside())


@pytest.mark.parametrize("all_know", [False, True])
def test_an_ensemble_finds_nothing_where_one_of_its_models_knows_better(
    tmp_path: Path, all_know: bool
) -> None:
    of_other = {"slicing_axis": 1, "views": (1,)}
    ensembles: list[Any] = []
    for name, is_on in (("on", True), ("off", False)):
        folders = [tmp_path / name, tmp_path / f"other_{name}"]
        make_model(folders[0] / "fold_0", 0, background_outside=is_on)
        make_model(folders[1] / "fold_0", 1, background_outside=is_on and all_know, **of_other)
        ensembles.append(EnsemblePredictor.from_folders(folders))
    outside = is_outside()
    assert (is_outside(2) & ~outside).any()
    if all_know:
        outside = outside | is_outside(2)
    check(*ensembles, background=[1, 0, 0], outside=outside)


def test_a_model_without_the_key_predicts_as_before(tmp_path: Path) -> None:
    fold = tmp_path / "fold_0"
    make_model(fold)
    file = RunFolder(fold).plan_file
    content = json.loads(file.read_text())
    [configuration] = content["configurations"].values()
    del configuration["decisions"]["background_outside"]
    before = Predictor.from_folder(fold).predict_on_grid(scan(), GRID)
    file.write_text(json.dumps(content))
    predictor = Predictor.from_folder(fold)
    assert not predictor.configuration.background_outside
    assert np.array_equal(predictor.predict_on_grid(scan(), GRID), before)
