"""Views of models on the axes of the image's file."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from builders.volumes import configure

from samnet.core.geometry import Box, Grid, Reorientation
from samnet.inference.native_views import VolumeMaps
from samnet.inference.reconstruction import ViewMaps, cut
from samnet.preprocessing.slice_frame import planned_frame

CPU = torch.device("cpu")
STRIDE = 2
# Permutations with flips of the axes of the file, as columns of the affine (x, y, z).
DIRECTIONS = {
    "x y z": np.diag([1.0, 1, 1]),
    "-x -y -z": np.diag([-1.0, -1, -1]),
    "z -x y": np.array([[0, -1.0, 0], [0, 0, 1], [1, 0, 0]]),
    "-y z -x": np.array([[0, 0, -1.0], [-1, 0, 0], [0, 1, 0]]),
}


def maps_of(directions: np.ndarray, axis: int) -> VolumeMaps:
    """Return one view of two outputs on a cropped volume; each voxel of the maps is random."""
    affine = np.eye(4)
    affine[:3, :3] = directions
    reorientation = Reorientation(Grid((21, 30, 26), affine))
    whole = reorientation.canonical_grid.shape
    box = Box((2, 0, 5), (whole[0] - 1, whole[1] - 4, whole[2]))
    count, *size = (box.shape[axis], *(n for index, n in enumerate(box.shape) if index != axis))
    frame = planned_frame(configure(), (size[0], size[1]), (1.0, 1.0))
    canvas = [length // STRIDE for length in frame.canvas]
    maps = torch.rand(2, count, *canvas, generator=torch.Generator().manual_seed(axis)) ** 8
    view = ViewMaps(maps.half(), axis, frame, STRIDE, CPU)
    return VolumeMaps((view,), reorientation, box)


@pytest.mark.parametrize("directions", DIRECTIONS.values(), ids=list(DIRECTIONS))
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_native_views_are_the_views_with_the_axes_of_the_file(
    directions: np.ndarray, axis: int
) -> None:
    """The values of all blocks, and the bounds that enclose them."""
    maps = maps_of(directions, axis)
    box = maps.native_box
    [view] = maps.native_views(CPU)
    everywhere = tuple(slice(0, length) for length in maps.box.shape)
    canonical = torch.full((2, *maps.reorientation.canonical_grid.shape), -1.0)
    for output in range(2):
        values = maps.views[0].values(output, everywhere)
        canonical[(output, *maps.box.slices)] = values
    native = maps.reorientation.to_native(canonical.numpy())
    expected = native[(slice(None), *box.slices)]
    assert (expected >= 0).all()
    assert (native >= 0).sum() == expected.size

    edges = (5, 8, 11)
    blocks = [cut(slice(0, length), edge) for length, edge in zip(box.shape, edges, strict=True)]
    lowest, highest = view.bounds(blocks)
    for place in itertools.product(*(range(len(along)) for along in blocks)):
        block = tuple(along[index] for along, index in zip(blocks, place, strict=True))
        for output in range(2):
            inside = expected[(output, *block)]
            assert np.allclose(view.values(output, block), inside, rtol=0, atol=1e-6)
            assert inside.min() >= lowest[(output, *place)] - 1e-6
            assert inside.max() <= highest[(output, *place)] + 1e-6
