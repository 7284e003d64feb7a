"""Predicting arrays with trained models of one or several folds."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builders.fingerprint import make_fingerprint
from builders.numerics import SINGLE, assert_close_to_norm, assert_same_winners
from builders.tiny import (
    TWO_CLASSES,
    make_configuration,
    make_model,
    make_plan,
    make_volume,
    thresholds,
    tiny_backbone,
)

import samnet
from samnet.core.errors import PredictionWarning, UserError
from samnet.core.geometry import Grid, spacing_affine
from samnet.dataset.label_scheme import LabelScheme
from samnet.fingerprint.training_data import summarize_training_data
from samnet.inference.predictor import Predictor
from samnet.inference.slices import SlicePredictor
from samnet.models.lora import LoraLinear
from samnet.models.model_folder import FINAL, ModelFolder, RunFolder

__all__ = ["tiny_backbone"]
SHAPE = (5, 20, 24)


def image(seed: int = 0) -> np.ndarray:
    """Return noise `(Z, Y, X)` without zeros."""
    return np.random.default_rng(seed).integers(1, 255, SHAPE).astype(np.int16)


def probabilities(network: Any, **changes: Any) -> torch.Tensor:
    """Return the probabilities `(K, Z, Y, X)` of the classes of `image()`."""
    predictor = SlicePredictor(
        [network],
        make_configuration(**changes),
        make_volume(image()),
        0,
        mirror=False,
        label_scheme=TWO_CLASSES,
    )
    return predictor.frame.from_canvas(predictor.probabilities(0, SHAPE[0]), network.stride)


def test_predictor_needs_only_an_array_and_its_spacing(tmp_path: Path) -> None:
    make_model(tmp_path / "fold_0")
    predictor = samnet.Predictor.from_folder(tmp_path)
    labels = predictor.predict(image(), orientation="SAR", spacing=(2.0, 1.0, 1.0))
    assert labels.shape == SHAPE
    assert labels.dtype == np.uint8
    assert np.array_equal(
        predictor.predict(image()[None].astype(float), orientation="SAR", spacing=[2, 1, 1]), labels
    )
    assert not np.array_equal(
        predictor.predict(image(1), orientation="SAR", spacing=(2.0, 1.0, 1.0)), labels
    )


def test_predictor_averages_folds_as_probabilities(tmp_path: Path) -> None:
    networks = [make_model(tmp_path / f"fold_{seed}", seed) for seed in range(3)]
    make_model(tmp_path / "fold_all", 9)
    predictor = Predictor.from_folder(str(tmp_path))
    assert len(predictor.networks) == 3  # not the fold that has seen every case
    mean = torch.stack([probabilities(network) for network in networks]).mean(0)
    assert_same_winners(predictor.predict(image(), orientation="SAR", spacing=(1, 1, 1)), mean)
    alone = Predictor.from_folder(tmp_path, ["1"]).predict(
        image(), orientation="SAR", spacing=(1, 1, 1)
    )
    assert_same_winners(alone, probabilities(networks[1]))
    of_its_folder = Predictor.from_folder(tmp_path / "fold_1").predict(
        image(), orientation="SAR", spacing=(1, 1, 1)
    )
    assert np.array_equal(of_its_folder, alone)


def test_predictor_from_runs_is_the_one_from_their_folder(tmp_path: Path) -> None:
    for seed in range(2):
        make_model(tmp_path / f"fold_{seed}", seed)
    expected = Predictor.from_folder(tmp_path).predict(
        image(), orientation="SAR", spacing=(1, 1, 1)
    )
    predictor = Predictor.from_runs(ModelFolder(tmp_path).runs())
    assert np.array_equal(
        predictor.predict(image(), orientation="SAR", spacing=(1, 1, 1)), expected
    )


def test_predictor_mirrors_as_planned_unless_told_otherwise(tmp_path: Path) -> None:
    make_model(tmp_path, mirror_axes=(1, 2), mirror_at_prediction=True)
    assert Predictor.from_folder(tmp_path).mirror
    assert not Predictor.from_folder(tmp_path, mirror=False).mirror


def test_predictor_merges_lora(tmp_path: Path) -> None:
    network = make_model(tmp_path, encoder_tuning="lora")
    layers = [layer for layer in network.modules() if isinstance(layer, LoraLinear)]
    assert layers
    assert not any(layer.merged for layer in layers)
    predictor = Predictor.from_folder(tmp_path)
    merged = [layer for layer in predictor.networks[0].modules() if isinstance(layer, LoraLinear)]
    assert len(merged) == len(layers)
    assert all(layer.merged for layer in merged)
    assert all(layer.up[0].any() for layer in merged)
    expected = probabilities(network, encoder_tuning="lora")
    found = probabilities(predictor.networks[0], encoder_tuning="lora")
    assert_close_to_norm(found, expected, SINGLE)


@pytest.mark.usefixtures("cpu_bfloat16")
def test_predictor_merges_lora_in_single_precision_before_it_casts_weights(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    network = make_model(tmp_path, encoder_tuning="lora", precision="bfloat16")
    [predicting] = Predictor.from_folder(tmp_path).networks
    assert "on cpu in bfloat16" in caplog.text
    found = next(layer for layer in predicting.modules() if isinstance(layer, LoraLinear))
    layer = next(layer for layer in network.modules() if isinstance(layer, LoraLinear))
    layer.merge()
    assert torch.equal(found.base.weight, layer.base.weight.bfloat16())


def test_predictor_computes_in_single_precision_on_a_cpu_without_units(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    network = make_model(tmp_path, precision="bfloat16")
    predictor = Predictor.from_folder(tmp_path)
    assert "on cpu in float32" in caplog.text
    assert all(weight.dtype == torch.float32 for weight in predictor.networks[0].parameters())
    assert_same_winners(
        predictor.predict(image(), orientation="SAR", spacing=(1, 1, 1)), probabilities(network)
    )


@pytest.mark.parametrize("permutation", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
@pytest.mark.parametrize("flips", [(), (0,), (1, 2), (0, 1, 2)])
def test_predictor_does_not_depend_on_the_orientation_of_the_file(
    tmp_path: Path, permutation: tuple[int, ...], flips: tuple[int, ...]
) -> None:
    """The same anatomy stored with other axes gives the same labels, voxel by voxel."""
    make_model(tmp_path)
    predictor = Predictor.from_folder(tmp_path)
    affine = spacing_affine((3.0, 1.5, 1.0))
    expected = predictor.predict_on_grid(image()[None], Grid(SHAPE, affine))

    stored = np.flip(image().transpose(permutation), flips)
    # From indices (x, y, z) of the stored array to those of the canonical one.
    to_canonical = np.zeros((4, 4))
    to_canonical[3, 3] = 1
    for axis, source in enumerate(permutation):
        to_canonical[2 - source, 2 - axis] = -1 if axis in flips else 1
        to_canonical[2 - source, 3] = stored.shape[axis] - 1 if axis in flips else 0
    found = predictor.predict_on_grid(stored[None], Grid(stored.shape, affine @ to_canonical))
    assert found.shape == stored.shape
    assert np.array_equal(found, np.flip(expected.transpose(permutation), flips))


def tell_training_data(model: Path, spacing: tuple[float, float, float] = (3.0, 1.5, 1.0)) -> None:
    """Let a model say that it was trained on images like `image()`."""
    values = float(image().min()), float(image().max())
    fingerprint = make_fingerprint(SHAPE, spacing, values=values)
    data = summarize_training_data(fingerprint, fingerprint.cases)
    assert data is not None
    data.save(RunFolder(model).training_data_file)


def test_predictor_warns_of_an_image_unlike_the_training_data(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make_model(tmp_path)
    tell_training_data(tmp_path)
    predictor = Predictor.from_folder(tmp_path)
    with pytest.warns(PredictionWarning, match="spacing is unlike .*30 mm along z"):
        labels = predictor.predict(image(), orientation="SAR", spacing=(30.0, 1.5, 1.0))
    assert labels.shape == SHAPE
    assert "its spacing is unlike that of the training images" in caplog.text
    with pytest.warns(PredictionWarning, match="its intensities are spread over"):
        predictor.predict(image() / 1000, orientation="SAR", spacing=(3.0, 1.5, 1.0))
    grid = Grid(SHAPE, spacing_affine((3.0, 1.5, 1.0)))
    found = predictor.predict_and_check(image()[None], grid).warnings
    assert not [sentence for sentence in found if "train" in sentence]


def test_predictor_refuses_an_image_of_a_hopeless_size(tmp_path: Path) -> None:
    make_model(tmp_path)
    tell_training_data(tmp_path)
    with pytest.raises(UserError, match=r"spacing of 0\.001 x 0\.0015 x 0\.003 mm"):
        Predictor.from_folder(tmp_path).predict(
            image(), orientation="SAR", spacing=(0.003, 0.0015, 0.001)
        )


def test_predictor_refuses_an_image_beyond_the_memory_also_for_an_older_model(
    tmp_path: Path,
) -> None:
    """Its slices would take terabytes at the resolution of the model."""
    make_model(tmp_path)
    with pytest.raises(UserError, match=r"needs [0-9,]+ GiB of memory .*this machine has [0-9,]+"):
        Predictor.from_folder(tmp_path).predict(
            image(), orientation="SAR", spacing=(3e4, 1.5e4, 1e4)
        )


def test_predictor_of_an_older_model_says_that_it_cannot_compare(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    make_model(tmp_path)
    predictor = Predictor.from_folder(tmp_path)
    assert predictor.training_data is None
    assert caplog.text.count("no training_data.json, so images cannot be compared") == 1
    predictor.predict(image(), orientation="SAR", spacing=(0.003, 0.0015, 0.001))
    tell_training_data(tmp_path)
    caplog.clear()
    assert Predictor.from_folder(tmp_path).training_data is not None
    assert "training_data.json" not in caplog.text


@pytest.mark.parametrize(
    ("preferred", "message"),
    [(0, "the prediction is empty"), (2, "every voxel is predicted as two")],
)
def test_predictor_warns_of_an_empty_and_of_a_full_prediction(preferred: int, message: str) -> None:
    levels = [9.0, 9.0, 9.0]
    levels[preferred] = 0.0
    networks = [thresholds(levels, stride=4)]
    configuration = make_configuration()
    predictor = Predictor(make_plan(configuration), configuration, networks, mirror=False)
    with pytest.warns(PredictionWarning, match=message):
        predictor.predict(image(), orientation="SAR", spacing=(1.0, 1.0, 1.0))


def test_predictor_finds_background_in_an_empty_margin(tmp_path: Path) -> None:
    make_model(tmp_path)
    predictor = Predictor.from_folder(tmp_path)
    margins = ((1, 2), (0, 3), (4, 0))
    found = predictor.predict(np.pad(image(), margins), orientation="SAR", spacing=(1, 1, 1))
    assert np.array_equal(
        found, np.pad(predictor.predict(image(), orientation="SAR", spacing=(1, 1, 1)), margins)
    )
    assert predictor.predict(np.zeros(SHAPE), orientation="SAR", spacing=(1, 1, 1)).shape == SHAPE


@pytest.mark.parametrize(
    ("array", "spacing", "message"),
    [
        (np.ones((2, *SHAPE)), (1, 1, 1), r"has 2 channel\(s\), the model was trained on 1: MRI"),
        (np.ones(SHAPE[1:]), (1, 1, 1), "trained on volumes .*array.None."),
        (np.ones(SHAPE), (1, 1), "expected 3 lengths above 0"),
        (np.ones(SHAPE), (1, 0, 1), "expected 3 lengths above 0"),
        (np.ones(SHAPE), (1, np.nan, 1), "expected 3 lengths above 0"),
        (np.full(SHAPE, np.nan), (1, 1, 1), "NaN or infinite"),
        (np.full(SHAPE, np.inf, dtype=np.float32), (1, 1, 1), "NaN or infinite"),
    ],
)
def test_predictor_refuses_arrays_that_do_not_fit(
    tmp_path: Path, array: np.ndarray, spacing: tuple[float, ...], message: str
) -> None:
    make_model(tmp_path)
    with pytest.raises(UserError, match=message):
        Predictor.from_folder(tmp_path).predict(array, orientation="SAR", spacing=spacing)


@pytest.mark.parametrize(
    ("key", "changes"),
    [
        ("zoom", {"configuration": {"zoom": 2.0}}),
        ("views", {"configuration": {"views": (0, 1)}}),
        ("labels", {"label_scheme": LabelScheme({"background": 0, "one": 1})}),
        ("labels", {"label_scheme": LabelScheme({"background": 0, "two": 1, "one": 2})}),
        ("channel_names", {"channel_names": ("CT",)}),
    ],
)
def test_predictor_does_not_average_folds_of_different_models(
    tmp_path: Path, key: str, changes: dict[str, Any]
) -> None:
    make_model(tmp_path / "fold_0")
    configuration = make_configuration(**changes.pop("configuration", {}))
    make_model(tmp_path / "fold_1", plan=make_plan(configuration, **changes))
    with pytest.raises(UserError, match=f"fold_1 was trained with {key} .*choose one with -f"):
        Predictor.from_folder(tmp_path)
    assert Predictor.from_folder(tmp_path, ["1"])


def test_predictor_names_weights_that_do_not_fit_the_plan(tmp_path: Path) -> None:
    make_model(tmp_path / "fold_0")
    run = RunFolder(tmp_path / "fold_0")
    make_plan(make_configuration(head="mask_decoder")).save(run.plan_file)
    with pytest.raises(UserError, match=r"checkpoint_final\.safetensors: does not fit the plan"):
        Predictor.from_folder(tmp_path)
    run.checkpoint(FINAL).write_bytes(b"\x80\x04pickle")
    with pytest.raises(UserError, match="cannot be read as safetensors"):
        Predictor.from_folder(tmp_path)
