"""Tasks of the Medical Segmentation Decathlon (medicaldecathlon.com) as raw data sets."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from tqdm import tqdm

from samnet.core.errors import DatasetFaults, UserError
from samnet.core.files import read_json, write_json
from samnet.dataset.images import ending_of, name_without_ending
from samnet.dataset.new_dataset import making_dataset

_TASK = re.compile(r"^Task(\d+)_(.+)$")
_ENDING = ".nii.gz"


@dataclass(frozen=True)
class Task:
    """A task as its `dataset.json` describes it.

    number, name: of the folder `TaskNN_Name`, or None where it is called otherwise.
    channel_names, class_names: in the order of their values; the first class is the background.
    training: image and label map of each case. test: images.
    """

    folder: Path
    number: int | None
    name: str | None
    channel_names: tuple[str, ...]
    class_names: tuple[str, ...]
    training: dict[str, tuple[Path, Path]]
    test: dict[str, Path]

    def describe(self) -> str:
        """What would be made of it, for people."""
        split = "4D images, split into their channels" if len(self.channel_names) > 1 else "copied"
        return (
            f"{self.folder}: {len(self.training)} training and {len(self.test)} test cases ({split})\n"
            f"channels: {', '.join(self.channel_names)}\n"
            f"labels: {', '.join(f'{value} {name}' for value, name in enumerate(self.class_names))}"
        )


def read_task(folder: Path) -> Task:
    """Read a task's `dataset.json`, and check that its files are there and have its channels.

    Raises:
        UserError: there is no `dataset.json` of the Decathlon's form.
        DatasetFaults: files are missing, unreadable or of another shape; all are reported.
    """
    path = folder / "dataset.json"
    content = read_json(path)
    if not isinstance(content, dict) or not isinstance(content.get("training"), list):
        raise UserError(f'{path}: is not of the Decathlon\'s form (no list "training")')
    channels, classes = _names(content, "modality", path), _names(content, "labels", path)
    training, test = {}, {}
    try:
        for entry in content["training"]:
            image, label = folder / entry["image"], folder / entry["label"]
            training[name_without_ending(image)] = image, label
        for entry in content.get("test", []):
            test[name_without_ending(Path(entry))] = folder / entry
    except (KeyError, TypeError, AttributeError):
        raise UserError(
            f'{path}: expected "training" as {{"image": FILE, "label": FILE}}, "test" as FILE'
        ) from None
    images = [*(image for image, _ in training.values()), *test.values()]
    faults = [fault for image in images for fault in _image_faults(image, len(channels))]
    faults += [f"{label}: no such file" for _, label in training.values() if not label.is_file()]
    if faults:
        raise DatasetFaults(str(folder), faults)
    match = _TASK.match(folder.resolve().name)
    number, name = (int(match[1]), match[2]) if match else (None, None)
    return Task(folder, number, name, channels, classes, training, test)


def _names(content: dict[str, Any], key: str, path: Path) -> tuple[str, ...]:
    names = content.get(key)
    if not isinstance(names, dict) or sorted(names) != sorted(
        str(value) for value in range(len(names))
    ):
        raise UserError(f'{path}: "{key}" is {names!r}; expected {{"0": NAME, "1": NAME, ...}}')
    return tuple(str(names[str(value)]) for value in range(len(names)))


def _image_faults(image: Path, channels: int) -> list[str]:
    if not image.is_file():
        return [f"{image}: no such file"]
    try:
        header: Any = nibabel.load(image)
        shape = header.shape
    except Exception as error:
        return [f"{image}: cannot be read ({type(error).__name__})"]
    if len(shape) in (3, 4) and (*shape, 1)[3] == channels:
        return []
    return [f'{image}: has shape {shape}; "modality" names {channels} channel(s)']


def convert_task(task: Task, folder: Path) -> None:
    """Make the raw data set `folder` of a task; it is whole or absent.

    Raises:
        UserError: an image cannot be read.
    """
    with making_dataset(folder) as target:
        for name, (image, label) in tqdm(
            sorted(task.training.items()), desc="training cases", unit="case"
        ):
            _write_channels(image, target / "imagesTr", name, len(task.channel_names))
            shutil.copyfile(label, target / "labelsTr" / f"{name}{ending_of(label)}")
        if task.test:
            (target / "imagesTs").mkdir()
        for name, image in tqdm(sorted(task.test.items()), desc="test cases", unit="case"):
            _write_channels(image, target / "imagesTs", name, len(task.channel_names))
        description = {
            "channel_names": {str(index): name for index, name in enumerate(task.channel_names)},
            "labels": {name: value for value, name in enumerate(task.class_names)},
            "numTraining": len(task.training),
            "file_ending": _ENDING,
        }
        write_json(target / "dataset.json", description)


def _write_channels(image: Path, folder: Path, name: str, channels: int) -> None:
    if channels == 1:
        shutil.copyfile(image, folder / f"{name}_0000{ending_of(image)}")
        return
    try:
        series: Any = nibabel.load(image)
        stored = (
            series.dataobj.get_unscaled()
        )  # the stored numbers; slope and intercept stay in the header
    except Exception as error:
        raise UserError(
            f"{image}: cannot be read, it may be truncated ({type(error).__name__})"
        ) from error
    for channel in range(channels):
        header = series.header.copy()
        header.set_data_shape(stored.shape[:3])
        volume = nibabel.Nifti1Image(np.asarray(stored[..., channel]), None, header)
        volume.header.set_slope_inter(series.dataobj.slope, series.dataobj.inter)
        nibabel.save(volume, folder / f"{name}_{channel:04d}{_ENDING}")
