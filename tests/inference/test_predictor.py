from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builders.tiny import make_configuration, make_model, make_plan, make_volume, tiny_backbone

import samnet
from samnet.core.errors import UserError
from samnet.core.geometry import Grid, spacing_affine
from samnet.inference.predictor import Predictor, find_fold_folders
from samnet.inference.slices import SlicePredictor
from samnet.models.lora import LoraLinear

__all__ = ["tiny_backbone"]
SHAPE = (5, 20, 24)


def image(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 255, SHAPE).astype(np.int16)


def probabilities(network: Any, **changes: Any) -> torch.Tensor:
    predictor = SlicePredictor(
        [network], make_configuration(**changes), make_volume(image()), 0, mirror=False
    )
    return predictor.frame.from_canvas(predictor.probabilities(0, SHAPE[0]), network.stride)


def test_an_array_and_its_spacing_are_enough(tmp_path: Path) -> None:
    make_model(tmp_path / "fold_0")
    predictor = samnet.Predictor.from_folder(tmp_path)
    labels = predictor.predict(image(), (2.0, 1.0, 1.0))
    assert labels.shape == SHAPE
    assert labels.dtype == np.uint8
    assert np.array_equal(predictor.predict(image()[None].astype(float), [2, 1, 1]), labels)
    assert not np.array_equal(predictor.predict(image(1), (2.0, 1.0, 1.0)), labels)


def test_folds_are_averaged_as_probabilities(tmp_path: Path) -> None:
    networks = [make_model(tmp_path / f"fold_{seed}", seed) for seed in range(3)]
    make_model(tmp_path / "fold_all", 9)
    predictor = Predictor.from_folder(str(tmp_path))
    assert len(predictor.networks) == 3  # not the fold that has seen every case
    mean = torch.stack([probabilities(network) for network in networks]).mean(0)
    assert np.array_equal(predictor.predict(image(), (1, 1, 1)), mean.argmax(0))
    alone = Predictor.from_folder(tmp_path, ["1"]).predict(image(), (1, 1, 1))
    assert np.array_equal(alone, probabilities(networks[1]).argmax(0))
    assert np.array_equal(
        Predictor.from_folder(tmp_path / "fold_1").predict(image(), (1, 1, 1)), alone
    )


def test_mirroring_is_the_plans_unless_told_otherwise(tmp_path: Path) -> None:
    make_model(tmp_path, mirror_axes=(1, 2), mirror_at_prediction=True)
    assert Predictor.from_folder(tmp_path).mirror
    assert not Predictor.from_folder(tmp_path, mirror=False).mirror


