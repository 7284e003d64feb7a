"""How many slices of a volume are predicted at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from builders.tiny import TWO_CLASSES, FakeNetwork, thresholds
from builders.volumes import configure, slice_predictor, smooth_volume
from torch import Tensor

from samnet.core import progress, progress_line
from samnet.inference.chunks import MAX_SLICES
from samnet.inference.slices import SlicePredictor
from samnet.inference.volume import predict_volume


@pytest.fixture
def lengths(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of slices of each part of a volume that is predicted at a time."""
    noted: list[int] = []
    canvases = SlicePredictor.canvases

    def note(self: SlicePredictor, start: int, stop: int) -> Tensor:
        noted.append(stop - start)
        return canvases(self, start, stop)

    monkeypatch.setattr(SlicePredictor, "canvases", note)
    return noted


@pytest.mark.parametrize(
    ("shape", "zoom", "num_outputs", "values"),
    [
        ((9, 22, 26), 1.0, 3, 3 * 32 * 32),  # three channels of the canvas
        ((9, 100, 120), 0.2, 3, 100 * 120),  # one channel of the slice
        ((9, 22, 26), 1.0, 60, 60 * 16 * 16),  # the maps of all outputs, of stride 2
    ],
    ids=["canvas", "slice", "maps"],
)
@pytest.mark.parametrize("count", [1, 2, 3])
def test_as_many_slices_are_predicted_at_a_time_as_fit_the_memory(
    shape: tuple[int, int, int],
    zoom: float,
    num_outputs: int,
    values: int,
    count: int,
    lengths: list[int],
) -> None:
    """After the first, which tells how many do."""
    network = thresholds(np.linspace(0, 1, num_outputs).tolist(), 2)
    for spare in (0, -1):
        lengths.clear()
        predict_volume(
            [network],
            configure(zoom=zoom),
            smooth_volume(shape),
            mirror=False,
            label_scheme=TWO_CLASSES,
            slab_bytes=4 * values * count + spare,
        )
        fitting = max(1, count if spare == 0 else count - 1)
        assert lengths[0] == 1
        assert sum(lengths) == 9
        assert max(lengths) == fitting
        assert len(lengths) == 1 + -(-8 // fitting)


def test_memory_for_a_whole_volume_is_not_filled(lengths: list[int]) -> None:
    assert MAX_SLICES == 64
    volume = smooth_volume((140, 8, 9))
    network = thresholds([0.3, 0.7], 4)
    predict_volume([network], configure(), volume, mirror=False, label_scheme=TWO_CLASSES)
    assert max(lengths) <= MAX_SLICES


def test_volume_is_predicted_with_mirrors() -> None:
    def brighter_on_the_left(images: Tensor) -> Tensor:
        ramp = torch.linspace(1, 0, images.shape[-1]).expand_as(images[:, :1])
        return torch.cat([ramp, images[:, :1] - 0.2], dim=1)

    network = FakeNetwork(1, brighter_on_the_left)
    volume, configuration = smooth_volume(), configure(mirror_axes=(2,))
    for mirror in (False, True):
        predictor = slice_predictor(network, volume, configuration, mirror=mirror)
        maps = predictor.frame.from_canvas(predictor.probabilities(0, 9), 1)
        labels = predict_volume(
            [network], configuration, volume, mirror=mirror, label_scheme=TWO_CLASSES
        )
        assert (labels == maps.argmax(0).numpy()).mean() > 0.99
    plain = predict_volume([network], configuration, volume, mirror=False, label_scheme=TWO_CLASSES)
    assert (labels != plain).mean() > 0.05


def test_slices_are_shown_within_an_open_bar_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "PART_SECONDS", 0.0)
    monkeypatch.setattr(progress_line, "LINE_SECONDS", 0.0)
    monkeypatch.setattr(progress_line, "LINE_SHARE", 0.0)
    network = thresholds([0.3, 0.7], 4)
    predict_volume([network], configure(), smooth_volume(), mirror=False, label_scheme=TWO_CLASSES)
    assert capsys.readouterr().err == ""
