"""What plain SAM makes of a data set when it is shown a box around every object of the reference.

This is no prediction, as the boxes come from the reference: it tells what adapting SAM is worth, and how hard the
objects are to outline once they are found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor
from tqdm import tqdm

from samnet.core.errors import SamnetError, UserError
from samnet.core.worker_pool import Outcome
from samnet.dataset.alignment import read_aligned_image
from samnet.dataset.cases import Case, label_file_of
from samnet.dataset.images import read_labels, write_labels
from samnet.dataset.label_scheme import Regions, label_sets_of, mask_of
from samnet.inference.files import output_file
from samnet.inference.outputs import outputs_for
from samnet.models.prompted import STRIDE, BoxPromptedSam
from samnet.plan.configuration import Configuration
from samnet.preprocessing.case import PreparedVolume, prepare_labels, prepare_volume
from samnet.preprocessing.channels import compose_channels
from samnet.preprocessing.intensity import apply_window, window_bounds
from samnet.preprocessing.slice_frame import SliceFrame, frame_slice


@dataclass(frozen=True)
class ZeroShot:
    """configuration: for intensities and slicing. num_classes: foreground. margin: around boxes, in slice pixels.

    regions: what the boxes are drawn around, in place of classes.
    """

    network: BoxPromptedSam
    configuration: Configuration
    num_classes: int
    input_size: int
    margin: int = 0
    regions: Regions | None = None

    def segment(self, volume: PreparedVolume, reference: np.ndarray) -> np.ndarray:
        """Labels `(Z, Y, X)` of a prepared volume from boxes around the objects of its reference of the same shape."""
        axis = self.configuration.slicing_axis
        bounds = window_bounds(self.configuration.intensity, volume.quantiles)
        images, planes = np.moveaxis(volume.array, axis + 1, 0), np.moveaxis(reference, axis, 0)
        labels: np.ndarray = np.zeros(
            planes.shape, outputs_for(self.regions).label_type(self.num_classes + 1)
        )
        frame = self._frame(volume, planes.shape[1:], axis)
        for index in np.flatnonzero(planes.any(axis=(1, 2))):
            image = _as_colours(apply_window(images[index], bounds))
            labels[index] = self._segment_slice(image, planes[index], frame)
        return np.moveaxis(labels, 0, axis)

    def _frame(self, volume: PreparedVolume, size: tuple[int, ...], axis: int) -> SliceFrame:
        rows, columns = (index for index in range(3) if index != axis)
        spacing = (volume.spacing[rows], volume.spacing[columns])
        # The whole slice fills the input, as in SAM's own preparation of an image.
        zoom = self.input_size / max(
            length * step for length, step in zip(size, spacing, strict=True)
        )
        return frame_slice((size[0], size[1]), spacing, 1.0, zoom, self.input_size)

    def _segment_slice(self, image: Tensor, plane: np.ndarray, frame: SliceFrame) -> np.ndarray:
        classes = self.num_classes if self.regions is None else self.regions.label_sets
        boxes, numbers = find_boxes(plane, classes, self.margin)
        if not boxes:
            return np.zeros(plane.shape)
        device = next(self.network.parameters()).device
        on_canvas = torch.tensor([_to_canvas(box, frame) for box in boxes], device=device)
        logits = self.network(frame.to_canvas(image).to(device), on_canvas)
        native = frame.from_canvas(logits, STRIDE).cpu()
        if self.regions is None:
            strongest, winners = native.max(dim=0)
            return np.where(strongest.numpy() > 0, np.array(numbers)[winners.numpy()], 0)
        return _draw_regions(native.numpy() > 0, np.array(numbers), self.regions)


def _draw_regions(masks: np.ndarray, numbers: np.ndarray, regions: Regions) -> np.ndarray:
    """Labels `(H, W)` from the masks of objects `(N, H, W)`, each of the region of its number."""
    labels = np.zeros(masks.shape[1:], np.int64)
    for number, label in enumerate(regions.class_order, 1):
        labels[masks[numbers == number].any(axis=0)] = label
    return labels


def find_boxes(
    plane: np.ndarray, classes: int | Sequence[Sequence[int]], margin: int
) -> tuple[list[tuple[float, ...]], list[int]]:
    """Boxes (left, top, right, bottom, in pixels of a label slice `(H, W)`) around every object, and their classes.

    classes: how many, or the values of each class or region; they are numbered from 1 on.
    """
    boxes: list[tuple[float, ...]] = []
    numbers: list[int] = []
    for number, values in enumerate(label_sets_of(classes), 1):
        labelled, _ = ndimage.label(mask_of(plane, values), structure=np.ones((3, 3)))
        for rows, columns in ndimage.find_objects(labelled):
            boxes.append(
                (
                    float(max(0, columns.start - margin)),
                    float(max(0, rows.start - margin)),
                    float(min(plane.shape[1], columns.stop + margin)),
                    float(min(plane.shape[0], rows.stop + margin)),
                )
            )
            numbers.append(number)
    return boxes, numbers


def _to_canvas(box: tuple[float, ...], frame: SliceFrame) -> list[float]:
    return [
        edge * frame.scale[axis] + frame.offset(axis)
        for edge, axis in zip(box, (1, 0, 1, 0), strict=True)
    ]


def _as_colours(image: np.ndarray) -> Tensor:
    """Three channels `(3, H, W)` from a slice `(C, H, W)`: grey three times, others as a plan would, or their mean."""
    layouts = {1: "repeat", 2: "pair_mean", 3: "as_is"}
    if len(image) in layouts:
        return torch.from_numpy(
            np.ascontiguousarray(compose_channels(image[None], layouts[len(image)]))
        )
    return torch.from_numpy(np.repeat(image.mean(axis=0, keepdims=True), 3, axis=0))


def zero_shot_cases(model: ZeroShot, cases: Sequence[Case], references: Path, output: Path) -> None:
    """Write a label map for every case into `output`; the references give the boxes.

    Raises:
        UserError: a reference is missing. SamnetError: cases failed; each is named, the others are written.
    """
    output.mkdir(parents=True, exist_ok=True)
    outcome = Outcome()
    for case in tqdm(cases, desc="zero shot", unit="case"):
        try:
            outcome.results[case.identifier] = _zero_shot_case(model, case, references, output)
        except SamnetError as error:
            outcome.failures[case.identifier] = str(error)
    outcome.raise_if_failed("zero shot")


def _zero_shot_case(model: ZeroShot, case: Case, references: Path, output: Path) -> Path:
    image = read_aligned_image(case)
    reference_file = label_file_of(case, references) or output_file(case, references)
    reference = read_labels(reference_file)
    if reference.grid.shape != image.grid.shape:
        raise UserError(
            f"{reference_file}: shape {reference.grid.shape} differs from {image.grid.shape} of its image"
        )
    volume = prepare_volume(image.array, image.grid, reference.array[0])
    labels = model.segment(volume, prepare_labels(reference.array[0], volume))
    file = output_file(case, output)
    write_labels(volume.restore(labels), image, file)
    return file
