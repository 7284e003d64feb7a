"""Several models of other inputs, views, axes and heads, averaged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders.tiny import make_configuration, make_model, make_plan, tiny_backbone

from samnet.core.errors import UserError
from samnet.core.geometry import Grid
from samnet.dataset.label_scheme import LabelScheme
from samnet.inference.ensemble import EnsemblePredictor
from samnet.inference.predictor import Predictor

__all__ = ["tiny_backbone"]
# A grid whose axes run to the back, to the feet and to the left.
GRID = Grid(
    (9, 13, 16),
    np.array([[0, 0, -1.0, 5], [-0.9, 0, 0, 0], [0, -1.2, 0, 3], [0, 0, 0, 1]], float),
)
# What may differ between two models that are averaged.
OTHERS: dict[str, dict[str, Any]] = {
    "input size": {"input_size": 48, "zoom": 2.0},
    "views": {"views": (0, 1, 2)},
    "spacing": {"in_plane_spacing": 0.7},
    "orientation": {"orientation": "file_transposed"},
    "frame": {"frame": "stretch"},
    "head": {"head": "linear"},
    "mirrors": {"mirror_axes": (1, 2), "mirror_at_prediction": True},
}
NESTED = LabelScheme(
    {"background": 0, "whole": (1, 2), "core": 2},
    regions_class_order=(1, 2),
)


def image() -> np.ndarray:
    """Return noise `(1, Z, Y, X)` within a border of zeros, which is cropped away."""
    array = np.zeros((1, *GRID.shape), np.float32)
    inside = array[:, 1:-2, 3:-1, 2:]
    inside[:] = np.random.default_rng(0).integers(1, 255, inside.shape)
    return array


def outside(values: np.ndarray) -> np.ndarray:
    """Return the values `(..., voxels)` of what was cropped away."""
    return values[..., image()[0] == 0]


def saved_probabilities(predictor: Predictor | EnsemblePredictor) -> np.ndarray:
    prediction = predictor.predict_and_check(image(), GRID, keep_probabilities=True)
    assert prediction.probabilities is not None
    return prediction.probabilities.array().astype(np.float32)


@pytest.mark.parametrize("changes", OTHERS.values(), ids=list(OTHERS))
def test_ensemble_averages_the_probabilities_of_its_models(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    """Also where a model has more folds, which are one model all the same."""
    make_model(tmp_path / "one" / "fold_0", 0)
    for fold in range(2):
        make_model(tmp_path / "other" / f"fold_{fold}", 1 + fold, **changes)
    folders = [tmp_path / "one", tmp_path / "other"]
    both = [saved_probabilities(Predictor.from_folder(folder)) for folder in folders]
    assert np.abs(both[0] - both[1]).max() > 0.05
    ensemble = EnsemblePredictor.from_folders(folders)
    found, expected = saved_probabilities(ensemble), np.mean(both, axis=0)
    assert np.abs(found - expected).max() < 1e-3
    labels = ensemble.predict_on_grid(image(), GRID)
    runner_up, best = np.sort(expected, axis=0)[-2:]
    clear = best - runner_up > 3e-3
    assert clear.mean() > 0.8
    assert np.array_equal(labels[clear], expected.argmax(0)[clear])
    assert not outside(labels).any()


def test_ensemble_averages_regions(tmp_path: Path) -> None:
    for number, changes in enumerate(({}, {"views": (0, 1, 2)})):
        plan = make_plan(make_configuration(**changes), label_scheme=NESTED)
        make_model(tmp_path / str(number) / "fold_0", number, plan)
    folders = [tmp_path / "0", tmp_path / "1"]
    both = [saved_probabilities(Predictor.from_folder(folder)) for folder in folders]
    ensemble = EnsemblePredictor.from_folders(folders)
    found, expected = saved_probabilities(ensemble), np.mean(both, axis=0)
    assert np.abs(found - expected).max() < 1e-3
    assert not outside(found).any()
    labels = ensemble.predict_on_grid(image(), GRID)
    clear = (np.abs(expected - 0.5) > 3e-3).all(0)
    drawn = np.where(expected[1] > 0.5, 2, np.where(expected[0] > 0.5, 1, 0))
    assert clear.mean() > 0.8
    assert np.array_equal(labels[clear], drawn[clear])


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("channels", {"channel_names": ("CT",)}),
        ("labels", {"label_scheme": LabelScheme({"background": 0, "one": 1, "three": 2})}),
        ("labels", {"label_scheme": NESTED}),
    ],
)
def test_models_of_other_channels_or_labels_are_refused_by_name(
    tmp_path: Path, kind: str, changes: dict[str, Any]
) -> None:
    configuration = make_configuration()
    make_model(tmp_path / "one" / "fold_0")
    make_model(tmp_path / "other" / "fold_0", plan=make_plan(configuration, **changes))
    folders = [tmp_path / "one", tmp_path / "other"]
    with pytest.raises(UserError, match=rf"other was trained with the {kind} .*one with "):
        EnsemblePredictor.from_folders(folders)
    members = [Predictor.from_folder(folder) for folder in folders]
    with pytest.raises(UserError, match=rf"Dataset501_Tiny lora was .* {kind} "):
        EnsemblePredictor(members)


def test_ensemble_returns_labels_and_probabilities_of_an_array(tmp_path: Path) -> None:
    folders = [tmp_path / "one", tmp_path / "other"]
    for seed, folder in enumerate(folders):
        make_model(folder / "fold_0", seed)
    ensemble = EnsemblePredictor.from_folders(folders)
    labels, probabilities = ensemble.predict(
        image(), orientation="SAR", spacing=(1, 1, 1), return_probabilities=True
    )
    assert probabilities.shape == (3, *GRID.shape)
    assert probabilities.dtype == np.float16
    assert np.array_equal(
        labels, ensemble.predict(image()[0], orientation="SAR", spacing=(1, 1, 1))
    )
    assert np.abs(probabilities.astype(float).sum(0) - 1).max() < 2e-3
    assert (outside(probabilities[0]) == 1).all()
