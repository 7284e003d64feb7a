from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from builders.embeddings import make_network, make_variants
from builders.numerics import SINGLE, relative_error
from builders.tiny import TWO_CLASSES, make_case

from samnet.inference.slices import SlicePredictor
from samnet.preprocessing.storage import StoredCase


@pytest.mark.parametrize(
    "zoom",
    [1.0, 1.5, 4.0],
    ids=["slice fits the input", "slice is larger in one axis", "slice is larger in both axes"],
)
@pytest.mark.parametrize("axis", [0, 2])
def test_image_and_target_of_a_variant_are_aligned(tmp_path: Path, zoom: float, axis: int) -> None:
    """The image shows its own labels, which have no symmetry."""
    labels = np.zeros((22, 24, 26), dtype=np.uint8)
    labels[4:18, 6:20, 5:11] = 1
    labels[4:10, 6:20, 5:20] = 1
    labels[4:18, 14:20, 5:20] = 1
    case = make_case(tmp_path, 255 * labels[None], labels, views=(axis,), spacing=(1.0, 1.1, 0.9))
    variants = make_variants([case], views=(axis,), slicing_axis=axis, zoom=zoom)
    variants.reader.profile = replace(variants.reader.profile, intensities=False)
    num_seen = 0
    for number in range(8):
        variant = variants.draw(0, axis, 8, number)
        image, target = variants.image(0, axis, variant), variants.target(0, axis, variant)
        shown = torch.nn.functional.avg_pool2d(image[:1], 4)[0] > 0.5
        differing = (shown != (target == 1)).float()
        # Lines of a pixel may differ, areas may not.
        assert torch.nn.functional.avg_pool2d(differing[None], 3, 1).max() < 1
        assert variant.classes == ((1,) if target.any() else ())
        num_seen += bool(target.any())
    assert num_seen >= 6


@pytest.mark.parametrize(("zoom", "num_tiles"), [(1.0, 1), (2.5, 4)], ids=["whole", "tiles"])
def test_first_variants_show_what_prediction_sees(
    cases: list[StoredCase], zoom: float, num_tiles: int
) -> None:
    variants = make_variants(cases, zoom=zoom, views=(0,))
    assert variants.num_tiles(0, 0) == num_tiles
    predictor = SlicePredictor(
        [make_network()],
        variants.configuration,
        cases[0].volume(),
        0,
        mirror=False,
        label_scheme=TWO_CLASSES,
    )
    canvas = predictor.canvases(2, 3)[0]
    is_shown = torch.zeros(canvas.shape[1:], dtype=torch.bool)
    images = []
    for number in range(num_tiles):
        images.append(variants.image(0, 0, variants.draw(0, 0, 2, number)))
        [(row, column)] = find_in_canvas(images[-1], canvas)
        is_shown[row : row + 32, column : column + 32] = True
    assert is_shown.all()
    next_image = variants.image(0, 0, variants.draw(0, 0, 2, num_tiles))
    assert not torch.allclose(next_image, images[-1], atol=0.05)


def find_in_canvas(image: torch.Tensor, canvas: torch.Tensor) -> list[tuple[int, int]]:
    """Return the corners, in steps of 16 pixels, of the windows of a canvas that an image shows."""
    corners = []
    for row in range(0, canvas.shape[1] - 31, 16):
        for column in range(0, canvas.shape[2] - 31, 16):
            window = canvas[:, row : row + 32, column : column + 32]
            if relative_error(image, window) < SINGLE:
                corners.append((row, column))
    return corners


def test_variant_depends_on_the_slice_and_its_number_alone(cases: list[StoredCase]) -> None:
    places = [(index, number) for index in (1, 2) for number in range(4)]
    variants = make_variants(cases)
    drawn = [variants.draw(1, 0, index, number) for index, number in places]
    other = make_variants(cases[::-1], stride=2, seed=99)
    np.random.seed(3)
    assert drawn == [other.draw(1, 0, index, number) for index, number in places]
    assert len({variant.centre for variant in drawn}) > 4
    alone = make_variants(cases[1:])
    assert drawn[3] == alone.draw(0, 0, 1, 3)


def test_variants_of_a_large_slice_show_its_classes_in_turns(cases: list[StoredCase]) -> None:
    """Class 2 fills a 24th of the slice, of which the input shows a part."""
    variants = make_variants(cases, zoom=4.0, views=(0,))
    first = variants.num_tiles(0, 0)
    shown = [variants.draw(0, 0, 2, number).classes for number in range(first, first + 40)]
    for value in (1, 2):
        assert sum(value in classes for classes in shown) >= 18
