"""What plain SAM makes of a data set when it is shown a box around every object of the reference.

This is not a prediction, as the boxes come from the reference. It tells what adapting SAM is worth,
and how hard the objects are to outline once they are found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from samnet.core.errors import SamnetError, UserError
from samnet.core.progress import ProgressBar
from samnet.core.worker_pool import Outcome
from samnet.dataset.alignment import read_aligned_image
from samnet.dataset.cases import Case, label_file_of
from samnet.dataset.images import read_labels, write_labels
from samnet.dataset.label_scheme import LabelScheme, Regions, mask_of
from samnet.inference.files import output_file
from samnet.inference.outputs import outputs_for
from samnet.models.prompted import STRIDE, BoxPromptedSam
from samnet.plan.configuration import Configuration
from samnet.preprocessing.case import PreparedVolume, prepare_labels, prepare_volume
from samnet.preprocessing.channels import compose_channels
from samnet.preprocessing.intensity import apply_window, window_bounds
from samnet.preprocessing.slice_frame import SliceFrame


@dataclass(frozen=True)
class ZeroShot:
    """Plain SAM with boxes as prompts.

    Attributes:
        network: SAM with box prompts.
        configuration: Tells intensities and slicing axis.
        label_scheme: The classes or regions around which boxes are drawn.
        input_size: Edge of the network's input in pixels.
        margin: Distance of the boxes from the objects, in slice pixels.
    """

    network: BoxPromptedSam
    configuration: Configuration
    label_scheme: LabelScheme
    input_size: int
    margin: int = 0

    def segment(self, volume: PreparedVolume, reference: np.ndarray) -> np.ndarray:
        """Segment a prepared volume with boxes around the objects of its reference.

        Args:
            volume: The image.
            reference: Its label map `(Z, Y, X)`.

        Returns:
            Labels `(Z, Y, X)`.
        """
        axis = self.configuration.slicing_axis
        bounds = window_bounds(self.configuration.intensity, volume.quantiles)
        images = np.moveaxis(volume.array, axis + 1, 0)
        planes = np.moveaxis(reference, axis, 0)
        outputs = outputs_for(self.label_scheme)
        labels: np.ndarray = np.zeros(
            planes.shape, outputs.label_type(self.label_scheme.num_classes + 1)
        )
        frame = self._frame(volume, planes.shape[1:], axis)
        for index in np.flatnonzero(planes.any(axis=(1, 2))):
            image = _as_colours(apply_window(images[index], bounds))
            labels[index] = self._segment_slice(image, planes[index], frame)
        return np.moveaxis(labels, 0, axis)

    def _frame(self, volume: PreparedVolume, size: tuple[int, ...], axis: int) -> SliceFrame:
        rows, columns = (index for index in range(3) if index != axis)
        spacing = (volume.spacing[rows], volume.spacing[columns])
        return frame_as_sam((size[0], size[1]), spacing, self.input_size)

    def _segment_slice(self, image: Tensor, plane: np.ndarray, frame: SliceFrame) -> np.ndarray:
        boxes, numbers = find_object_boxes(plane, self.label_scheme.label_sets, self.margin)
        if not boxes:
            return np.zeros(plane.shape)
        device = next(self.network.parameters()).device
        on_canvas = torch.tensor([_to_canvas(box, frame) for box in boxes], device=device)
        rows, columns = filled_pixels(frame)
        shown = frame.to_canvas(image)[:, :rows, :columns]
        logits = self.network(shown.to(device), on_canvas)
        native = frame.from_canvas(logits, STRIDE).cpu()
        regions = self.label_scheme.regions
        if regions is None:
            strongest, winners = native.max(dim=0)
            return np.where(strongest.numpy() > 0, np.array(numbers)[winners.numpy()], 0)
        return draw_regions(native.numpy() > 0, np.array(numbers), regions)


def frame_as_sam(
    size: tuple[int, int], spacing: tuple[float, float], input_size: int
) -> SliceFrame:
    """Place a slice as SAM's own preparation of an image does (arXiv 2304.02643, and its code).

    The longer edge fills the input. The slice lies in the upper left corner, and its edges are
    whole pixels of the input.

    Args:
        size: Rows and columns of the slice in pixels.
        spacing: Spacing of its rows and columns in mm.
        input_size: Edge of the network's input in pixels.

    Returns:
        The frame.
    """
    lengths = [count * step for count, step in zip(size, spacing, strict=True)]
    zoom = input_size / max(lengths)
    edges = [max(1, int(length * zoom + 0.5)) for length in lengths]
    scale = (edges[0] / size[0], edges[1] / size[1])
    return SliceFrame(size, scale, (input_size, input_size), is_centred=False)


def filled_pixels(frame: SliceFrame) -> tuple[int, int]:
    """Return how many rows and columns of its canvas a slice fills.

    Args:
        frame: A frame of `frame_as_sam`.
    """
    return round(frame.size[0] * frame.scale[0]), round(frame.size[1] * frame.scale[1])


def draw_regions(masks: np.ndarray, numbers: np.ndarray, regions: Regions) -> np.ndarray:
    """Draw the masks of objects into one label map, region by region.

    Args:
        masks: Booleans `(N, H, W)` of N objects.
        numbers: The number of each object's region, from 1 on.
        regions: The regions.

    Returns:
        Labels `(H, W)`.
    """
    labels = np.zeros(masks.shape[1:], np.int64)
    for number, label in enumerate(regions.class_order, 1):
        labels[masks[numbers == number].any(axis=0)] = label
    return labels


def find_object_boxes(
    plane: np.ndarray, label_sets: Sequence[Sequence[int]], margin: int
) -> tuple[list[tuple[float, ...]], list[int]]:
    """Find boxes around every object of a label slice.

    Args:
        plane: Labels `(H, W)`.
        label_sets: The values of each class or region.
        margin: Distance of the boxes from the objects, in pixels.

    Returns:
        Boxes (left, top, right, bottom, in pixels), and the number of each box's class or region,
        from 1 on.
    """
    boxes: list[tuple[float, ...]] = []
    numbers: list[int] = []
    for number, values in enumerate(label_sets, 1):
        labelled, _ = ndimage.label(mask_of(plane, values), structure=np.ones((3, 3)))
        for rows, columns in ndimage.find_objects(labelled):
            left, top = max(0, columns.start - margin), max(0, rows.start - margin)
            right = min(plane.shape[1], columns.stop + margin)
            bottom = min(plane.shape[0], rows.stop + margin)
            boxes.append((float(left), float(top), float(right), float(bottom)))
            numbers.append(number)
    return boxes, numbers


def _to_canvas(box: tuple[float, ...], frame: SliceFrame) -> list[float]:
    """Bring a box (left, top, right, bottom) from slice pixels to canvas pixels."""
    axes = (1, 0, 1, 0)  # columns for left and right, rows for top and bottom
    return [
        edge * frame.scale[axis] + frame.offset(axis) for edge, axis in zip(box, axes, strict=True)
    ]


def _as_colours(image: np.ndarray) -> Tensor:
    """Return three channels `(3, H, W)` of a slice `(C, H, W)`.

    Grey is repeated, two or three channels are composed as by a plan, more are averaged.
    """
    layouts = {1: "repeat", 2: "pair_mean", 3: "as_is"}
    if len(image) in layouts:
        composed = compose_channels(image[None], layouts[len(image)])
        return torch.from_numpy(np.ascontiguousarray(composed))
    return torch.from_numpy(np.repeat(image.mean(axis=0, keepdims=True), 3, axis=0))


def zero_shot_cases(model: ZeroShot, cases: Sequence[Case], references: Path, output: Path) -> None:
    """Write a label map for every case.

    Args:
        model: Plain SAM.
        cases: The cases.
        references: The folder of the label maps that give the boxes.
        output: The folder for the label maps.

    Raises:
        UserError: A reference is missing.
        SamnetError: Cases failed; each is named, the others are written.
    """
    output.mkdir(parents=True, exist_ok=True)
    outcome = Outcome()
    for case in ProgressBar(cases, desc="zero shot", unit="case"):
        try:
            outcome.results[case.identifier] = _zero_shot_case(model, case, references, output)
        except SamnetError as error:
            outcome.failures[case.identifier] = str(error)
    outcome.raise_if_failed("zero shot")


def _zero_shot_case(model: ZeroShot, case: Case, references: Path, output: Path) -> Path:
    image = read_aligned_image(case)
    reference_file = label_file_of(case, references) or output_file(case, references)
    reference = read_labels(reference_file)
    difference = reference.grid.difference(image.grid)
    if difference is not None and difference.kind == "shape":
        raise UserError(f"{reference_file}: {difference.describe('its image')}")
    volume = prepare_volume(image.array, image.grid, reference.array[0])
    labels = model.segment(volume, prepare_labels(reference.array[0], volume))
    file = output_file(case, output)
    write_labels(volume.restore(labels), image, file)
    return file
