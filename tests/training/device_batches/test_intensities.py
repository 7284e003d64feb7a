"""Each kind of change of many images at once equals that of one image."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from builders.numerics import assert_close_to_norm
from scipy import ndimage

from samnet.training.device_batches.intensities import IntensityChanger, pack_changes
from samnet.training.device_batches.parcel import Parcel
from samnet.training.intensity_changes import apply_changes
from samnet.training.intensity_draws import ChangeShares, IntensityDraws, draw_intensities

CPU = torch.device("cpu")
SIZE = 32
KINDS = [field.name for field in dataclasses.fields(ChangeShares)]
NO_CHANGES = ChangeShares(*[0.0] * len(KINDS))
TOLERANCE = 1e-6


def images_of(count: int) -> np.ndarray:
    """Return smooth images `(count, 3, S, S)` from 0 to 1."""
    noise = np.random.default_rng(0).normal(size=(count, 3, SIZE, SIZE))
    smooth = ndimage.gaussian_filter(noise, (0, 0, 1, 1)) * 2 + 0.5
    return smooth.clip(0, 1).astype(np.float32)


def check_changes(draws: list[IntensityDraws]) -> torch.Tensor:
    """Compare changes of a batch with those of each image, and return the changed batch."""
    images = images_of(len(draws))
    expected = [apply_changes(image, one) for image, one in zip(images, draws, strict=True)]
    parcel = Parcel.pack(pack_changes(draws))
    changed = IntensityChanger(SIZE, CPU).apply(torch.from_numpy(images.copy()), parcel, parcel)
    for found, one in zip(changed, expected, strict=True):
        assert_close_to_norm(found, one, TOLERANCE)
    return changed


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_change_equals_that_of_one_image(kind: str) -> None:
    """Half of the images have it, the others stay as they are."""
    shares = dataclasses.replace(NO_CHANGES, **{kind: 0.5})
    shape = (3, SIZE, SIZE)
    draws = [draw_intensities(np.random.default_rng(seed), shape, shares) for seed in range(16)]
    changed = check_changes(draws)
    unchanged = (changed == torch.from_numpy(images_of(16))).flatten(1).all(1)
    assert unchanged.tolist() == [getattr(one, kind) is None for one in draws]


def test_changes_are_applied_one_after_the_other() -> None:
    shares = dataclasses.replace(ChangeShares(*[1.0] * len(KINDS)), curve=0.0)
    shape = (3, SIZE, SIZE)
    check_changes(
        [draw_intensities(np.random.default_rng(seed), shape, shares) for seed in range(8)]
    )


def test_images_without_any_change_only_stay_in_their_range() -> None:
    parcel = Parcel.pack(pack_changes([IntensityDraws(), None]))
    images = torch.tensor([-0.1, 0.5, 1.2, 1.0]).view(1, 1, 2, 2)
    changed = IntensityChanger(2, CPU).apply(images, parcel, parcel)
    assert changed.flatten().tolist() == [0.0, 0.5, 1.0, 1.0]
