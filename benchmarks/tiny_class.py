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
from samnet.dataset.cases import RawDataset
from samnet.dataset.dataset_folder import DatasetFolder
from samnet.dataset.images import read_labels, write_labels


def main() -> None:
    """Write the data set and print its folder."""
    options = parse()
    source = RawDataset.read(DatasetFolder.find(options.dataset))
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
    """
    for name in ("imagesTr", "labelsTr"):
        (target / name).mkdir(parents=True)
    description = json.loads(source.folder.description_file.read_text(encoding="utf-8"))
    value = 1 + max(description["labels"].values())
    cases = source.cases[: options.cases]
    for case in cases:
        for file in case.image_files:
            shutil.copy(file, target / "imagesTr")
        assert case.label_file is not None
        image = read_labels(case.label_file)
        labels = with_ball(image.array[0], options.label, options.radius, value)
        write_labels(labels, image, target / "labelsTr" / case.label_file.name)
    description["labels"]["tiny"] = value
    description["numTraining"] = len(cases)
    (target / "dataset.json").write_text(json.dumps(description), encoding="utf-8")


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
