r"""Write a data set with a tiny class, to see whether training runs find it.

The first cases of a data set of volumes get another class: the voxels within a distance of the
centre of one of their classes, which lies over whatever is labelled there.

    python benchmarks/tiny_class.py 4 --number 41 --output RAW

Writes RAW/DatasetNNN_Tiny, without test cases.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import numpy as np
from runs import start

from samnet.core.errors import UserError
from samnet.dataset.cases import Case, RawDataset
from samnet.dataset.images import Image, read_labels, write_labels


def main() -> None:
    """Write the data set and print its folder."""
    options = parse()
    source = RawDataset.load(options.dataset)
    target = options.output / f"Dataset{options.number:03d}_Tiny"
    if target.exists():
        raise UserError(f"{target} is there; delete it, or choose another --number")
    write_dataset(source, target, options)
    print(target)


def parse() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dataset", help="id or name of a raw data set of volumes")
    parser.add_argument("--label", type=int, default=1, help="value of the class (default: 1)")
    parser.add_argument("--radius", type=float, default=1.5, help="in voxels (default: 1.5)")
    parser.add_argument("--cases", type=int, default=40, help="number of cases (default: 40)")
    parser.add_argument("--number", type=int, required=True, help="id of the new data set")
    parser.add_argument("--output", type=Path, required=True, help="a folder of raw data sets")
    return parser.parse_args()


def write_dataset(source: RawDataset, target: Path, options: argparse.Namespace) -> None:
    """Write images, label maps and description.

    Args:
        source: The data set.
        target: The folder to write.
        options: The options of the script.

    Raises:
        UserError: The data set has regions or an ignore label, or a case does not show the class;
            nothing is written.
    """
    scheme = source.description.label_scheme
    if scheme.regions is not None or scheme.ignore_label is not None:
        raise UserError(
            f"{source.name} has regions or an ignore label; take one with plain classes"
        )
    value = 1 + scheme.highest_value
    cases = source.cases[: options.cases]
    maps = [read_class(case, options.label) for case in cases]
    for name in ("imagesTr", "labelsTr"):
        (target / name).mkdir(parents=True)
    for case, image in zip(cases, maps, strict=True):
        for file in case.image_files:
            shutil.copy(file, target / "imagesTr")
        labels = with_ball(image.array[0], options.label, options.radius, value)
        assert case.label_file is not None
        write_labels(labels, image, target / "labelsTr" / case.label_file.name)
    description = json.loads(source.folder.description_file.read_text(encoding="utf-8"))
    description["labels"]["tiny"] = value
    description["numTraining"] = len(cases)
    (target / "dataset.json").write_text(json.dumps(description), encoding="utf-8")


def read_class(case: Case, label: int) -> Image:
    """Read the label map of a case.

    Args:
        case: The case.
        label: The value of a class.

    Returns:
        The label map.

    Raises:
        UserError: It does not show the class.
    """
    assert case.label_file is not None
    image = read_labels(case.label_file)
    if not (image.array == label).any():
        raise UserError(
            f"{case.label_file} shows no voxel of label {label}; choose another --label"
        )
    return image


def with_ball(labels: np.ndarray, label: int, radius: float, value: int) -> np.ndarray:
    """Return labels with a ball around the centre of a class.

    Args:
        labels: A label map `(Z, Y, X)`.
        label: The value of the class.
        radius: The largest distance from its centre, in voxels.
        value: The value within the ball.

    Returns:
        A label map of the same shape.
    """
    centre = np.argwhere(labels == label).mean(axis=0)
    offsets = np.indices(labels.shape) - centre[:, None, None, None]
    return np.where((offsets**2).sum(axis=0) <= radius**2, value, labels).astype(labels.dtype)


if __name__ == "__main__":
    start(main)
