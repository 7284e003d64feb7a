"""A made abdomen, planned and prepared as any data set: what the benchmarks of training work on."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from samnet.core.machine import Machine
from samnet.dataset.cases import RawDataset
from samnet.demo.abdomen import LABELS as LABELS
from samnet.demo.anatomy import make_case
from samnet.fingerprint.extract import extract_fingerprint
from samnet.plan.configuration import Configuration
from samnet.planning.planner import make_plan
from samnet.preprocessing.prepare import prepare_dataset
from samnet.preprocessing.storage import StoredCase, load_case

NAME = "Dataset999_Benchmark"


def prepare(
    folder: Path, settings: dict[str, Any], device: str, num_slices: int
) -> tuple[Configuration, StoredCase]:
    """The configuration `lora`, changed by settings, with random weights; and a case of so many slices, in `folder`."""
    for name in ("raw", "preprocessed", "results"):
        os.environ[f"samnet_{name}"] = str(folder / name)
    image, labels, _ = make_case(seed=0, index=0)
    rows = np.linspace(2, len(image) - 3, num_slices).round().astype(int)
    for part, array in (("imagesTr/made_0000", image), ("labelsTr/made", labels)):
        file = folder / "raw" / NAME / f"{part}.nii.gz"
        file.parent.mkdir(parents=True)
        nibabel.save(
            nibabel.Nifti1Image(array[rows].transpose(), np.diag([2.0, 2.0, 5.0, 1.0])), file
        )
    described = {
        "channel_names": {"0": "CT"},
        "labels": LABELS,
        "numTraining": 1,
        "file_ending": ".nii.gz",
    }
    (folder / "raw" / NAME / "dataset.json").write_text(json.dumps(described), encoding="utf-8")
    dataset = RawDataset.load(NAME)
    settings = {"slicing_axis": 0, "views": [0], "initial_weights": "random", **settings}
    plan = make_plan(extract_fingerprint(dataset, 0), Machine(device.split(":")[0], 16.0), settings)
    return plan.configuration("lora"), load_case(prepare_dataset(dataset, (0,), 0), "made")
