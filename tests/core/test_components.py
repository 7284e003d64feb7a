"""Connected components, of masks drawn by hand."""

from __future__ import annotations

import numpy as np

from samnet.core.components import component_sizes, label_components


def test_voxels_that_share_a_corner_are_connected() -> None:
    mask = np.zeros((3, 3, 3), dtype=bool)
    mask[0, 0, 0] = mask[1, 1, 1] = True
    assert label_components(mask)[1] == 1
    mask[1, 1, 1] = False
    mask[2, 2, 2] = True
    assert label_components(mask)[1] == 2


def test_pixels_that_share_a_corner_are_connected() -> None:
    assert label_components(np.eye(4, dtype=bool))[1] == 1


def test_component_sizes_are_those_of_each_component() -> None:
    mask = np.array([[1, 1, 0, 1], [0, 0, 0, 1], [0, 0, 0, 1]], dtype=bool)
    labelled, count = label_components(mask)
    sizes = component_sizes(labelled, count)
    assert sorted(sizes) == [2, 3]
    assert sizes[labelled[0, 0] - 1] == 2


def test_empty_mask_has_no_components() -> None:
    for shape in ((0, 0, 0), (2, 3)):
        labelled, count = label_components(np.zeros(shape, dtype=bool))
        assert count == 0
        assert component_sizes(labelled, count).size == 0
