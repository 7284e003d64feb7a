"""Faults of images, which the check of a data set reports, in images that are to be predicted."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from builders.broken_input import CHANNELS, IMAGE_FAULTS, SHAPE
from builders.data import write_dataset
from builders.models import FakePredictor

from samnet.core.errors import SamnetError
from samnet.dataset.cases import find_prediction_cases
from samnet.dataset.description import DatasetDescription
from samnet.inference.files import predict_cases

DESCRIPTION = DatasetDescription(CHANNELS, {"background": 0, "ball": 1}, None, ".nii.gz")


def test_predict_cases_skips_and_names_broken_cases(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    num_cases = len(IMAGE_FAULTS) + 1
    dataset = write_dataset(tmp_path, num_cases=num_cases, shape=SHAPE, channels=CHANNELS)
    names = {}
    for number, (kind, broken) in enumerate(IMAGE_FAULTS.items(), 1):  # case_00 stays whole
        names[kind] = f"case_{number:02d}"
        broken.spoil(dataset / broken.of_case(names[kind])[0])

    cases = find_prediction_cases(dataset / "imagesTr", DESCRIPTION)
    with pytest.raises(SamnetError) as caught:
        predict_cases(FakePredictor(), cases, tmp_path / "out")
    assert caught.value.exit_code == 1
    skipped = {name for kind, name in names.items() if IMAGE_FAULTS[kind].is_skipped}
    predicted = {"case_00", *names.values()} - skipped
    assert len(skipped) >= 14
    written = {file.name for file in (tmp_path / "out").glob("*.nii.gz")}
    assert written == {f"{name}.nii.gz" for name in predicted}

    first, *lines = str(caught.value).splitlines()
    assert f"failed for {len(skipped)} of {len(cases)} cases; the others are done" in first
    told = {line.split(":")[0].strip(): line for line in lines}
    assert set(told) == skipped
    for name, line in told.items():
        assert str(dataset / "imagesTr" / name) in line
        assert "; " in line
    warned = {names[kind] for kind in IMAGE_FAULTS if kind.startswith("channel of another")}
    warned.add(names["axes not perpendicular"])
    warnings = []
    for record in caplog.records:  # what is said of the predictions is tested elsewhere
        if record.levelno == logging.WARNING and record.name == "samnet.dataset.alignment":
            warnings.append(record.message)
    assert {message.split(":")[0].removeprefix("case ") for message in warnings} == warned