def test_lora_is_merged_when_loaded(tmp_path: Path) -> None:
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
    assert torch.allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("permutation", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
@pytest.mark.parametrize("flips", [(), (0,), (1, 2), (0, 1, 2)])
def test_the_orientation_of_the_file_does_not_matter(
    tmp_path: Path, permutation: tuple[int, ...], flips: tuple[int, ...]
) -> None:
    """The same anatomy stored with other axes gives the same labels, voxel by voxel."""
    make_model(tmp_path)
    predictor = Predictor.from_folder(tmp_path)
    affine = spacing_affine((3.0, 1.5, 1.0))
    expected = predictor.predict_on_grid(image()[None], Grid(SHAPE, affine))

    stored = np.flip(image().transpose(permutation), flips)
    to_canonical = np.zeros(
        (4, 4)
    )  # from indices (x, y, z) of the stored array to those of the canonical one
    to_canonical[3, 3] = 1
    for axis, source in enumerate(permutation):
        to_canonical[2 - source, 2 - axis] = -1 if axis in flips else 1
        to_canonical[2 - source, 3] = stored.shape[axis] - 1 if axis in flips else 0
    found = predictor.predict_on_grid(stored[None], Grid(stored.shape, affine @ to_canonical))
    assert found.shape == stored.shape
    assert np.array_equal(found, np.flip(expected.transpose(permutation), flips))


def test_an_empty_margin_is_background_and_changes_nothing(tmp_path: Path) -> None:
    make_model(tmp_path)
    predictor = Predictor.from_folder(tmp_path)
    margins = ((1, 2), (0, 3), (4, 0))
    found = predictor.predict(np.pad(image(), margins), (1, 1, 1))
    assert np.array_equal(found, np.pad(predictor.predict(image(), (1, 1, 1)), margins))
    assert predictor.predict(np.zeros(SHAPE), (1, 1, 1)).shape == SHAPE


@pytest.mark.parametrize(
    ("array", "spacing", "message"),
    [
        (np.ones((2, *SHAPE)), (1, 1, 1), r"has 2 channel\(s\), the model was trained on 1: MRI"),
        (np.ones(SHAPE[1:]), (1, 1, 1), r"predict needs \(C, Z, Y, X\)"),
        (np.ones(SHAPE), (1, 1), "three spacings"),
        (np.ones(SHAPE), (1, 0, 1), "three spacings"),
        (np.ones(SHAPE), (1, np.nan, 1), "three spacings"),
        (np.full(SHAPE, np.nan), (1, 1, 1), "NaN or infinite"),
        (np.full(SHAPE, np.inf, dtype=np.float32), (1, 1, 1), "NaN or infinite"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(
    tmp_path: Path, array: np.ndarray, spacing: tuple[float, ...], message: str
) -> None:
    make_model(tmp_path)
    with pytest.raises(UserError, match=message):
        Predictor.from_folder(tmp_path).predict(array, spacing)


@pytest.mark.parametrize(
    ("key", "changes"),
    [
        ("zoom", {"configuration": {"zoom": 2.0}}),
        ("views", {"configuration": {"views": (0, 1)}}),
        ("labels", {"labels": {"background": 0, "one": 1}}),
        ("labels", {"labels": {"background": 0, "two": 1, "one": 2}}),
        ("channel_names", {"channel_names": ("CT",)}),
    ],
)
def test_folds_of_different_models_are_not_averaged(
    tmp_path: Path, key: str, changes: dict[str, Any]
) -> None:
    make_model(tmp_path / "fold_0")
    configuration = make_configuration(**changes.pop("configuration", {}))
    make_model(tmp_path / "fold_1", plan=make_plan(configuration, **changes))
    with pytest.raises(UserError, match=f"fold_1 was trained with {key} .*choose one with -f"):
        Predictor.from_folder(tmp_path)
    assert Predictor.from_folder(tmp_path, ["1"])


def test_which_folds_are_there_and_finished(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such model folder"):
        find_fold_folders(tmp_path / "absent", None, "final")
    with pytest.raises(UserError, match="nothing trained"):
        find_fold_folders(tmp_path, None, "final")
    for fold in ("fold_0", "fold_1", "fold_all"):
        make_model(tmp_path / fold)
    (tmp_path / "fold_1" / "checkpoint_final.safetensors").rename(
        tmp_path / "fold_1" / "checkpoint_best.safetensors"
    )

    def names(*arguments: Any) -> list[str]:
        return [folder.name for folder in find_fold_folders(tmp_path, *arguments)]

    assert names(None, "final") == ["fold_0"]
    assert names(["all"], "final") == ["fold_all"]
    assert names(None, "best") == ["fold_1"]
    with pytest.raises(
        UserError, match=r"fold_1 not finished.*same samnet_train command again.*--checkpoint best"
    ):
        names(["1"], "final")
    with pytest.raises(UserError, match=r"has no fold_4 \(there: fold_0, fold_1, fold_all\)"):
        names(["4"], "final")
    with pytest.raises(UserError, match="no cases were held out"):
        names(["all"], "best")
    shutil.rmtree(tmp_path / "fold_0")
    assert names(None, "final") == ["fold_all"]


def test_weights_that_do_not_fit_the_plan_are_named(tmp_path: Path) -> None:
    make_model(tmp_path / "fold_0")
    make_plan(make_configuration(head="mask_decoder")).save(tmp_path / "fold_0" / "plan.json")
    with pytest.raises(UserError, match=r"checkpoint_final\.safetensors: does not fit the plan"):
        Predictor.from_folder(tmp_path)
    (tmp_path / "fold_0" / "checkpoint_final.safetensors").write_bytes(b"\x80\x04pickle")
    with pytest.raises(UserError, match="cannot be read as safetensors"):
        Predictor.from_folder(tmp_path)
