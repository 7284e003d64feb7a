"""The ranges of the training cases that a model keeps."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from builders.fingerprint import make_fingerprint

from samnet.core.errors import UserError
from samnet.fingerprint.records import ChannelStatistics, ClassStatistics, Fingerprint
from samnet.fingerprint.training_data import (
    MM,
    TrainingData,
    merge_training_data,
    summarize_training_data,
)


def summarize(fingerprint: Fingerprint, *names: str) -> TrainingData:
    data = summarize_training_data(fingerprint, names or tuple(fingerprint.cases))
    assert data is not None
    return data


def two_cases() -> Fingerprint:
    """A fingerprint of the cases a, 40 x 200 x 160 voxels, and b, of other size and intensities."""
    fingerprint = make_fingerprint(case_names=("a", "b"))
    channel = ChannelStatistics(-5.0, 500.0, False, (1.0, 2.0, 3.0, 4.0, 401.0), None)
    other = replace(
        fingerprint.cases["b"], shape=(20, 100, 80), spacing=(5.0, 1.0, 2.0), channels=(channel,)
    )
    return replace(fingerprint, cases={"a": fingerprint.cases["a"], "b": other})


def test_ranges_are_over_the_named_cases() -> None:
    data = summarize(two_cases())
    assert (data.num_cases, data.grey_cases, data.unit) == (2, 0, MM)
    assert data.spacing == ((3.0, 5.0), (1.0, 1.0), (1.0, 2.0))
    assert data.size == ((100.0, 120.0), (100.0, 200.0), (160.0, 160.0))
    [channel] = data.channels
    assert channel.minimum == (-5.0, 0.0)
    assert channel.maximum == (500.0, 1000.0)
    assert channel.percentiles[2] == (3.0, 500.0)
    assert channel.width == (400.0, 1000.0)
    assert channel.typical_width == 700.0
    assert not channel.whole_numbers
    assert summarize(two_cases(), "a").channels[0].whole_numbers
    assert summarize(two_cases(), "a", "unknown").num_cases == 1
    assert summarize_training_data(two_cases(), ["unknown"]) is None


def test_2d_images_are_measured_in_pixels() -> None:
    spacing = (1.0, 1.0, 1.0)
    images = make_fingerprint(shape=(1, 64, 80), spacing=spacing, file_ending=".png")
    assert summarize(images).unit == "pixels"
    assert summarize(images).size[2] == (80.0, 80.0)
    assert summarize(make_fingerprint(spacing=spacing)).unit == MM


def test_grey_images_are_those_with_three_like_channels() -> None:
    grey = make_fingerprint(channels=("R", "G", "B"))
    assert summarize(grey).grey_cases == len(grey.cases)
    case = grey.cases["a"]
    blue = replace(case.channels[2], maximum=10.0)
    coloured = replace(case, channels=(*case.channels[:2], blue))
    mixed = replace(grey, cases=grey.cases | {"a": coloured})
    assert summarize(mixed).grey_cases == len(grey.cases) - 1
    assert summarize(make_fingerprint()).grey_cases == 0


def test_ranges_of_folds_are_merged() -> None:
    fingerprint = two_cases()
    merged = merge_training_data([summarize(fingerprint, "a"), summarize(fingerprint, "b")])
    assert replace(merged, num_cases=2) == summarize(fingerprint)
    assert merge_training_data([summarize(fingerprint)]) == summarize(fingerprint)


@pytest.mark.parametrize("folds", [("a", "ab"), ("ab", "a")])
def test_cases_of_folds_are_counted_in_the_largest(folds: tuple[str, str]) -> None:
    """Folds share cases, so that their sum would count cases twice."""
    grey = make_fingerprint(channels=("R", "G", "B"), case_names=("a", "b"))
    merged = merge_training_data([summarize(grey, *names) for names in folds])
    assert (merged.num_cases, merged.grey_cases) == (2, 2)


def test_foreground_is_the_share_of_the_largest_class() -> None:
    case = make_fingerprint(shape=(10, 20, 30)).cases["a"]
    sizes = {"liver": 600, "tumour": 60, "vessel": 6}
    classes = {name: ClassStatistics(count, 1, (1, 1, 1)) for name, count in sizes.items()}
    fingerprint = replace(make_fingerprint(), cases={"a": replace(case, classes=classes)})
    assert summarize(fingerprint).foreground == (0.1, 0.1)


def test_training_data_are_read_as_written_and_name_no_case(tmp_path: Path) -> None:
    data = summarize(make_fingerprint(case_names=("smith_john", "doe_jane")))
    data.save(tmp_path / "data.json")
    assert TrainingData.load(tmp_path / "data.json") == data
    assert "john" not in (tmp_path / "data.json").read_text()


@pytest.mark.parametrize("content", ["{", "[]", '{"schema_version": 99}'])
def test_damaged_training_data_are_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "data.json"
    file.write_text(content)
    with pytest.raises(UserError, match=r"data\.json"):
        TrainingData.load(file)
    summarize(make_fingerprint()).save(file)
    file.write_text(json.dumps(json.loads(file.read_text()) | {"spacing": [1, 2]}))
    with pytest.raises(UserError, match=r"data\.json: spacing"):
        TrainingData.load(file)
