from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import pytest

from samnet.core.errors import UserError
from samnet.evaluation.summary import (
    CaseScores,
    LeftOut,
    Protocol,
    format_table,
    read_summary,
    summarize,
    write_csv,
    write_summary,
)

NAN = math.nan
PROTOCOL = Protocol({"background": 0, "left, inner": 1, "right": 2}, nsd_tolerance=2.0)


def scores(dice: float, hd95: float = 4.0, n_pred: int = 5, n_ref: int = 5) -> dict[str, float]:
    counts = {"TP": 1, "FP": 2, "FN": 3, "TN": 4, "n_pred": n_pred, "n_ref": n_ref}
    return {"Dice": dice, "IoU": dice / 2, "HD95": hd95, "ASSD": hd95 / 2, "NSD": dice, **counts}


def absent() -> dict[str, float]:
    return scores(NAN, NAN, 0, 0)


def case(identifier: str, left: dict[str, float], right: dict[str, float]) -> CaseScores:
    file = f"{identifier}.nii.gz"
    return CaseScores(identifier, Path("preds", file), Path("labelsTs", file), {1: left, 2: right})


@pytest.fixture
def summary() -> dict[str, Any]:
    cases = [
        case("b", scores(0.9, 2.0), absent()),
        case("a", scores(0.5, 6.0), scores(0.3)),
        case("c", scores(0.0, 40.0, n_pred=0), scores(0.0, 40.0, n_ref=0)),
    ]
    return summarize(cases, PROTOCOL, LeftOut(("e",), {"d": "truncated"}))


def test_means_leave_nan_out(summary: dict[str, Any]) -> None:
    assert summary["mean"][1]["Dice"] == pytest.approx((0.9 + 0.5 + 0.0) / 3)
    assert summary["mean"][2]["Dice"] == pytest.approx((0.3 + 0.0) / 2)
    assert summary["mean"][2]["HD95"] == pytest.approx(22.0)
    assert summary["foreground_mean"]["Dice"] == pytest.approx((1.4 / 3 + 0.15) / 2)
    assert summary["mean"][1]["TN"] == 4.0


def test_deviations_over_cases(summary: dict[str, Any]) -> None:
    assert summary["std"][2]["Dice"] == pytest.approx(math.sqrt(2 * 0.15**2))
    # the cases' means over their classes are 0.9, 0.4, 0.0
    mean = 1.3 / 3
    expected = math.sqrt(((0.9 - mean) ** 2 + (0.4 - mean) ** 2 + mean**2) / 2)
    assert summary["foreground_std"]["Dice"] == pytest.approx(expected)


def test_a_class_absent_everywhere_does_not_spoil_the_foreground() -> None:
    summary = summarize([case("a", scores(0.5), absent())], PROTOCOL)
    assert math.isnan(summary["mean"][2]["Dice"])
    assert summary["foreground_mean"]["Dice"] == 0.5
    assert math.isnan(summary["std"][1]["Dice"])


def test_presence_and_what_is_left_out(summary: dict[str, Any]) -> None:
    assert summary["presence"][1] == {"cases": 3, "missed": 1, "spurious": 0, "absent": 0}
    assert summary["presence"][2] == {"cases": 2, "missed": 0, "spurious": 1, "absent": 1}
    assert summary["skipped"] == ["e"]
    assert summary["failed"] == {"d": "truncated"}


def test_cases_are_in_the_order_of_their_names(summary: dict[str, Any]) -> None:
    assert [entry["case"] for entry in summary["metric_per_case"]] == ["a", "b", "c"]


def test_no_case_at_all() -> None:
    summary = summarize([], PROTOCOL)
    assert math.isnan(summary["foreground_mean"]["Dice"])
    assert summary["metric_per_case"] == []


def nnunet_reads(path: Path) -> dict[str, Any]:
    """What nnU-Net's loader does: plain JSON, then the keys of `mean` and of each case's metrics become labels."""

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


