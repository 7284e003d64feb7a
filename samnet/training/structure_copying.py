"""Copies structures of training cases into slices of others, where they could lie, too.

A structure is carved out with its surroundings and replaces a part of another slice, as in CarveMix
(Zhang et al. 2021, arXiv 2108.06883). It is scaled, flipped and put in another place, as in
Copy-Paste (Ghiasi et al. 2020, arXiv 2012.07177). The place has tissue, lies in the same organ, and
shows no other such structure. Intensities are shifted by how the surroundings differ.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from samnet.core.components import label_components
from samnet.training.copied_structure import CopiedStructure, Patch
from samnet.training.copying_target import CopyingTarget
from samnet.training.slice_reader import SliceReader

MAX_SCALE = 1.25  # largest factor by which a structure becomes larger or smaller
BLEND = 2  # pixels around a structure over which its surroundings fade out
RING = 3  # pixels behind these, in which the surroundings of source and target are compared
TRIES = 30  # places that are tried for a structure
MAX_PART = 0.25  # of a slice that a structure takes
_STREAM = 3  # sets the draws apart from those of samples
_BEYOND = -1  # label of what is beyond the edge of a slice


@dataclass(frozen=True)
class CopyDraws:
    """What is random of a copy.

    Attributes:
        source: Case, axis and slice of the structure.
        value: Its label.
        pixel: Which of the pixels with this label is in the structure, from 0 to 1.
        turn: 2 x 2, from mm around the place in the target to mm around the structure.
        across: 1, or -1 where its slices change places.
        places: Which of the possible pixels are tried as its place, each from 0 to 1.
    """

    source: tuple[int, int, int]
    value: int
    pixel: float
    turn: np.ndarray
    across: int
    places: np.ndarray


@dataclass(frozen=True)
class _Carved:
    """A structure on the grid of the target, in slices by their distance from the middle one.

    Attributes:
        labels: Labels `(h, w)` of the structure in each slice.
        images: Intensities `(C, h, w)` of each slice, on the scale of the target.
        host: Label of what lies around it.
        around: Where there is tissue with this label in a ring around it, in the middle slice.
    """

    labels: dict[int, np.ndarray]
    images: dict[int, np.ndarray]
    host: int
    around: np.ndarray


class StructureCopier:
    """Copies structures into a planned share of the samples.

    A structure is a connected part of the planned labels together, in a slice and in the neighbours
    that a sample shows with it.
    """

    def __init__(
        self,
        reader: SliceReader,
        places_by_class: Mapping[int, Sequence[tuple[int, int, np.ndarray]]],
    ) -> None:
        """Prepare the copying.

        Args:
            reader: The slices.
            places_by_class: The cases, axes and slices that show each label.
        """
        self._reader = reader
        self._share = reader.configuration.structure_copying
        self._values = reader.configuration.copied_labels
        ignore_label = reader.specification.label_scheme.ignore_label
        unknown = () if ignore_label is None else (ignore_label,)
        self._forbidden = (*self._values, *unknown)
        # Axis -> label -> cases and slices.
        self._sources: dict[int, dict[int, list[tuple[int, np.ndarray]]]] = {}
        for value in self._values:
            for case_index, axis, indices in places_by_class.get(value, []):
                of_axis = self._sources.setdefault(axis, {})
                of_axis.setdefault(value, []).append((case_index, indices))

    def copy_into(
        self, number: int, stack: tuple[int, int], index: int, shown: Sequence[int]
    ) -> CopiedStructure | None:
        """Decide what is copied into a sample.

        Args:
            number: The number of the sample. With the slices and the seed, it alone decides.
            stack: Case number and axis of the slices of the sample.
            index: The slice in their middle.
            shown: All slices that the sample shows.

        Returns:
            The structure; None where nothing is copied, or no place was found for it.
        """
        if not self._share:
            return None
        generator = np.random.default_rng([self._reader.specification.seed, number, _STREAM])
        if generator.random() >= self._share:
            return None
        draws = self._draw(generator, stack[1])
        if draws is None or draws.source == (*stack, index):
            return None
        target = CopyingTarget(self._reader, stack, index, shown, self._forbidden)
        carved = self._carve(draws, target, sorted({other - index for other in (index, *shown)}))
        if carved is None:
            return None
        patches = _find_place(carved, target, draws.places)
        if patches is None:
            return None
        moved = {index + offset: patch for offset, patch in patches.items()}
        return CopiedStructure(draws.source, draws.value, moved)

    def _draw(self, generator: np.random.Generator, axis: int) -> CopyDraws | None:
        sources = self._sources.get(axis)
        if not sources:
            return None
        value = list(sources)[generator.integers(len(sources))]
        case_index, indices = sources[value][generator.integers(len(sources[value]))]
        index = int(indices[generator.integers(len(indices))])
        pixel = float(generator.random())
        angle = generator.uniform(0, 2 * math.pi)
        zoom = math.exp(generator.uniform(-1, 1) * math.log(MAX_SCALE))
        flip, across = generator.choice([-1, 1], 2)
        cosine, sine = math.cos(angle), math.sin(angle)
        turn = np.array([[cosine, -sine * flip], [sine, cosine * flip]]) / zoom
        source = (case_index, axis, index)
        return CopyDraws(source, value, pixel, turn, int(across), generator.random(TRIES))

    def _carve(
        self, draws: CopyDraws, target: CopyingTarget, offsets: Sequence[int]
    ) -> _Carved | None:
        """Bring the drawn structure to the grid of the target."""
        case_index, axis, index = draws.source
        numbers = self._source_slices(draws, target, offsets)
        first = min(numbers.values())
        between = range(first, max(numbers.values()) + 1)
        labels = np.stack([self._reader.labels(case_index, axis, number) for number in between])
        structure = self._find_structure(labels, index - first, draws)
        middle = structure[index - first]
        if middle.mean() > MAX_PART:
            return None
        source_spacing = self._reader.cases[case_index].in_plane_spacing(axis)
        matrix = draws.turn * np.array(target.spacing) / np.array(source_spacing)[:, None]
        footprint = np.logical_or.reduce(structure, axis=0)
        grid = _grid_around(footprint, middle, matrix)
        raw = self._reader.raw_slices(case_index, axis, list(numbers.values()))
        scaled = target.to_scale_of_target(raw, self._reader.bounds[case_index])
        warped_labels, warped_images = {}, {}
        for (offset, number), image in zip(numbers.items(), scaled, strict=True):
            kept = labels[number - first] * structure[number - first]
            warped_labels[offset] = _nearest(kept, grid, 0)
            warped_images[offset] = np.stack([_linear(plane, grid) for plane in image])
        if not (warped_labels[0] == draws.value).any():
            return None
        all_labels = _nearest(labels[index - first].astype(np.int32), grid, _BEYOND)
        ring = self._find_ring(warped_labels[0], all_labels)
        if not ring.any():
            return None
        host = int(np.bincount(all_labels[ring]).argmax())
        around = ring & (all_labels == host) & target.is_tissue(warped_images[0])
        return _Carved(warped_labels, warped_images, host, around)

    def _find_ring(self, structure: np.ndarray, all_labels: np.ndarray) -> np.ndarray:
        """Return what is around a structure, without other structures and what is unknown."""
        distance = _distance(structure)
        ring = (distance > BLEND) & (distance <= BLEND + RING)
        return ring & (all_labels != _BEYOND) & ~np.isin(all_labels, self._forbidden)

    def _source_slices(
        self, draws: CopyDraws, target: CopyingTarget, offsets: Sequence[int]
    ) -> dict[int, int]:
        """Return the slices of the source that are as far from the middle as those of the target.

        Those beyond the ends of the source are left out.
        """
        case_index, axis, index = draws.source
        source = self._reader.cases[case_index]
        ratio = target.spacing_across / source.record.spacing[axis]
        numbers = {offset: index + draws.across * round(offset * ratio) for offset in offsets}
        count = source.num_slices(axis)
        return {offset: number for offset, number in numbers.items() if 0 <= number < count}

    def _find_structure(self, labels: np.ndarray, middle: int, draws: CopyDraws) -> np.ndarray:
        """Return where the drawn structure is in labels `(D, H, W)`."""
        rows, columns = np.nonzero(labels[middle] == draws.value)
        chosen = int(draws.pixel * len(rows))
        components, _ = label_components(np.isin(labels, self._values))
        return components == components[middle, rows[chosen], columns[chosen]]


def _grid_around(structure: np.ndarray, middle: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Return where on the source the pixels of the target lie, `(2, h, w)` rows and columns.

    The grid has the structure `(H, W)`, and what is looked at around it. Its middle is that of the
    structure in the middle slice. The matrix leads from pixels of the target to those of the
    source.
    """
    centre = np.array([axis.mean() for axis in np.nonzero(middle)])
    rows, columns = np.nonzero(structure)
    corners = [
        (row, column)
        for row in (rows.min(), rows.max())
        for column in (columns.min(), columns.max())
    ]
    on_target = np.abs((np.array(corners) - centre) @ np.linalg.inv(matrix).T).max(axis=0)
    half_rows, half_columns = np.ceil(on_target).astype(int) + BLEND + RING + 1
    down = np.arange(-half_rows, half_rows + 1)
    along = np.arange(-half_columns, half_columns + 1)
    offsets = np.stack(np.meshgrid(down, along, indexing="ij"))
    return np.einsum("ij,jhw->ihw", matrix, offsets) + centre[:, None, None]


