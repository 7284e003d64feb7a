"""A synthetic abdomen, planned and prepared like any data set, for the benchmarks of training."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import nibabel
import numpy as np

from samnet.core.machine import Machine
from samnet.dataset.cases import RawDataset
from samnet.dataset.label_scheme import LabelScheme
from samnet.demo.abdomen import LABELS
from samnet.demo.anatomy import make_case
from samnet.fingerprint.extract import extract_fingerprint
from samnet.plan.configuration import Configuration
from samnet.planning.planner import make_plan
from samnet.preprocessing.prepare import prepare_dataset
from samnet.preprocessing.storage import StoredCase, load_case

NAME = "Dataset999_Benchmark"
LABEL_SCHEME = LabelScheme(dict(LABELS))
_CASE = "synthetic"


def prepare(
    folder: Path, settings: dict[str, Any], device: str, num_slices: int
) -> tuple[Configuration, StoredCase]:
    """Write a data set of one synthetic case, then plan and prepare it.

    The environment variables of samnet point to `folder` from then on.

    Args:
        folder: The folder for raw and prepared data.
        settings: Values of the configuration to change, as for `samnet_plan --set`. The weights
            are random, unless the settings say otherwise.
        device: The device to plan for.
        num_slices: Number of slices of the case.

    Returns:
        The configuration `lora` with the settings, and the prepared case.
    """
    for name in ("raw", "preprocessed", "results"):
        os.environ[f"samnet_{name}"] = str(folder / name)
    image, labels, _ = make_case(seed=0, index=0)
    rows = np.linspace(2, len(image) - 3, num_slices).round().astype(int)
    affine = np.diag([2.0, 2.0, 5.0, 1.0])
    for part, array in ((f"imagesTr/{_CASE}_0000", image), (f"labelsTr/{_CASE}", labels)):
        file = folder / "raw" / NAME / f"{part}.nii.gz"
        file.parent.mkdir(parents=True)
        nibabel.save(nibabel.Nifti1Image(array[rows].transpose(), affine), file)
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
    return plan.configuration("lora"), load_case(prepare_dataset(dataset, (0,), 0), _CASE)