def test_nnunet_can_read_it(summary: dict[str, Any], tmp_path: Path) -> None:
    write_summary(summary, tmp_path / "summary.json")
    content = nnunet_reads(tmp_path / "summary.json")
    assert content["foreground_mean"]["Dice"] == summary["foreground_mean"]["Dice"]
    assert set(content["mean"]) == {1, 2}
    names = {"Dice", "IoU", "FN", "FP", "TN", "TP", "n_pred", "n_ref"}
    entry = content["metric_per_case"][1]
    assert names <= set(content["mean"][1]) & set(content["foreground_mean"]) & set(
        entry["metrics"][2]
    )
    assert entry["prediction_file"] == "preds/b.nii.gz"
    assert entry["reference_file"] == "labelsTs/b.nii.gz"
    assert math.isnan(entry["metrics"][2]["Dice"])
    assert '"Dice": NaN' in (tmp_path / "summary.json").read_text()


def test_read_back(summary: dict[str, Any], tmp_path: Path) -> None:
    write_summary(summary, tmp_path / "summary.json")
    # as text: NaN is not equal to itself
    assert repr(read_summary(tmp_path / "summary.json")) == repr(summary)


def test_reads_regions_of_nnunet(tmp_path: Path) -> None:
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
def test_something_else_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    path.write_text(text)
    with pytest.raises(UserError, match=r"summary\.json: not an evaluation summary"):
        read_summary(path)


def test_csv(summary: dict[str, Any], tmp_path: Path) -> None:
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


def test_table(summary: dict[str, Any]) -> None:
    lines = format_table(summary).splitlines()
    assert lines[0].split("  ")[0] == "class"
    for heading in ("HD95 (mm)", "ASSD (mm)", "NSD (2 mm)", "missed", "spurious"):
        assert heading in lines[0]
    assert lines[2].startswith("left, inner")
    assert "0.4667 +- 0.4509" in lines[2]
    assert lines[2].split()[-2:] == ["1", "0"]
    assert lines[-1].startswith("foreground mean")
    assert lines[-1].split()[-2:] == ["1", "1"]


def test_table_without_values() -> None:
    lines = format_table(summarize([case("a", scores(0.5), absent())], PROTOCOL)).splitlines()
    assert lines[3].split() == ["right", "0", "-", "-", "-", "-", "-", "0", "0"]
    assert "+-" not in lines[2]


def test_units_say_what_the_numbers_are() -> None:
    legacy = Protocol(PROTOCOL.labels, policy="synapse_legacy")
    assert legacy.distance_unit == "voxels"
    assert Protocol(PROTOCOL.labels, image_unit="pixels").distance_unit == "pixels"
    values = dict.fromkeys(legacy.metric_names, 1.0)
    table = format_table(summarize([case("a", values, values)], legacy))
    assert "HD95 (voxels)" in table
    assert "NSD" not in table


def test_regions_have_nnunets_keys_and_their_own_order(tmp_path: Path) -> None:
    protocol = Protocol({"background": 0, "whole": (1, 2), "inner": 2, "rim": 1})
    metrics = {(1, 2): scores(0.9), 2: scores(0.5), 1: absent()}
    summary = summarize(
        [CaseScores("a", Path("preds", "a"), Path("labelsTs", "a"), metrics)], protocol
    )
    assert list(summary["mean"]) == [(1, 2), 2, 1]
    assert summary["foreground_mean"]["Dice"] == pytest.approx(0.7)
    write_summary(summary, tmp_path / "summary.json")
    write_csv(summary, tmp_path / "metrics.csv")
    content = json.loads((tmp_path / "summary.json").read_text())
    assert (
        list(content["mean"])
        == list(content["metric_per_case"][0]["metrics"])
        == ["(1, 2)", "2", "1"]
    )
    read = read_summary(tmp_path / "summary.json")
    assert read["mean"][(1, 2)] == summary["mean"][(1, 2)]
    assert read["labels"] == protocol.labels
    assert [line.split()[0] for line in format_table(read).splitlines()[2:5]] == [
        "whole",
        "inner",
        "rim",
    ]
    rows = list(csv.reader((tmp_path / "metrics.csv").open()))
    assert [row[:4] for row in rows[1:]] == [
        ["a", "whole", "(1, 2)", "0.9"],
        ["a", "inner", "2", "0.5"],
        ["a", "rim", "1", ""],
    ]
