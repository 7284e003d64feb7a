"""Pairs of a prediction and its reference, and whether the two can be compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from samnet.core.errors import UserError
from samnet.core.geometry import Grid
from samnet.dataset.cases import find_label_files
from samnet.dataset.description import DatasetDescription
from samnet.dataset.images import Image, read_labels
from samnet.evaluation.volumes import volume_unit


@dataclass(frozen=True)
class Pair:
    """A prediction and its reference.

    Attributes:
        identifier: Name of the case.
        prediction_file: The predicted label map.
        reference_file: The true label map.
    """

    identifier: str
    prediction_file: Path
    reference_file: Path


@dataclass(frozen=True)
class Pairing:
    """What two folders of label maps have in common.

    Attributes:
        pairs: The cases that are in both, sorted by name.
        skipped: Names of the cases that are in one of them only, sorted.
        faults: One sentence for each file of these cases.
    """

    pairs: tuple[Pair, ...]
    skipped: tuple[str, ...]
    faults: tuple[str, ...]


def pair_files(
    predictions: Path, references: Path | Mapping[str, Path], endings: Sequence[str]
) -> Pairing:
    """Find the label maps of both sides and match them by name.

    Args:
        predictions: Folder of predicted label maps.
        references: Folder of true label maps, or name of a case -> its label map.
        endings: File endings of the label maps in folders.

    Returns:
        The pairs, and the files that have no partner.

    Raises:
        UserError: A folder does not exist or has no such file, or there is no common case.
    """
    predicted = _label_files(predictions, endings)
    expected = _label_files(references, endings) if isinstance(references, Path) else references
    common = sorted(set(predicted) & set(expected))
    if not common:
        one, other = predicted[min(predicted)], expected[min(expected)]
        raise UserError(
            f"{predictions} and {other.parent} have no case in common: there are {one.name} and "
            f"{other.name}; a prediction has the name of its reference"
        )
    missing = [
        f"{predictions / file.name}: missing, the prediction of {file}; predict the case, or add "
        "--missing skip"
        for name, file in sorted(expected.items())
        if name not in predicted
    ]
    surplus = [
        f"{file}: has no reference of that name; add it or remove the prediction, or add "
        "--missing skip"
        for name, file in sorted(predicted.items())
        if name not in expected
    ]
    return Pairing(
        pairs=tuple(Pair(name, predicted[name], expected[name]) for name in common),
        skipped=tuple(sorted(set(predicted) ^ set(expected))),
        faults=(*missing, *surplus),
    )


def _label_files(folder: Path, endings: Sequence[str]) -> dict[str, Path]:
    files = find_label_files(folder, endings)
    if not files:
        raise UserError(
            f"{folder}: holds no {endings[0]} file, which is what dataset.json names as file ending"
        )
    return files


@dataclass(frozen=True)
class PairCheck:
    """What the check of a pair found.

    Attributes:
        faults: The reasons for which it cannot be compared, one sentence each.
        unit: The unit of its distances: `mm`, or `pixels` or `voxels` where no spacing is known.
        diagonal: The diagonal of the image in this unit.
        volume_unit: The unit of its volumes: `mL`, `mm2`, `pixels` or `voxels`.
    """

    faults: tuple[str, ...]
    unit: str
    diagonal: float
    volume_unit: str


def check_pair(pair: Pair, description: DatasetDescription) -> PairCheck:
    """Check whether a pair can be compared.

    Args:
        pair: The two files.
        description: The data set, which declares the labels.

    Returns:
        What was found.

    Raises:
        UserError: One or both of the files cannot be read.
    """
    prediction, reference = read_pair(pair)
    highest = description.label_scheme.highest_value
    faults = _grid_faults(pair, prediction, reference)
    faults += value_faults(pair.prediction_file, prediction, highest)
    faults += value_faults(pair.reference_file, reference, highest)
    grid = known_grid(prediction, reference)
    diagonal = float(np.linalg.norm(np.multiply(grid.shape, grid.spacing)))
    return PairCheck(tuple(faults), grid.unit, diagonal, volume_unit(grid))


def known_grid(prediction: Image, reference: Image) -> Grid:
    """Return the grid of the reference, or that of the prediction where only this has a spacing.

    Args:
        prediction: The prediction.
        reference: Its reference.
    """
    has_spacing = reference.grid.has_spacing or not prediction.grid.has_spacing
    return reference.grid if has_spacing else prediction.grid


def _grid_faults(pair: Pair, prediction: Image, reference: Image) -> list[str]:
    difference = prediction.grid.difference(reference.grid)
    if difference is None:
        return []
    remedy = "resample the prediction to the reference's grid"
    if difference.kind != "shape":
        remedy += ", or correct the wrong header"
    found = difference.describe(str(pair.reference_file))
    return [f"{pair.prediction_file}: {found}; {remedy}"]


def value_faults(file: Path, label_map: Image, highest: int) -> list[str]:
    """Check the values of a label map.

    Args:
        file: Its file, for the message.
        label_map: The label map.
        highest: The highest value that the data set declares.

    Returns:
        A sentence if there is a higher one; else nothing.
    """
    found = int(label_map.array.max())
    if found <= highest:
        return []
    # Programs for 2D images often write the only class of a mask as white.
    is_white_mask = found == 255 and highest == 1
    remedy = (
        "map 255 to 1, as samnet_convert_folder does"
        if is_white_mask
        else "correct the voxels, or declare the label"
    )
    return [f"{file}: has the label {found}, dataset.json declares 0 to {highest}; {remedy}"]


def read_pair(pair: Pair) -> tuple[Image, Image]:
    """Read both label maps of a pair.

    Args:
        pair: The two files.

    Returns:
        Prediction and reference, each an array `(1, Z, Y, X)` of whole numbers.

    Raises:
        UserError: One or both cannot be read. The message names every file that cannot.
    """
    images, errors = [], []
    for file in (pair.prediction_file, pair.reference_file):
        try:
            images.append(read_labels(file))
        except UserError as error:
            errors.append(str(error))
    if errors:
        raise UserError("; ".join(errors))
    return images[0], images[1]
