"""Cases and samples of many kinds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders.tiny import TWO_CLASSES, make_case, make_configuration

from samnet.dataset.label_scheme import LabelScheme
from samnet.preprocessing.storage import StoredCase
from samnet.training.sampling import SliceSamples
from samnet.training.slice_reader import SampleSpecification

MakeSamples = Callable[..., SliceSamples]


def volume(
    seed: int, shape: tuple[int, int, int], channels: int, dtype: type
) -> tuple[np.ndarray, np.ndarray]:
    """Return an image `(C, Z, Y, X)` with an empty border, and labels 0 to 3 `(Z, Y, X)`."""
    generator = np.random.default_rng(seed)
    axes = [np.linspace(-1, 1, length) if length > 1 else np.zeros(1) for length in shape]
    places = np.stack(np.meshgrid(*axes, indexing="ij"))
    distance = np.sqrt((places**2).sum(0)) + generator.uniform(0, 0.1)
    labels = np.select([distance < 0.35, distance < 0.6, distance < 0.8], [3, 2, 1], 0)
    noise = generator.normal(0, 20, (channels, *shape))
    image = (60 + 60 * labels + noise).clip(1, 4000)
    image[:, :, :2], image[..., :3] = 0, 0
    return image.astype(dtype), labels.astype(np.uint8)


@pytest.fixture
def cases(tmp_path: Path) -> list[StoredCase]:
    """Return two volumes of other sizes, spacings and types, with slices along every axis."""
    described = [((7, 24, 20), np.uint8, (2.0, 1.0, 1.2)), ((9, 18, 33), np.int16, (1.0, 0.8, 1.0))]
    return [
        make_case(
            tmp_path / "volumes",
            *volume(seed, shape, 1, dtype),
            name=f"case_{seed}",
            views=(0, 1, 2),
            spacing=spacing,
        )
        for seed, (shape, dtype, spacing) in enumerate(described)
    ]


@pytest.fixture
def colour_images(tmp_path: Path) -> list[StoredCase]:
    """Return three 2D images of three channels."""
    shapes = [(1, 40, 52), (1, 61, 30), (1, 90, 120)]
    return [
        make_case(tmp_path / "colour", *volume(seed, shape, 3, np.uint8), name=f"image_{seed}")
        for seed, shape in enumerate(shapes)
    ]


@pytest.fixture
def make_samples() -> MakeSamples:
    def make(
        cases: list[StoredCase], *, label_scheme: LabelScheme = TWO_CLASSES, **changes: Any
    ) -> SliceSamples:
        configuration = make_configuration(**changes)
        return SliceSamples(cases, SampleSpecification(configuration, label_scheme, 2, 5))

    return make
