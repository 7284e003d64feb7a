"""The labels of a case: all its structures on the grid of its series."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from samnet.dataset.dicom_studies.case_search import StudyCase
from samnet.dataset.dicom_studies.combinations import CombinationMap
from samnet.dataset.dicom_studies.contours import fill_contours
from samnet.dataset.dicom_studies.geometry import SeriesGeometry
from samnet.dataset.dicom_studies.label_files import LabelFile
from samnet.dataset.dicom_studies.objects import STRUCTURE_SET
from samnet.dataset.dicom_studies.segments import read_segment, read_segmentation
from samnet.dataset.dicom_studies.structure_names import NameTable
from samnet.dataset.dicom_studies.structure_sets import read_contours


@dataclass(frozen=True)
class CaseLabels:
    """The labels of a case.

    Attributes:
        structures: Which classes each voxel lies in.
        doubts: Sentences on what is odd about the label files.
    """

    structures: CombinationMap
    doubts: list[str] = field(default_factory=list)


def read_case_labels(
    case: StudyCase, geometry: SeriesGeometry, table: NameTable, threshold: float
) -> CaseLabels:
    """Read all structures of a case that the table keeps.

    Args:
        case: The case.
        geometry: How the slices of its reference lie.
        table: What the structures become.
        threshold: The lowest share or probability of a fractional segmentation that counts.

    Returns:
        The labels.

    Raises:
        UserError: A label file is damaged, or does not lie on the slices.
    """
    found = CaseLabels(CombinationMap(geometry.grid.shape))
    for file in case.labels:
        labels = {
            entry.number: table.labels[entry.name]
            for entry in file.structures
            if table.labels[entry.name]
        }
        names = {entry.number: entry.name for entry in file.structures}
        for number, mask, doubts in _read_masks(file, geometry, list(labels), threshold):
            found.structures.add(labels[number], mask)
            where = f"{file.source.file}: {names[number]}"
            found.doubts.extend(f"{where}: {text}" for text in doubts)
            if not mask.any():
                found.doubts.append(
                    f"{file.source.file}: {names[number]}: has no voxel on the slices of the series"
                )
    return found


def _read_masks(
    file: LabelFile, geometry: SeriesGeometry, numbers: list[int], threshold: float
) -> Iterator[tuple[int, np.ndarray, list[str]]]:
    """Yield number, mask `(Z, Y, X)` and doubts of each structure that is kept."""
    if file.source.modality == STRUCTURE_SET:
        contours = read_contours(file.source.file)
        for number in numbers:
            filled = fill_contours(contours.get(number, []), geometry)
            yield number, filled.mask, filled.doubts
        return
    segmentation = read_segmentation(file.source.file)
    for number in numbers:
        yield number, *read_segment(segmentation, number, geometry, threshold)
