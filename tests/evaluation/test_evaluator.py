from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from skimage import io

from samnet.core.errors import DatasetFaults, UserError
from samnet.dataset.description import DatasetDescription
from samnet.evaluation.evaluator import EvaluationIncomplete, evaluate_folder, pair_files
from samnet.evaluation.summary import read_summary


def evaluate(dataset: Path, processes: int = 0, **options: Any) -> dict[str, Any]:
    description = DatasetDescription.load(dataset / "dataset.json")
    return evaluate_folder(
        dataset / "preds", dataset / "labelsTs", description, dataset / "out", processes, **options
    )


def test_writes_what_it_returns(dataset: Path) -> None:
    summary = evaluate(dataset)
    assert read_summary(dataset / "out" / "summary.json") == summary
    assert len((dataset / "out" / "metrics.csv").read_text().splitlines()) == 1 + 3 * 2
    assert sorted(file.name for file in (dataset / "out").iterdir()) == [
        "metrics.csv",
        "summary.json",
    ]


def test_scores_are_in_mm_of_the_file(dataset: Path) -> None:
    # Three voxels along x of 1 mm, shifted by one: two of three in common.
    scores = evaluate(dataset)["metric_per_case"][0]["metrics"][1]
    assert scores["Dice"] == pytest.approx(2 / 3)
    assert scores["HD95"] == pytest.approx(1.0)
    assert scores["n_ref"] == 2 * 3 * 3


def test_options_reach_the_metrics(dataset: Path) -> None:
    assert evaluate(dataset, nsd_tolerance_mm=1.5)["foreground_mean"]["NSD"] == 1.0
    assert evaluate(dataset, nsd_tolerance_mm=0.5)["foreground_mean"]["NSD"] < 1.0
    legacy = evaluate(dataset, policy="synapse_legacy")
    assert legacy["distance_unit"] == "voxels"
    assert "ASSD" not in legacy["foreground_mean"]
    with pytest.raises(UserError, match="nicest"):
        evaluate(dataset, policy="nicest")


def test_processes_change_nothing(dataset: Path) -> None:
    evaluate(dataset, processes=0)
    alone = [(dataset / "out" / name).read_bytes() for name in ("summary.json", "metrics.csv")]
    evaluate(dataset, processes=2)
    assert [
        (dataset / "out" / name).read_bytes() for name in ("summary.json", "metrics.csv")
    ] == alone


def test_ignore_label_of_the_data_set(dataset: Path, write_labels: Callable[..., None]) -> None:
    reference = np.full((2, 4, 4), 3, dtype=np.uint8)
    reference[:, :2, :2] = 1
    write_labels(dataset / "labelsTs" / "case_0.nii.gz", reference)
    write_labels(dataset / "preds" / "case_0.nii.gz", np.ones_like(reference))
    content = json.loads((dataset / "dataset.json").read_text())
    content["labels"]["ignore"] = 3
    (dataset / "dataset.json").write_text(json.dumps(content))
    scores = evaluate(dataset)["metric_per_case"][0]["metrics"][1]
    assert (scores["Dice"], scores["FP"], scores["n_ref"]) == (1.0, 0, 8)


def test_all_faults_in_one_report(dataset: Path, write_labels: Callable[..., None]) -> None:
    labels = np.zeros((6, 8, 10), dtype=np.uint8)
    for name in ("shape", "beside", "value", "surplus"):
        write_labels(dataset / "preds" / f"{name}.nii.gz", labels)
    write_labels(dataset / "labelsTs" / "shape.nii.gz", labels[:5])
    write_labels(dataset / "labelsTs" / "beside.nii.gz", labels, shift_mm=4.0)
    write_labels(dataset / "labelsTs" / "value.nii.gz", labels + 7)
    write_labels(dataset / "labelsTs" / "missing.nii.gz", labels)
    (dataset / "preds" / "case_1.nii.gz").write_bytes(b"not gzip")
    with pytest.raises(DatasetFaults) as report:
        evaluate(dataset)
    expected = {
        "preds/shape.nii.gz": "(6, 8, 10) (z, y, x) differs from (5, 8, 10)",
        "preds/beside.nii.gz": "lies 4.0 voxels beside",
        "labelsTs/value.nii.gz": "has the label 7, dataset.json declares 0 to 2",
        "preds/missing.nii.gz": "missing",
        "preds/surplus.nii.gz": "has no reference",
        "preds/case_1.nii.gz": "cannot be read",
    }
    for file, words in expected.items():
        assert any(
            fault.startswith(str(dataset / file)) and words in fault
            for fault in report.value.faults
        ), file
    assert len(report.value.faults) == len(expected)
    assert report.value.exit_code == 2
    assert not (dataset / "out").exists()


def test_skip_evaluates_what_is_there(dataset: Path, write_labels: Callable[..., None]) -> None:
    (dataset / "preds" / "case_1.nii.gz").unlink()
    write_labels(dataset / "preds" / "surplus.nii.gz", np.zeros((2, 2, 2), dtype=np.uint8))
    with pytest.raises(DatasetFaults, match=r"case_1.*--missing skip"):
        evaluate(dataset)
    summary = evaluate(dataset, skip_missing=True)
    assert [entry["case"] for entry in summary["metric_per_case"]] == ["case_0", "case_2"]
    assert summary["skipped"] == ["case_1", "surplus"]


