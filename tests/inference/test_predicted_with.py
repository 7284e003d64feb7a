"""The file that says what predicted each label map."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from samnet.inference.predicted_with import (
    PREDICTOR_FILE,
    PredictorRecord,
    cases_of_others,
    read_predictors,
    record_predictor,
    warn_of_others,
)


def record_of(weights: str, **changes: object) -> PredictorRecord:
    networks = [{"run": "Dataset501_Tiny/lora/fold_0", "weights": weights, "mirror": True}]
    return PredictorRecord({"networks": networks, "postprocessing": [], **changes})


def write_label_maps(folder: Path, *names: str) -> dict[str, Path]:
    files = {name: folder / f"{name}.nii.gz" for name in names}
    for file in files.values():
        file.touch()
    return files


def test_predictors_are_noted_as_long_as_a_case_has_them(tmp_path: Path) -> None:
    one, other = record_of("1"), record_of("2")
    record_predictor(tmp_path, ["b"], one)
    record_predictor(tmp_path, ["a"], other)
    assert json.loads((tmp_path / PREDICTOR_FILE).read_text()) == {
        "predictors": {one.key: one.content, other.key: other.content},
        "cases": {"a": other.key, "b": one.key},
    }
    record_predictor(tmp_path, ["b"], other)
    assert read_predictors(tmp_path) == {"a": other.key, "b": other.key}
    assert list(json.loads((tmp_path / PREDICTOR_FILE).read_text())["predictors"]) == [other.key]


def test_key_depends_on_weights_and_options() -> None:
    records = [record_of("1"), record_of("2"), record_of("1", postprocessing=["liver: fill holes"])]
    assert len({record.key for record in records}) == 3
    assert record_of("1").key == records[0].key


def test_label_maps_of_others_are_found_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files = write_label_maps(tmp_path, "a", "b", "c") | {"d": tmp_path / "d.nii.gz"}
    record_predictor(tmp_path, ["a", "d"], record_of("1"))
    record_predictor(tmp_path, ["b"], record_of("2"))
    assert cases_of_others(files, record_of("2")) == ["a"]
    again, kept = caplog.messages
    assert again.startswith("predicted again, because other weights or options")
    assert again.endswith(": a")
    assert "does not say what has made the label maps: c;" in kept


def test_label_maps_of_others_that_stay_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The label map of `gone` is not there."""
    names = [f"case_{number}" for number in range(7)]
    write_label_maps(tmp_path, *names, "mine")
    record_predictor(tmp_path, [*names, "gone"], record_of("1"))
    record_predictor(tmp_path, ["mine"], record_of("2"))
    warn_of_others(tmp_path, record_of("2"))
    [message] = caplog.messages
    assert message.endswith(": case_0, case_1, case_2, case_3, case_4 and 2 more")


def test_nothing_is_said_where_nothing_is_there(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert cases_of_others({"a": tmp_path / "a.nii.gz"}, record_of("1")) == []
    warn_of_others(tmp_path, record_of("1"))
    assert not caplog.messages


@pytest.mark.parametrize("content", ["{", "[]", '{"cases": 3}', '{"predictors": []}'])
def test_damaged_file_is_replaced(tmp_path: Path, content: str) -> None:
    (tmp_path / PREDICTOR_FILE).write_text(content)
    assert read_predictors(tmp_path) == {}
    record_predictor(tmp_path, ["a"], record_of("1"))
    assert read_predictors(tmp_path) == {"a": record_of("1").key}
