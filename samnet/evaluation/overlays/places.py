"""The place of a volume that a figure shows, and the part of the volume around it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from samnet.core.geometry import Box, bounding_box

Place = tuple[int, int, int]

MOST_VOXELS = 2_000_000  # more are taken together in blocks, which bounds time and memory
_MARGIN = 0.25  # around what is shown, of its extent on either side
_LEAST_SHARE = 0.2  # of the volume along each axis is shown at least
_LEAST_VOXELS = 24  # of the finest spacing


def place_of_largest_error(wrong: np.ndarray, spacing: Sequence[float]) -> Place | None:
    """Find the voxel that lies deepest inside wrong areas, as its three planes show them.

    In each of the three planes through a voxel, the distance to the nearest voxel that is not wrong
    is taken, in mm. The product of the three is largest in the middle of the largest compact error.
    A thin rim around a large organ has many wrong voxels, but is thin in one of the planes: it does
    not draw the eye away from a tumour that was missed. The depth is taken in planes because in a
    volume of thick slices, the next slice would otherwise limit the depth of every error. The edge
    of the volume ends an error.

    Args:
        wrong: Booleans `(Z, Y, X)`.
        spacing: Distance of neighbouring voxel centres along `(Z, Y, X)` in mm.

    Returns:
        The voxel, which is a wrong one; None where nothing is wrong.
    """
    if not wrong.any():
        return None
    box = bounding_box(wrong)
    part = wrong[box.slices]
    counts, steps = _count_in_blocks(part)
    size = int(np.prod(steps))
    # Blocks that are mostly wrong keep the extent of an error; where none is, the fullest counts.
    is_wrong_block = 2 * counts >= min(size, 2 * int(counts.max()))
    scaled = [length * step for length, step in zip(spacing, steps, strict=True)]
    depth = _depth_in_planes(is_wrong_block, scaled)
    block = np.unravel_index(int(depth.argmax()), depth.shape)
    centre = [int(index) * step + (step - 1) / 2 for index, step in zip(block, steps, strict=True)]
    nearest = _nearest_in_block(part, centre, steps)
    z, y, x = (int(a + b) for a, b in zip(nearest, box.start, strict=True))
    return z, y, x


def _depth_in_planes(mask: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    """Return the product of the distances to the edge of the mask in the planes of each axis."""
    from scipy.ndimage import distance_transform_edt  # slow to load, and only needed here

    depth = np.ones(mask.shape, np.float32)
    framed = np.pad(mask, 1)
    inner = (slice(1, -1),) * 3
    for axis in range(3):
        others = [length for other, length in enumerate(mask.shape) if other != axis]
        if min(others) == 1 and mask.shape[axis] != 1:
            continue  # the plane is a line: of a 2D image only the image itself counts
        # Neighbouring planes are so far away that the nearest voxel lies within the plane.
        sampling = list(spacing)
        sampling[axis] = 4 * float(np.dot(framed.shape, spacing))
        depth *= distance_transform_edt(framed, sampling=sampling)[inner].astype(np.float32)
    return depth


def _nearest_in_block(part: np.ndarray, centre: Sequence[float], steps: Place) -> np.ndarray:
    """Return the wrong voxel that is nearest to the centre of a block."""
    starts = [round(middle - (step - 1) / 2) for middle, step in zip(centre, steps, strict=True)]
    block = tuple(slice(start, start + step) for start, step in zip(starts, steps, strict=True))
    candidates = np.argwhere(part[block]) + starts
    distances = ((candidates - np.asarray(centre)) ** 2).sum(axis=1)
    return candidates[int(distances.argmin())]


def _count_in_blocks(mask: np.ndarray) -> tuple[np.ndarray, Place]:
    """Return the number of true voxels in each block, and the size of blocks in voxels."""
    steps = [1, 1, 1]
    shape = list(mask.shape)
    while np.prod(shape) > MOST_VOXELS:
        longest = int(np.argmax(shape))
        steps[longest] += 1
        shape[longest] = -(-mask.shape[longest] // steps[longest])
    counts = mask.astype(np.uint16)
    for axis, step in enumerate(steps):
        if step > 1:
            starts = np.arange(0, mask.shape[axis], step)
            counts = np.add.reduceat(counts, starts, axis=axis, dtype=np.uint16)
    return counts, (steps[0], steps[1], steps[2])


def place_of_most_foreground(foreground: np.ndarray) -> Place:
    """Find the three planes that hold most foreground each.

    Args:
        foreground: Booleans `(Z, Y, X)`.

    Returns:
        The index of the plane along each axis; the middle of the volume where there is none.
    """
    place = []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        counts = foreground.sum(axis=others)
        place.append(int(counts.argmax()) if counts.any() else len(counts) // 2)
    return place[0], place[1], place[2]


def box_around(structures: np.ndarray, place: Place, spacing: Sequence[float]) -> Box:
    """Choose the part of a volume to show enlarged.

    It is the box around the connected structure at the place, with a margin. Its shorter sides are
    at least half as long as its longest, so that a flat structure is seen in its surroundings.

    Args:
        structures: Booleans `(Z, Y, X)`: what either label map holds.
        place: The voxel in the middle of interest.
        spacing: Distance of neighbouring voxel centres along `(Z, Y, X)` in mm.

    Returns:
        The box, within the volume. It contains the place.
    """
    found = _structure_at(structures, place)
    extents = [(stop - start) * length for start, stop, length in zip(*found, spacing, strict=True)]
    shortest = max(max(extents) * (0.5 + _MARGIN), _LEAST_VOXELS * min(spacing))
    start, stop = [], []
    for axis, extent in enumerate(extents):
        length, size = spacing[axis], structures.shape[axis]
        wanted = max(extent * (1 + 2 * _MARGIN), shortest)
        voxels = min(max(round(wanted / length), round(_LEAST_SHARE * size), 1), size)
        middle = (found[0][axis] + found[1][axis]) / 2
        first = min(max(round(middle - voxels / 2), 0), size - voxels)
        start.append(min(first, place[axis]))
        stop.append(max(first + voxels, place[axis] + 1))
    return Box((start[0], start[1], start[2]), (stop[0], stop[1], stop[2]))


def _structure_at(structures: np.ndarray, place: Place) -> tuple[Place, Place]:
    """Return first and last corner of the connected structure at a place; of all if none is."""
    from scipy.ndimage import find_objects, label  # slow to load, and only needed here

    box = bounding_box(structures)
    counts, steps = _count_in_blocks(structures[box.slices])
    numbers, _ = label(counts > 0, np.ones((3, 3, 3), bool))
    inside = [index - first for index, first in zip(place, box.start, strict=True)]
    block = [index // step for index, step in zip(inside, steps, strict=True)]
    is_inside = all(0 <= index < size for index, size in zip(block, numbers.shape, strict=True))
    number = int(numbers[tuple(block)]) if is_inside else 0
    if number == 0:
        return box.start, box.stop
    ranges = find_objects((numbers == number).astype(np.uint8))[0]
    start, stop = [], []
    for axis, part in enumerate(ranges):
        start.append(box.start[axis] + part.start * steps[axis])
        stop.append(min(box.start[axis] + part.stop * steps[axis], box.stop[axis]))
    return (start[0], start[1], start[2]), (stop[0], stop[1], stop[2])
