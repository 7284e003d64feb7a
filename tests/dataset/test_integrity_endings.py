"""The check of a data set whose label maps have another ending than its images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import SimpleITK
from builders.broken_input import describe

from samnet.dataset.cases import RawDataset
from samnet.dataset.integrity import inspect_dataset


def test_label_map_with_the_ending_of_images_is_named_as_not_used(
    folders: dict[str, Path], make_dataset: Callable[..., Path]
) -> None:
    dataset = make_dataset(folders["raw"], num_cases=2)
    describe(dataset, label_file_ending=".nrrd")
    for file in sorted((dataset / "labelsTr").iterdir()):
        image = SimpleITK.ReadImage(str(file))
        SimpleITK.WriteImage(image, str(file).replace(".nii.gz", ".nrrd"))
    (dataset / "labelsTr" / "case_00.nii.gz").unlink()
    (fault,) = inspect_dataset(RawDataset.load(501), 0).faults
    assert (fault.kind, fault.file) == (
        "another file ending",
        str(dataset / "labelsTr" / "case_01.nii.gz"),
    )
    assert "dataset.json names .nrrd for this folder" in fault.value
