"""Maps of where a prediction is uncertain."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from builders.tiny import TWO_CLASSES, thresholds
from builders.volumes import LEVELS, configure, slice_predictor, smooth_volume

from samnet.dataset.label_scheme import LabelScheme
from samnet.inference.outputs import outputs_for
from samnet.inference.volume import predict_volume


@pytest.mark.parametrize(("axis", "views"), [(0, None), (2, None), (0, (0, 1, 2))])
def test_uncertainty_is_what_the_highest_probability_lacks(
    axis: int, views: tuple[int, ...] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("samnet.inference.uncertainty.PART_BYTES", 5000)
    network, volume = thresholds(LEVELS, 2, 4.0), smooth_volume()
    configuration = configure(axis, views)
    uncertainty = np.full(volume.array.shape[1:], 255, np.uint8)
    labels = predict_volume(
        [network],
        configuration,
        volume,
        mirror=False,
        label_scheme=TWO_CLASSES,
        slab_bytes=8_000,
        uncertainty=uncertainty,
    )
    means = []
    for view in configuration.views:
        predictor = slice_predictor(network, volume, configuration, view)
        maps = predictor.probabilities(0, volume.array.shape[view + 1])
        whole = predictor.frame.from_canvas(maps, network.stride).moveaxis(1, view + 1)
        means.append(whole)
    probabilities = torch.stack(means).mean(0)
    expected = 100 * (1 - probabilities.amax(0).numpy())
    # Rounded to whole percent; maps of several views are kept in half precision.
    assert np.abs(uncertainty - expected).max() < 0.6
    assert expected.max() > 40
    assert labels.shape == uncertainty.shape


def test_uncertainty_of_regions_is_that_of_the_most_doubtful_one() -> None:
    scheme = LabelScheme({"background": 0, "whole": (1, 2), "core": 2}, regions_class_order=(1, 2))
    whole, core = torch.tensor([0.9, 1.0, 0.2]), torch.tensor([0.4, 0.1, 0.0])
    doubt = outputs_for(scheme).doubt(iter([whole, core]))
    assert doubt.tolist() == pytest.approx([0.4, 0.1, 0.2])