def _nearest(plane: np.ndarray, grid: np.ndarray, beyond: int) -> np.ndarray:
    return ndimage.map_coordinates(plane, grid, order=0, mode="constant", cval=beyond)


def _linear(plane: np.ndarray, grid: np.ndarray) -> np.ndarray:
    return ndimage.map_coordinates(plane, grid, order=1, mode="nearest")


def _distance(labels: np.ndarray) -> np.ndarray:
    """Return the distance in pixels of each pixel from a structure; 0 within it."""
    return ndimage.distance_transform_edt(labels == 0)


def _find_place(
    carved: _Carved, target: CopyingTarget, places: np.ndarray
) -> dict[int, Patch] | None:
    """Return the patches of a structure, by the distance of their slices, at the first good place.

    None where none of the places is good.
    """
    shown = {offset: labels for offset, labels in carved.labels.items() if labels.any()}
    weights = {
        offset: (1 - _distance(labels) / (BLEND + 1)).clip(0, 1).astype(np.float32)
        for offset, labels in shown.items()
    }
    changed = np.any([weight > 0 for weight in weights.values()], axis=0)
    for place in target.draw_places(carved.host, places):
        on_target, on_grid = target.overlap(place, carved.around.shape)
        if not target.is_plausible(on_target, carved.labels[0], changed, on_grid, carved.host):
            continue
        shift = target.shift(on_target, carved.images[0], carved.around, on_grid, carved.host)
        if shift is None:
            continue
        return {
            offset: Patch(
                *on_target,
                labels[on_grid],
                (carved.images[offset] + shift)[:, on_grid[0], on_grid[1]],
                weights[offset][on_grid],
            )
            for offset, labels in shown.items()
        }
    return None
