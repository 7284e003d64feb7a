"""The files of a summary: what nnU-Net's tools can read, and what samnet reads back."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import pytest
from builders.scores import absent_scores, make_scores, summarize_three_cases

from samnet.core.errors import UserError
from samnet.dataset.label_scheme import LabelScheme
from samnet.evaluation.summary import CaseScores, Protocol, summarize
from samnet.evaluation.summary_files import read_summary, write_csv, write_summary
from samnet.evaluation.tables import format_table

REGIONS = LabelScheme({"background": 0, "whole": (1, 2), "inner": 2, "rim": 1})


@pytest.fixture
def summary() -> dict[str, Any]:
    return summarize_three_cases()


@pytest.fixture
def summary_of_regions() -> dict[str, Any]:
    metrics = {(1, 2): make_scores(0.9), 2: make_scores(0.5), 1: absent_scores()}
    case = CaseScores("a", Path("preds", "a"), Path("labelsTs", "a"), metrics)
    return summarize([case], Protocol(REGIONS))


def read_as_nnunet(path: Path) -> dict[str, Any]:
    """Read a summary as nnU-Net does: plain JSON, in which keys of classes become labels."""

    def label(key: str) -> int | tuple[int, ...]:
        try:
            return int(key)
        except ValueError:
            return tuple(int(part) for part in key.replace("(", "").replace(")", "").split(","))

    content = json.loads(path.read_text())
    content["mean"] = {label(key): value for key, value in content["mean"].items()}
    for entry in content["metric_per_case"]:
        entry["metrics"] = {label(key): value for key, value in entry["metrics"].items()}
    return content


def test_written_summary_can_be_read_by_nnunet(summary: dict[str, Any], tmp_path: Path) -> None:
    write_summary(summary, tmp_path / "summary.json")
    content = read_as_nnunet(tmp_path / "summary.json")
    assert content["foreground_mean"]["Dice"] == summary["foreground_mean"]["Dice"]
    assert set(content["mean"]) == {1, 2}
    names = {"Dice", "IoU", "FN", "FP", "TN", "TP", "n_pred", "n_ref"}
    entry = content["metric_per_case"][1]
    for scores in (content["mean"][1], content["foreground_mean"], entry["metrics"][2]):
        assert names <= set(scores)
    assert entry["prediction_file"] == "preds/b.nii.gz"
    assert entry["reference_file"] == "labelsTs/b.nii.gz"
    assert math.isnan(entry["metrics"][2]["Dice"])
    assert '"Dice": NaN' in (tmp_path / "summary.json").read_text()


def test_written_summary_is_read_back_unchanged(summary: dict[str, Any], tmp_path: Path) -> None:
    write_summary(summary, tmp_path / "summary.json")
    # as text: NaN is not equal to itself
    assert repr(read_summary(tmp_path / "summary.json")) == repr(summary)


def test_summary_of_an_older_version_is_read_and_shown(
    summary: dict[str, Any], tmp_path: Path
) -> None:
    write_summary(summary, tmp_path / "summary.json")
    content = json.loads((tmp_path / "summary.json").read_text())
    for key in ("median", "interval", "volume_unit", "lesion_iou", "patient_key", "num_patients"):
        del content[key]
    del content["foreground_median"], content["foreground_interval"]
    older = ("Dice", "IoU", "HD95", "ASSD", "NSD", "TP", "FP", "FN", "TN", "n_pred", "n_ref")
    content["foreground_mean"] = {name: content["foreground_mean"][name] for name in older}
    (tmp_path / "summary.json").write_text(json.dumps(content))
    read = read_summary(tmp_path / "summary.json")
    assert "0.4667              -" in format_table(read)
    write_csv(read, tmp_path / "metrics.csv")
    assert len((tmp_path / "metrics.csv").read_text().splitlines()) == 7


def test_read_summary_reads_regions_of_nnunet(tmp_path: Path) -> None:
    content = {
        "foreground_mean": {"Dice": 0.5},
        "mean": {"(1, 2)": {"Dice": 0.5}, "(3,)": {"Dice": 0.1}, "4": {"Dice": 0.2}},
        "metric_per_case": [{"metrics": {"(1, 2)": {"Dice": 0.5}}}],
    }
    path = tmp_path / "summary.json"
    path.write_text(json.dumps(content))
    summary = read_summary(path)
    assert set(summary["mean"]) == {(1, 2), (3,), 4}
    assert set(summary["metric_per_case"][0]["metrics"]) == {(1, 2)}


@pytest.mark.parametrize(
    "text",
    [
        '{"mean": {}}',
        "[1]",
        '{"foreground_mean": {}, "mean": {"liver": {}}, "metric_per_case": []}',
    ],
    ids=["keys missing", "a list", "a class that is no number"],
)
def test_read_summary_refuses_other_files(text: str, tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    path.write_text(text)
    with pytest.raises(UserError, match=r"summary\.json: not an evaluation summary"):
        read_summary(path)


def test_csv_has_a_row_for_each_case_and_class(summary: dict[str, Any], tmp_path: Path) -> None:
    write_csv(summary, tmp_path / "metrics.csv")
    with (tmp_path / "metrics.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert [(row["case"], row["class"], row["label"]) for row in rows[:3]] == [
        ("a", "left, inner", "1"),
        ("a", "right", "2"),
        ("b", "left, inner", "1"),
    ]
    assert len(rows) == 6
    assert (rows[0]["Dice"], rows[0]["HD95_mm"], rows[0]["TP"]) == ("0.5", "6.0", "1")
    assert rows[3]["Dice"] == rows[3]["HD95_mm"] == ""
    assert "volume_empty_slices_mL" in rows[0]


def test_summary_of_regions_keeps_their_order(summary_of_regions: dict[str, Any]) -> None:
    assert list(summary_of_regions["mean"]) == [(1, 2), 2, 1]
    assert summary_of_regions["foreground_mean"]["Dice"] == pytest.approx(0.7)


def test_written_summary_of_regions_has_the_keys_of_nnunet(
    summary_of_regions: dict[str, Any], tmp_path: Path
) -> None:
    write_summary(summary_of_regions, tmp_path / "summary.json")
    content = json.loads((tmp_path / "summary.json").read_text())
    assert list(content["mean"]) == ["(1, 2)", "2", "1"]
    assert list(content["metric_per_case"][0]["metrics"]) == ["(1, 2)", "2", "1"]
    read = read_summary(tmp_path / "summary.json")
    assert repr(read["mean"][(1, 2)]) == repr(summary_of_regions["mean"][(1, 2)])
    assert read["labels"] == REGIONS.labels
    names = [line.split()[0] for line in format_table(read).splitlines()[3:6]]
    assert names == ["whole", "inner", "rim"]


def test_csv_of_regions_shows_all_labels_of_a_region(
    summary_of_regions: dict[str, Any], tmp_path: Path
) -> None:
    write_csv(summary_of_regions, tmp_path / "metrics.csv")
    with (tmp_path / "metrics.csv").open(newline="") as handle:
        rows = list(csv.reader(handle))
    assert [row[:4] for row in rows[1:]] == [
        ["a", "whole", "(1, 2)", "0.9"],
        ["a", "inner", "2", "0.5"],
        ["a", "rim", "1", ""],
    ]
