"""Numbers by which images are compared."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from builders.data import write_dataset
from builders.tiny import make_model, make_volume, tiny_backbone

from samnet.annotation.features import embed_volume, measure_features, measure_statistics
from samnet.dataset.cases import Case, find_prediction_cases
from samnet.dataset.description import DatasetDescription
from samnet.inference.predictor import Predictor

__all__ = ["tiny_backbone"]
MRI = DatasetDescription(("MRI",), {"background": 0, "ball": 1}, None, ".nii.gz")


@pytest.fixture
def predictor(tmp_path: Path) -> Predictor:
    make_model(tmp_path / "model" / "fold_0")
    return Predictor.from_folder(tmp_path / "model", device="cpu")


def test_embedding_is_the_mean_over_slices(predictor: Predictor) -> None:
    image = np.random.default_rng(0).uniform(0, 255, (3, 30, 28))
    slices = [embed_volume(predictor, make_volume(one[None])) for one in image]
    whole = embed_volume(predictor, make_volume(image))
    assert whole.shape == (256,)
    np.testing.assert_allclose(whole, np.mean(slices, 0), rtol=1e-4, atol=1e-5)
    assert np.abs(slices[0] - slices[1]).max() > 1e-3


def test_embedding_of_large_slices_is_the_mean_over_tiles(predictor: Predictor) -> None:
    tile = np.random.default_rng(0).uniform(0, 255, (1, 32, 32))
    repeated = np.tile(tile, (1, 2, 1))  # tiles at 0, 16 and 32
    middle = repeated[:, 16:48]
    expected = [embed_volume(predictor, make_volume(part)) for part in (tile, middle, tile)]
    found = embed_volume(predictor, make_volume(repeated))
    np.testing.assert_allclose(found, np.mean(expected, 0), rtol=1e-4, atol=1e-5)


def test_statistics_tell_spacing_size_and_intensities() -> None:
    image = np.random.default_rng(0).uniform(1, 9, (4, 6, 5))
    found = measure_statistics(make_volume(image, (3.0, 1.0, 0.5)))
    np.testing.assert_allclose(found[:3], np.log([3.0, 1.0, 0.5]))
    np.testing.assert_allclose(found[3:6], np.log([12.0, 6.0, 2.5]))
    brighter = measure_statistics(make_volume(1000 * image, (3.0, 1.0, 0.5)))
    assert (brighter[:6] == found[:6]).all()
    np.testing.assert_allclose(brighter[6:] - found[6:], np.log(1000), atol=0.3)


def test_images_that_cannot_be_read_are_named_and_left_out(
    tmp_path: Path, predictor: Predictor, caplog: pytest.LogCaptureFixture
) -> None:
    dataset = write_dataset(tmp_path, num_cases=2)
    cases: list[Case] = find_prediction_cases(dataset / "imagesTr", MRI)
    cases[0].image_files[0].write_bytes(b"no image")
    cases.append(replace(cases[1], identifier="faulty", fault="two files of one name"))
    for model in (None, predictor):
        with caplog.at_level(logging.WARNING):
            found = measure_features(cases, 1, model)
        assert list(found) == ["case_01"]
        assert "case_00: cannot be compared" in caplog.text
        assert "two files of one name" in caplog.text
