"""The conversion of tasks of the Medical Segmentation Decathlon into raw data sets.

The tasks come from medicaldecathlon.com.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from samnet.core.errors import DatasetFaults, UserError
from samnet.core.files import read_json, write_json
from samnet.core.progress import ProgressBar
from samnet.core.read_failures import raise_failure_of_machine
from samnet.dataset.images import ending_of, name_without_ending
from samnet.dataset.new_dataset import new_dataset

_TASK = re.compile(r"^Task(\d+)_(.+)$")
_ENDING = ".nii.gz"
_PARTS = ("imagesTr", "labelsTr", "imagesTs", "labelsTs")


@dataclass(frozen=True)
class Task:
    """A task as its `dataset.json` describes it.

    Attributes:
        folder: The folder of the task.
        number: NN of a folder that is called `TaskNN_Name`, else None.
        name: Name of a folder that is called `TaskNN_Name`, else None.
        channel_names: Names of the channels, in their order.
        class_names: Names of the classes, in the order of their labels; the first one is the
            background.
        training: Case name -> its image and its label map.
        test: Case name -> its image.
        left_out: Images and label maps in the folder that its `dataset.json` does not list.
    """

    folder: Path
    number: int | None
    name: str | None
    channel_names: tuple[str, ...]
    class_names: tuple[str, ...]
    training: dict[str, tuple[Path, Path]]
    test: dict[str, Path]
    left_out: tuple[Path, ...] = ()

    def describe(self) -> str:
        """Return a text for people that says what the data set will contain."""
        num_training, num_test = len(self.training), len(self.test)
        handling = "copied"
        if len(self.channel_names) > 1:
            handling = "4D images, split into their channels"
        labels = ", ".join(f"{value} {name}" for value, name in enumerate(self.class_names))
        left_out = "".join(
            f"\nleft out, not listed in dataset.json: {file}" for file in self.left_out
        )
        return (
            f"{self.folder}: {num_training} training and {num_test} test cases ({handling})\n"
            f"channels: {', '.join(self.channel_names)}\n"
            f"labels: {labels}"
            f"{left_out}"
        )


def read_task(folder: Path) -> Task:
    """Read a task's `dataset.json` and check that its files exist and have its channels.

    Args:
        folder: The folder of the task.

    Returns:
        The task.

    Raises:
        UserError: There is no `dataset.json` of the Decathlon's form.
        DatasetFaults: Files are missing, unreadable or of another shape, or names occur twice. All
            are reported.
    """
    path = folder / "dataset.json"
    content = read_json(path)
    if not isinstance(content, dict) or not isinstance(content.get("training"), list):
        raise UserError(f'{path}: is not of the Decathlon\'s form (no list "training")')
    channels, classes = _names(content, "modality", path), _names(content, "labels", path)
    training, test = _listed_files(content, folder, path)
    images = [*(image for image, _ in training.values()), *test.values()]
    faults = [*_name_faults(content, path), *_class_faults(classes, path)]
    faults += [fault for image in images for fault in _image_faults(image, len(channels))]
    faults += [f"{label}: no such file" for _, label in training.values() if not label.is_file()]
    if faults:
        raise DatasetFaults(str(folder), faults)
    match = _TASK.match(folder.resolve().name)
    number, name = (int(match[1]), match[2]) if match else (None, None)
    listed = {*images, *(label for _, label in training.values())}
    left_out = tuple(file for file in _image_files(folder) if file not in listed)
    return Task(folder, number, name, channels, classes, training, test, left_out)


def _listed_files(
    content: dict[str, Any], folder: Path, path: Path
) -> tuple[dict[str, tuple[Path, Path]], dict[str, Path]]:
    """Return the image and label map of each training case, and the image of each test case."""
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
    return training, test


def _name_faults(content: dict[str, Any], path: Path) -> list[str]:
    """Name the files that would become one case, as they have the same name in other folders."""
    parts = {
        "training": [str(entry["image"]) for entry in content["training"]],
        "test": [str(entry) for entry in content.get("test", [])],
    }
    faults = []
    for key, files in parts.items():
        by_name: dict[str, list[str]] = {}
        for file in files:
            by_name.setdefault(name_without_ending(Path(file)).casefold(), []).append(file)
        faults += [
            f'{path}: "{key}" has {len(equal)} files of one name ({", ".join(equal)}); '
            "remove or rename all but one"
            for equal in by_name.values()
            if len(equal) > 1
        ]
    return faults


def _class_faults(classes: tuple[str, ...], path: Path) -> list[str]:
    """Name the classes that have the same name, of which only the last would be kept."""
    by_name: dict[str, list[int]] = {}
    for label, name in enumerate(classes):
        by_name.setdefault(name.strip().casefold(), []).append(label)
    return [
        f'{path}: "labels" gives {", ".join(map(str, labels))} the same name '
        f"({classes[labels[0]]}); give each its own"
        for labels in by_name.values()
        if len(labels) > 1
    ]


def _image_files(folder: Path) -> list[Path]:
    """Return the images and label maps in the folders of a task."""
    found = []
    for part in _PARTS:
        files = sorted((folder / part).iterdir()) if (folder / part).is_dir() else []
        found += [file for file in files if ending_of(file) and not file.name.startswith(".")]
    return found


def _names(content: dict[str, Any], key: str, path: Path) -> tuple[str, ...]:
    """Return the names of channels or labels in the order of their numbers."""
    names = content.get(key)
    numbers = [str(number) for number in range(len(names))] if isinstance(names, dict) else []
    if not isinstance(names, dict) or sorted(names) != sorted(numbers):
        raise UserError(f'{path}: "{key}" is {names!r}; expected {{"0": NAME, "1": NAME, ...}}')
    return tuple(str(names[number]) for number in numbers)


def _image_faults(image: Path, channels: int) -> list[str]:
    if not image.is_file():
        return [f"{image}: no such file"]
    try:
        header: Any = nibabel.load(image)
        shape = header.shape
    except Exception as error:
        raise_failure_of_machine(image, error)
        return [f"{image}: cannot be read ({type(error).__name__})"]
    stored_channels = (*shape, 1)[3] if len(shape) in (3, 4) else None
    if stored_channels == channels:
        return []
    return [f'{image}: has shape {shape}; "modality" names {channels} channel(s)']


def convert_task(task: Task, folder: Path) -> None:
    """Write the raw data set of a task. The folder is either complete or absent.

    Args:
        task: The task to convert.
        folder: The folder of the data set to create.

    Raises:
        UserError: An image cannot be read.
    """
    with new_dataset(folder) as target:
        training = ProgressBar(sorted(task.training.items()), desc="training cases", unit="case")
        for name, (image, label) in training:
            _write_channels(image, target / "imagesTr", name, len(task.channel_names))
            shutil.copyfile(label, target / "labelsTr" / f"{name}{ending_of(label)}")
        if task.test:
            (target / "imagesTs").mkdir()
        for name, image in ProgressBar(sorted(task.test.items()), desc="test cases", unit="case"):
            _write_channels(image, target / "imagesTs", name, len(task.channel_names))
        description = {
            "channel_names": {str(index): name for index, name in enumerate(task.channel_names)},
            "labels": {name: value for value, name in enumerate(task.class_names)},
            "numTraining": len(task.training),
            "file_ending": _ENDING,
        }
        write_json(target / "dataset.json", description)


def _write_channels(image: Path, folder: Path, name: str, channels: int) -> None:
    """Write each channel of an image as a volume; an image of one channel is copied."""
    if channels == 1:
        shutil.copyfile(image, folder / f"{name}_0000{ending_of(image)}")
        return
    try:
        series: Any = nibabel.load(image)
        # The stored numbers; slope and intercept stay in the header.
        stored = series.dataobj.get_unscaled()
    except Exception as error:
        raise_failure_of_machine(image, error)
        raise UserError(
            f"{image}: cannot be read, it may be truncated ({type(error).__name__})"
        ) from error
    for channel in range(channels):
        header = series.header.copy()
        header.set_data_shape(stored.shape[:3])
        volume = nibabel.Nifti1Image(np.asarray(stored[..., channel]), None, header)
        volume.header.set_slope_inter(series.dataobj.slope, series.dataobj.inter)
        nibabel.save(volume, folder / f"{name}_{channel:04d}{_ENDING}")
