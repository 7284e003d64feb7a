"""A case that is read to be drawn: its image, its label maps, and the place to look at."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from samnet.core.errors import UserError
from samnet.core.geometry import Box
from samnet.dataset.cases import Case
from samnet.dataset.description import DatasetDescription
from samnet.dataset.grey import is_grey
from samnet.dataset.images import Image, ending_of, has_orientation, read_image, read_labels
from samnet.evaluation.metrics import dice_per_class
from samnet.evaluation.overlays.error_maps import error_map, is_wrong
from samnet.evaluation.overlays.intensities import colour_range, intensity_window, scale_intensities
from samnet.evaluation.overlays.places import (
    Place,
    box_around,
    place_of_largest_error,
    place_of_most_foreground,
)
from samnet.evaluation.overlays.planes import Plane, ShownVolume

_MOST_PIXELS = 2048  # of a side of a plane; larger ones are drawn with fewer
_ENLARGED_BELOW = 0.4  # of the volume: smaller parts are drawn enlarged
_CT = "ct"  # the name of a channel in Hounsfield units


@dataclass(frozen=True)
class CaseFiles:
    """The files of a case to draw.

    Attributes:
        case: The case, with its images.
        prediction: Its predicted label map.
        reference: Its true label map, or None.
    """

    case: Case
    prediction: Path
    reference: Path | None = None


class ShownCase:
    """A case with the axes that figures show.

    Attributes:
        identifier: Its name.
        volume: Its axes.
        channels: Values `(C, Z, Y, X)`: three colours or one channel.
        prediction: Whole numbers `(Z, Y, X)`.
        reference: Whole numbers `(Z, Y, X)`, or None.
        label_scheme: The classes or regions.
        unit: Unit of lengths: `mm`, `pixels` or `voxels`.
        is_2d: Whether it is a 2D image.
        window: The intensities that are shown black and white.
    """

    def __init__(self, files: CaseFiles, description: DatasetDescription) -> None:
        """Read a case.

        Args:
            files: Its files. Of a grey image only the first channel is read.
            description: The data set, which declares channels and labels.

        Raises:
            UserError: A file is missing or unreadable, or a label map does not lie on the grid of
                the image.
        """
        self.identifier = files.case.identifier
        self.label_scheme = description.label_scheme
        image_file = files.case.image_files[0]
        image = read_image([image_file])
        grid = image.grid
        self.unit, self.is_2d = grid.unit, grid.is_2d
        self.volume = ShownVolume(grid, is_oriented=has_orientation(ending_of(image_file)))
        self.prediction = self._read_labels(files.prediction, image, image_file)
        self.reference = None
        if files.reference is not None:
            self.reference = self._read_labels(files.reference, image, image_file)
        is_colour = image.array.shape[0] == 3 and not is_grey(image.array)
        self.channels = self.volume.turn(image.array if is_colour else image.array[:1])
        if is_colour:
            self.window = colour_range(self.channels)
        else:
            is_ct = True if next(iter(description.channel_names)).lower() == _CT else None
            self.window = intensity_window(self.channels[0], self.structures, is_ct=is_ct)

    def _read_labels(self, file: Path, image: Image, image_file: Path) -> np.ndarray:
        """Read a label map `(Z, Y, X)` that lies on the grid of the image, and turn it."""
        labels = read_labels(file)
        difference = labels.grid.difference(image.grid)
        if difference is not None:
            remedy = "resample the label map to the grid of its image"
            if difference.kind != "shape":
                remedy += ", or correct the wrong header"
            raise UserError(f"{file}: {difference.describe(str(image_file))}; {remedy}")
        return self.volume.turn(labels.array[0])

    @cached_property
    def structures(self) -> np.ndarray:
        """Booleans `(Z, Y, X)`: what the prediction or the reference labels."""
        found = self.label_scheme.is_labelled(self.prediction)
        if self.reference is not None:
            found = found | self.label_scheme.is_labelled(self.reference)
        return found

    @cached_property
    def errors(self) -> np.ndarray | None:
        """The error map `(Z, Y, X)` of all classes; None without a reference."""
        if self.reference is None:
            return None
        return error_map(self.prediction, self.reference, self.label_scheme)

    @cached_property
    def place(self) -> Place:
        """The place to look at: that of the largest error, else of most foreground."""
        if self.errors is not None:
            found = place_of_largest_error(is_wrong(self.errors), self.volume.grid.spacing)
            if found is not None:
                return found
        return place_of_most_foreground(self.structures)

    @cached_property
    def enlarged(self) -> Box | None:
        """The part around the place that is worth enlarging; None where it is most of the image."""
        spacing = self.volume.grid.spacing
        box = box_around(self.structures, self.place, spacing)
        share = np.prod(box.shape) / np.prod(self.volume.grid.shape)
        return box if share < _ENLARGED_BELOW else None

    def dice(self) -> dict[str, float]:
        """Return the Dice of every class; empty without a reference, NaN for an absent class."""
        if self.reference is None:
            return {}
        dice = dice_per_class(self.prediction, self.reference, self.label_scheme)
        return dict(zip(self.label_scheme.class_names, dice.tolist(), strict=True))

    def image_of(self, plane: Plane, step: int | None = None) -> np.ndarray:
        """Return the image of a plane.

        Args:
            plane: The plane.
            step: Height and width of the blocks of pixels of which the mean is taken; None for
                that of `step_of`.

        Returns:
            Numbers from 0 to 1, `(rows, columns)`, or `(rows, columns, 3)` in colours.
        """
        cut = [plane.cut(channel) for channel in self.channels]
        image = scale_intensities(np.stack(cut, axis=-1), self.window)
        image = _mean_of_blocks(image, step or step_of(plane))
        return image if image.shape[-1] == 3 else image[..., 0]


def step_of(plane: Plane) -> int:
    """Return every how many pixels of a plane are drawn: 1 up to 2,048 along its longer side.

    Args:
        plane: The plane.
    """
    return -(-max(plane.shape) // _MOST_PIXELS)


def _mean_of_blocks(image: np.ndarray, step: int) -> np.ndarray:
    """Return the means of blocks of `step` by `step` pixels; those at the edge may be smaller."""
    if step == 1:
        return image
    rows, columns = (np.arange(0, length, step) for length in image.shape[:2])
    sums = np.add.reduceat(np.add.reduceat(image, rows, axis=0), columns, axis=1)
    num_rows = np.diff(np.append(rows, image.shape[0]))
    num_columns = np.diff(np.append(columns, image.shape[1]))
    return sums / np.outer(num_rows, num_columns)[..., None]