def test_unreadable_files_do_not_stop_the_others(dataset: Path) -> None:
    whole = (dataset / "preds" / "case_1.nii.gz").read_bytes()
    (dataset / "preds" / "case_1.nii.gz").write_bytes(whole[:40])
    with pytest.raises(EvaluationIncomplete, match=r"1 of 3 cases") as report:
        evaluate(dataset)
    assert "preds/case_1.nii.gz" in str(report.value)
    assert report.value.exit_code == 1
    assert sorted(file.name for file in (dataset / "out").iterdir()) == [
        "metrics_incomplete.csv",
        "summary_incomplete.json",
    ]
    partial = read_summary(dataset / "out" / "summary_incomplete.json")
    assert [entry["case"] for entry in partial["metric_per_case"]] == ["case_0", "case_2"]
    assert list(partial["failed"]) == ["case_1"]

    (dataset / "preds" / "case_1.nii.gz").write_bytes(whole)
    assert evaluate(dataset)["failed"] == {}
    assert sorted(file.name for file in (dataset / "out").iterdir()) == [
        "metrics.csv",
        "summary.json",
    ]


def test_an_earlier_evaluation_is_not_taken_for_that_of_unreadable_files(dataset: Path) -> None:
    evaluate(dataset)
    earlier = (dataset / "out" / "summary.json").read_bytes()
    (dataset / "preds" / "case_1.nii.gz").write_bytes(b"")
    with pytest.raises(
        EvaluationIncomplete, match=r"summary\.json and metrics\.csv there are of an earlier"
    ):
        evaluate(dataset)
    assert (dataset / "out" / "summary.json").read_bytes() == earlier


def test_nothing_readable_writes_nothing(dataset: Path) -> None:
    for file in (dataset / "labelsTs").iterdir():
        file.write_bytes(b"")
    with pytest.raises(EvaluationIncomplete, match="3 of 3 cases"):
        evaluate(dataset)
    assert not (dataset / "out").exists()


def test_folders_without_label_maps(dataset: Path) -> None:
    (dataset / "empty").mkdir()
    with pytest.raises(UserError, match=r"empty: holds no \.nii\.gz file"):
        pair_files(dataset / "empty", dataset / "labelsTs", [".nii.gz"])
    with pytest.raises(UserError, match="absent: no such folder"):
        pair_files(dataset / "preds", dataset / "absent", [".nii.gz"])


def test_folders_without_a_common_case(dataset: Path) -> None:
    for file in list((dataset / "preds").iterdir()):
        file.rename(file.with_name(f"other_{file.name}"))
    with pytest.raises(
        UserError, match=r"no case in common: there are other_case_0\.nii\.gz and case_0\.nii\.gz"
    ):
        evaluate(dataset, skip_missing=True)


def test_partial_files_are_not_predictions(dataset: Path) -> None:
    shutil.copy(
        dataset / "preds" / "case_0.nii.gz", dataset / "preds" / ".partial-12345678-case_9.nii.gz"
    )
    assert len(evaluate(dataset)["metric_per_case"]) == 3


def test_pictures_are_measured_in_pixels(dataset: Path) -> None:
    description = replace(DatasetDescription.load(dataset / "dataset.json"), file_ending=".png")
    picture = np.zeros((8, 9), dtype=np.uint8)
    picture[2:5, 2:5] = 1
    for folder, shift in (("preds", 2), ("labelsTs", 0)):
        io.imsave(dataset / folder / "a.png", np.roll(picture, shift, axis=1), check_contrast=False)
    summary = evaluate_folder(
        dataset / "preds", dataset / "labelsTs", description, dataset / "out", 0
    )
    assert summary["distance_unit"] == "pixels"
    assert summary["mean"][1]["HD95"] == pytest.approx(2.0)
    assert summary["presence"][2]["absent"] == 1
    assert "HD95_pixels" in (dataset / "out" / "metrics.csv").read_text()


@pytest.mark.parametrize(
    ("name", "num_cases"),
    [("Dataset004_Hippocampus", 40), ("Dataset010_SarcomaCT", 3), ("Dataset030_Nuclei", 12)],
)
def test_real_references_against_themselves(
    real_data: Path, name: str, num_cases: int, tmp_path: Path
) -> None:
    folder = real_data / name
    description = DatasetDescription.load(folder / "dataset.json")
    summary = evaluate_folder(folder / "labelsTs", folder / "labelsTs", description, tmp_path, 0)
    assert len(summary["metric_per_case"]) == num_cases
    for mean in summary["mean"].values():
        assert (mean["Dice"], mean["IoU"], mean["NSD"]) == (1.0, 1.0, 1.0)
        assert (mean["HD95"], mean["ASSD"]) == (0.0, 0.0)


def test_regions_of_the_data_set(dataset: Path) -> None:
    """They are scored as the plain data set does in which a region is one class."""
    content = json.loads((dataset / "dataset.json").read_text())
    plain = evaluate(dataset)
    content |= {
        "labels": {"background": 0, "both": [1, 2], "right": 2},
        "regions_class_order": [1, 2],
    }
    (dataset / "dataset.json").write_text(json.dumps(content))
    nested = evaluate(dataset)
    assert list(nested["mean"]) == [(1, 2), 2]
    assert nested["mean"][2] == plain["mean"][2]
    assert list(json.loads((dataset / "out" / "summary.json").read_text())["mean"]) == [
        "(1, 2)",
        "2",
    ]
    together = nested["metric_per_case"][0]["metrics"][(1, 2)]
    apart = [plain["metric_per_case"][0]["metrics"][value] for value in (1, 2)]
    assert together["n_ref"] == sum(scores["n_ref"] for scores in apart)
