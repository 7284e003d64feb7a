"""The check of cases that do not state the spacing of their voxels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from skimage import io

from samnet.dataset.cases import RawDataset
from samnet.dataset.integrity import inspect_dataset

SPACED = {"metadata": {"axes": "ZYX", "spacing": 2.0, "unit": "mm"}, "resolution": (2, 2)}
UNKNOWN = {"metadata": {"axes": "ZYX"}}


def write_stacks(dataset: Path, without_spacing: str) -> None:
    """Write the files of a data set as stacks, some without a spacing."""
    generator = np.random.default_rng(0)
    unknown = set(dataset.glob(without_spacing))
    for file in sorted(dataset.glob("*Tr/*.tif")):
        plane = io.imread(file)
        noise = generator.integers(0, 9, (3, 1, 1)).astype(plane.dtype)
        stack = np.stack([plane] * 3) + (noise if file.parent.name == "imagesTr" else 0)
        options = UNKNOWN if file in unknown else SPACED
        tifffile.imwrite(file, stack.astype(plane.dtype), imagej=True, **options)


@pytest.mark.parametrize("without_spacing", ["*Tr/case_01*.tif", "imagesTr/case_01_0001.tif"])
def test_volumes_without_the_spacing_that_others_have_are_faults(
    folders: dict[str, Path], make_dataset: Callable[..., Path], without_spacing: str
) -> None:
    """One channel without a spacing is enough."""
    dataset = make_dataset(folders["raw"], num_cases=2, file_ending=".tif", channels=("T1", "T2"))
    write_stacks(dataset, without_spacing)
    (fault,) = inspect_dataset(RawDataset.load(501), 0).faults
    assert fault.kind == "no spacing"
    assert fault.case == "case_01"
    assert "case_01.json" in fault.remedy
