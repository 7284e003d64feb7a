"""What is random of a sample, apart from its pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from builders.tiny import TWO_CLASSES, make_case, make_configuration

from samnet.training.placement import place_image
from samnet.training.sampling import SliceSamples
from samnet.training.slice_reader import SampleSpecification


@pytest.fixture
def samples(tmp_path: Path) -> SliceSamples:
    """Return samples of three volumes of which two classes are drawn."""
    labels = np.zeros((6, 24, 20), dtype=np.uint8)
    labels[1:5, 4:12, 3:10] = 1
    labels[2, 14:18, 12:17] = 2
    image = (40 + 60 * labels)[None]
    cases = [
        make_case(tmp_path, image, labels, name=f"case_{number}", views=(0, 1, 2))
        for number in range(3)
    ]
    configuration = make_configuration(
        views=(0, 1, 2), mirror_axes=(0, 1, 2), channel_layout="neighbours", zoom=1.5
    )
    return SliceSamples(cases, SampleSpecification(configuration, TWO_CLASSES, 2, 7))


# Of samples 0, 1 and 2 of seed 7, as the first versions drew them: case, axis, slice and class;
# whether neighbours change places; centre; matrix; seed of the bend; kinds of changes.
EXPECTED = [
    (
        (2, 0, 2, None),
        False,
        [11.267219, 9.317901],
        [[-0.789064, 0.0], [0.0, -0.789064]],
        125277842832782,
        {"curve"},
    ),
    (
        (2, 2, 1, None),
        True,
        [1.839314, 11.818584],
        [[0.666667, 0.0], [0.0, -0.666667]],
        220196544713116,
        {"unevenness", "gamma"},
    ),
    (
        (1, 1, 7, 1),
        False,
        [2.145908, 9.24693],
        [[0.721204, -0.071157], [-0.062643, -0.819226]],
        None,
        {"gamma"},
    ),
]


@pytest.mark.parametrize("number", range(3))
def test_draws_of_a_seed_are_those_of_the_first_versions(
    samples: SliceSamples, number: int
) -> None:
    """A run that was interrupted before an update of samnet continues with the same samples."""
    draws, labels = samples.draw(number)
    choice, is_reversed, centre, matrix, bend_seed, kinds = EXPECTED[number]
    found = draws.choice
    assert (found.case_index, found.axis, found.index, found.wanted) == choice
    assert draws.is_reversed is is_reversed
    assert draws.placement.centre == pytest.approx(centre, abs=1e-5)
    assert draws.placement.matrix == pytest.approx(np.array(matrix), abs=1e-5)
    assert draws.placement.bend_seed == bend_seed
    assert draws.intensities is not None
    changes = {kind for kind, value in vars(draws.intensities).items() if value is not None}
    assert changes == kinds
    assert np.array_equal(labels, samples.reader.labels(*choice[:3]))


def test_a_sample_shows_what_is_drawn(samples: SliceSamples) -> None:
    """The third sample has a placement and gamma, and no other change."""
    draws, labels = samples.draw(2)
    image, target = samples[2]
    choice = draws.choice
    shown = samples.reader.image(
        choice.case_index, choice.axis, choice.index, is_reversed=draws.is_reversed
    )
    placed = place_image(shown, draws.placement, 32)
    extent = placed.max() - placed.min()
    assert draws.intensities is not None
    expected = ((placed - placed.min()) / extent) ** draws.intensities.gamma * extent
    assert torch.allclose(image, expected + placed.min(), atol=1e-5)
    assert torch.equal(target, samples.reader.target(labels, draws.placement))
