"""Writing of a raw data set from paired images and masks."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np

from samnet.core.files import write_json
from samnet.core.progress import ProgressBar
from samnet.dataset.convert_folder import Conversion, copied_ending
from samnet.dataset.folder_contents import read_codes
from samnet.dataset.formats.itk import HEADER_ENDINGS, copy_into_one_file
from samnet.dataset.images import companions_of, ending_of, label_ending_for, write_labels
from samnet.dataset.new_dataset import new_dataset
from samnet.dataset.pairing import CaseFiles


def convert(conversion: Conversion, folder: Path) -> None:
    """Write a raw data set. The folder is either complete or absent.

    Args:
        conversion: The plan from `plan_conversion`.
        folder: The folder of the data set to create.

    Raises:
        UserError: A file can no longer be read.
    """
    with new_dataset(folder) as target:
        if conversion.test_cases:
            (target / "imagesTs").mkdir()
            (target / "labelsTs").mkdir()
        for name, case in ProgressBar(conversion.cases.items(), desc="writing", unit="case"):
            part = "Ts" if name in conversion.test_cases else "Tr"
            for channel, image in enumerate(case.images):
                copy_image(image, target / f"images{part}", name, channel)
            _write_label_map(case, conversion, target / f"labels{part}", name)
        write_json(target / "dataset.json", _description(conversion))


def _description(conversion: Conversion) -> dict[str, Any]:
    channel_names = {str(index): name for index, name in enumerate(conversion.channel_names)}
    description: dict[str, Any] = {
        "channel_names": channel_names,
        "labels": conversion.labels,
        "numTraining": len(conversion.cases) - len(conversion.test_cases),
        "file_ending": conversion.file_ending,
    }
    if conversion.label_ending != conversion.file_ending:
        description["label_file_ending"] = conversion.label_ending
    if conversion.patient_key is not None:
        description["patient_key"] = conversion.patient_key
    return description


def _write_label_map(case: CaseFiles, conversion: Conversion, folder: Path, name: str) -> None:
    reference, codes = read_codes(case, conversion.rules)
    labels = np.zeros(codes.shape, np.uint16)
    for value, label in conversion.values.items():
        labels[codes == value] = label
    write_labels(labels, reference, folder / f"{name}{label_ending_for(case.mask_files[0])}")


def copy_image(image: Path, folder: Path, name: str, channel: int) -> None:
    """Copy an image, together with the files that its content comes from.

    Args:
        image: The file of one or more channels.
        folder: Where to copy it to.
        name: The name of the case.
        channel: The number of its first channel.
    """
    copy = folder / f"{name}_{channel:04d}{copied_ending(image)}"
    companions = companions_of(image)
    if companions and ending_of(image) in HEADER_ENDINGS:
        copy_into_one_file(image, copy)
        return
    shutil.copyfile(image, copy)
    for companion in companions:
        shutil.copyfile(companion, folder / f"{name}{companion.suffix}")
