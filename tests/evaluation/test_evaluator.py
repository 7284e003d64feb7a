"""The evaluation of folders: what is written, what is refused, and what is only left out."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from builders.label_maps import write_label_map, write_predicted_dataset
from skimage import io

from samnet.core.errors import DatasetFaults, UserError
from samnet.dataset.description import DatasetDescription
from samnet.evaluation.evaluator import EvaluationIncomplete, evaluate_folder
from samnet.evaluation.summary_files import read_summary
from samnet.evaluation.tables import format_table

RESULTS = ["metrics.csv", "summary.json"]


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    return write_predicted_dataset(tmp_path)


def evaluate(dataset: Path, processes: int = 0, **options: Any) -> dict[str, Any]:
    description = DatasetDescription.load(dataset / "dataset.json")
    return evaluate_folder(
        dataset / "preds", dataset / "labelsTs", description, dataset / "out", processes, **options
    )


def written_files(dataset: Path) -> list[str]:
    return sorted(file.name for file in (dataset / "out").iterdir())


def scored_cases(summary: dict[str, Any]) -> list[str]:
    return [entry["case"] for entry in summary["metric_per_case"]]


def change_description(dataset: Path, **changes: Any) -> None:
    content = json.loads((dataset / "dataset.json").read_text())
    (dataset / "dataset.json").write_text(json.dumps(content | changes))


def test_evaluate_folder_writes_the_summary_that_it_returns(dataset: Path) -> None:
    summary = evaluate(dataset)
    assert read_summary(dataset / "out" / "summary.json") == summary
    assert len((dataset / "out" / "metrics.csv").read_text().splitlines()) == 1 + 3 * 2
    assert written_files(dataset) == RESULTS


def test_evaluate_folder_measures_distances_in_mm(dataset: Path) -> None:
    # Three voxels along x of 1 mm, shifted by one: two of three in common.
    scores = evaluate(dataset)["metric_per_case"][0]["metrics"][1]
    assert scores["Dice"] == pytest.approx(2 / 3)
    assert scores["HD95"] == pytest.approx(1.0)
    assert scores["n_ref"] == 2 * 3 * 3


def test_evaluate_folder_passes_its_options_to_the_metrics(dataset: Path) -> None:
    assert evaluate(dataset, nsd_tolerance_mm=1.5)["foreground_mean"]["NSD"] == 1.0
    assert evaluate(dataset, nsd_tolerance_mm=0.5)["foreground_mean"]["NSD"] < 1.0
    legacy = evaluate(dataset, policy="synapse_legacy")
    assert legacy["distance_unit"] == "voxels"
    assert "ASSD" not in legacy["foreground_mean"]
    with pytest.raises(UserError, match="nicest"):
        evaluate(dataset, policy="nicest")


def test_evaluate_folder_writes_the_same_with_worker_processes(dataset: Path) -> None:
    evaluate(dataset, processes=0)
    alone = [(dataset / "out" / name).read_bytes() for name in RESULTS]
    evaluate(dataset, processes=2)
    assert [(dataset / "out" / name).read_bytes() for name in RESULTS] == alone


def test_evaluate_folder_does_not_count_voxels_of_the_ignore_label(dataset: Path) -> None:
    reference = np.full((2, 4, 4), 3, dtype=np.uint8)
    reference[:, :2, :2] = 1
    write_label_map(dataset / "labelsTs" / "case_0.nii.gz", reference)
    write_label_map(dataset / "preds" / "case_0.nii.gz", np.ones_like(reference))
    labels = {"background": 0, "left, inner": 1, "right": 2, "ignore": 3}
    change_description(dataset, labels=labels)
    scores = evaluate(dataset)["metric_per_case"][0]["metrics"][1]
    assert (scores["Dice"], scores["FP"], scores["n_ref"]) == (1.0, 0, 8)


def test_evaluate_folder_reports_all_faults_together(dataset: Path) -> None:
    labels = np.zeros((6, 8, 10), dtype=np.uint8)
    for name in ("shape", "shifted", "value", "surplus"):
        write_label_map(dataset / "preds" / f"{name}.nii.gz", labels)
    write_label_map(dataset / "labelsTs" / "shape.nii.gz", labels[:5])
    write_label_map(dataset / "labelsTs" / "shifted.nii.gz", labels, shift_mm=4.0)
    write_label_map(dataset / "labelsTs" / "value.nii.gz", labels + 7)
    write_label_map(dataset / "labelsTs" / "missing.nii.gz", labels)
    (dataset / "preds" / "case_1.nii.gz").write_bytes(b"not gzip")
    with pytest.raises(DatasetFaults) as report:
        evaluate(dataset)
    expected = {
        "preds/shape.nii.gz": "(6, 8, 10) (z, y, x) differs from (5, 8, 10)",
        "preds/shifted.nii.gz": "lies 4.0 voxels beside",
        "labelsTs/value.nii.gz": "has the label 7, dataset.json declares 0 to 2",
        "preds/missing.nii.gz": "missing",
        "preds/surplus.nii.gz": "has no reference",
        "preds/case_1.nii.gz": "cannot be read",
    }
    for file, words in expected.items():
        (fault,) = [fault for fault in report.value.faults if fault.startswith(str(dataset / file))]
        assert words in fault
    assert len(report.value.faults) == len(expected)
    assert report.value.exit_code == 2
    assert not (dataset / "out").exists()


def test_evaluate_folder_can_skip_cases_that_are_in_one_folder_only(dataset: Path) -> None:
    (dataset / "preds" / "case_1.nii.gz").unlink()
    write_label_map(dataset / "preds" / "surplus.nii.gz", np.zeros((2, 2, 2), dtype=np.uint8))
    with pytest.raises(DatasetFaults, match=r"case_1.*--missing skip"):
        evaluate(dataset)
    summary = evaluate(dataset, skip_missing=True)
    assert scored_cases(summary) == ["case_0", "case_2"]
    assert summary["skipped"] == ["case_1", "surplus"]


def test_evaluate_folder_scores_the_cases_that_can_be_read(dataset: Path) -> None:
    whole = (dataset / "preds" / "case_1.nii.gz").read_bytes()
    (dataset / "preds" / "case_1.nii.gz").write_bytes(whole[:40])
    with pytest.raises(EvaluationIncomplete, match=r"1 of 3 cases") as report:
        evaluate(dataset)
    assert "preds/case_1.nii.gz" in str(report.value)
    assert report.value.exit_code == 1
    assert written_files(dataset) == ["metrics_incomplete.csv", "summary_incomplete.json"]
    partial = read_summary(dataset / "out" / "summary_incomplete.json")
    assert scored_cases(partial) == ["case_0", "case_2"]
    assert list(partial["failed"]) == ["case_1"]

    (dataset / "preds" / "case_1.nii.gz").write_bytes(whole)
    assert evaluate(dataset)["failed"] == {}
    assert written_files(dataset) == RESULTS


def test_evaluate_folder_keeps_an_earlier_evaluation_apart_from_an_incomplete_one(
    dataset: Path,
) -> None:
    evaluate(dataset)
    earlier = (dataset / "out" / "summary.json").read_bytes()
    (dataset / "preds" / "case_1.nii.gz").write_bytes(b"")
    with pytest.raises(
        EvaluationIncomplete, match=r"summary\.json and metrics\.csv there are from an earlier"
    ):
        evaluate(dataset)
    assert (dataset / "out" / "summary.json").read_bytes() == earlier


def test_evaluate_folder_writes_nothing_where_no_case_can_be_read(dataset: Path) -> None:
    for file in (dataset / "labelsTs").iterdir():
        file.write_bytes(b"")
    with pytest.raises(EvaluationIncomplete, match="3 of 3 cases"):
        evaluate(dataset)
    assert not (dataset / "out").exists()


def test_evaluate_folder_refuses_folders_without_a_common_case(dataset: Path) -> None:
    for file in list((dataset / "preds").iterdir()):
        file.rename(file.with_name(f"other_{file.name}"))
    with pytest.raises(
        UserError, match=r"no case in common: there are other_case_0\.nii\.gz and case_0\.nii\.gz"
    ):
        evaluate(dataset, skip_missing=True)


def test_evaluate_folder_does_not_read_files_that_are_being_written(dataset: Path) -> None:
    predictions = dataset / "preds"
    partial = predictions / ".partial-12345678-case_9.nii.gz"
    shutil.copy(predictions / "case_0.nii.gz", partial)
    assert len(evaluate(dataset)["metric_per_case"]) == 3


def test_evaluate_folder_measures_2d_images_in_pixels(dataset: Path) -> None:
    description = replace(DatasetDescription.load(dataset / "dataset.json"), file_ending=".png")
    labels = np.zeros((8, 9), dtype=np.uint8)
    labels[2:5, 2:5] = 1
    for folder, shift in (("preds", 2), ("labelsTs", 0)):
        io.imsave(dataset / folder / "a.png", np.roll(labels, shift, axis=1), check_contrast=False)
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
def test_evaluate_folder_gives_real_references_full_scores_against_themselves(
    real_data: Path, name: str, num_cases: int, tmp_path: Path
) -> None:
    folder = real_data / name
    description = DatasetDescription.load(folder / "dataset.json")
    summary = evaluate_folder(folder / "labelsTs", folder / "labelsTs", description, tmp_path, 0)
    assert len(summary["metric_per_case"]) == num_cases
    for mean in summary["mean"].values():
        assert (mean["Dice"], mean["IoU"], mean["NSD"]) == (1.0, 1.0, 1.0)
        assert (mean["HD95"], mean["ASSD"]) == (0.0, 0.0)


def test_evaluate_folder_scores_a_region_as_the_union_of_its_labels(dataset: Path) -> None:
    plain = evaluate(dataset)
    labels = {"background": 0, "both": [1, 2], "right": 2}
    change_description(dataset, labels=labels, regions_class_order=[1, 2])
    nested = evaluate(dataset)
    assert list(nested["mean"]) == [(1, 2), 2]
    assert nested["mean"][2] == plain["mean"][2]
    written = json.loads((dataset / "out" / "summary.json").read_text())
    assert list(written["mean"]) == ["(1, 2)", "2"]
    together = nested["metric_per_case"][0]["metrics"][(1, 2)]
    apart = [plain["metric_per_case"][0]["metrics"][value] for value in (1, 2)]
    assert together["n_ref"] == sum(scores["n_ref"] for scores in apart)


LABELS = np.zeros((6, 20, 24), np.uint8)
LABELS[2:4, 5:15, 6:18] = 1


def write_stacks(folder: Path, spacings: dict[str, float | None], shift: int = 2) -> None:
    """Write TIFF stacks and their shifted predictions; the spacing is in micrometres."""
    for part, labels in (("labelsTs", LABELS), ("preds", np.roll(LABELS, shift, axis=2))):
        (folder / part).mkdir()
        for name, spacing in spacings.items():
            options: dict[str, Any] = {"metadata": {"axes": "ZYX"}}
            if spacing is not None:
                options["metadata"] |= {"spacing": spacing, "unit": "um"}
                options |= {"imagej": True, "resolution": (1 / spacing, 1 / spacing)}
            tifffile.imwrite(folder / part / f"{name}.tif", labels, **options)
    content = {"channel_names": {"0": "a"}, "labels": {"background": 0, "a": 1}}
    (folder / "dataset.json").write_text(json.dumps(content | {"file_ending": ".tif"}))


def test_distances_of_stacks_without_a_spacing_are_in_voxels(tmp_path: Path) -> None:
    write_stacks(tmp_path, {"a": None})
    summary = evaluate(tmp_path)
    assert summary["distance_unit"] == "voxels"
    assert summary["foreground_mean"]["HD95"] == pytest.approx(2.0)
    assert "HD95_voxels" in (tmp_path / "out" / "metrics.csv").read_text().splitlines()[0]


def test_distances_of_stacks_with_a_spacing_are_in_mm(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_stacks(tmp_path, {"a": 0.5})
    summary = evaluate(tmp_path)
    assert summary["distance_unit"] == "mm"
    assert summary["foreground_mean"]["HD95"] == pytest.approx(0.001)
    assert "case a is 0.0159 mm across, less than the tolerance of 1 for the NSD" in caplog.text
    assert "0.001" in format_table(summary)


def test_distances_are_in_voxels_where_some_cases_have_no_spacing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_stacks(tmp_path, {"a": 0.5, "b": None})
    summary = evaluate(tmp_path)
    assert "1 of 2 cases do not state their spacing, such as b" in caplog.text
    assert summary["distance_unit"] == "voxels"
    assert [entry["metrics"][1]["HD95"] for entry in summary["metric_per_case"]] == [2.0, 2.0]


def test_distances_are_in_mm_where_only_the_prediction_states_the_spacing(tmp_path: Path) -> None:
    write_stacks(tmp_path, {"a": 0.5})
    tifffile.imwrite(tmp_path / "labelsTs" / "a.tif", LABELS, metadata={"axes": "ZYX"})
    summary = evaluate(tmp_path)
    assert summary["distance_unit"] == "mm"
    assert summary["foreground_mean"]["HD95"] == pytest.approx(0.001)


def test_distances_of_2d_images_are_in_pixels(tmp_path: Path) -> None:
    write_stacks(tmp_path, {})
    content = json.loads((tmp_path / "dataset.json").read_text())
    (tmp_path / "dataset.json").write_text(json.dumps(content | {"file_ending": ".png"}))
    io.imsave(tmp_path / "labelsTs" / "a.png", LABELS[2], check_contrast=False)
    io.imsave(tmp_path / "preds" / "a.png", np.roll(LABELS[2], 2, axis=1), check_contrast=False)
    summary = evaluate(tmp_path)
    assert summary["distance_unit"] == "pixels"
    assert summary["foreground_mean"]["HD95"] == pytest.approx(2.0)


def test_volumes_have_the_unit_of_the_images(tmp_path: Path) -> None:
    write_stacks(tmp_path, {"a": 500.0})  # micrometres: voxels of an eighth of a mm3
    summary = evaluate(tmp_path)
    assert summary["volume_unit"] == "mL"
    assert summary["mean"][1]["volume_ref"] == pytest.approx(2 * 10 * 12 * 0.125 / 1000)
    header = (tmp_path / "out" / "metrics.csv").read_text().splitlines()[0].split(",")
    assert {"volume_ref_mL", "volume_error_mL", "volume_error_relative"} <= set(header)
    assert "lesion_F1" in header


def test_volumes_are_counts_where_no_spacing_is_known(tmp_path: Path) -> None:
    write_stacks(tmp_path, {"a": 500.0, "b": None})
    summary = evaluate(tmp_path)
    assert summary["volume_unit"] == "voxels"
    assert summary["mean"][1]["volume_ref"] == 2 * 10 * 12


def test_volumes_of_single_slices_are_areas(dataset: Path) -> None:
    shutil.rmtree(dataset / "preds")
    shutil.rmtree(dataset / "labelsTs")
    for folder in ("preds", "labelsTs"):
        write_label_map(dataset / folder / "a.nii.gz", LABELS[2:3])
    summary = evaluate(dataset)
    assert summary["volume_unit"] == "mm2"
    assert summary["mean"][1]["volume_ref"] == pytest.approx(10 * 12 * 1.0 * 2.0)


def test_evaluate_folder_computes_cldice_of_the_named_classes(dataset: Path) -> None:
    summary = evaluate(dataset, tubes=["right"])
    assert 0 < summary["mean"][2]["clDice"] <= 1
    assert np.isnan(summary["mean"][1]["clDice"])
    assert "clDice" not in evaluate(dataset)["mean"][2]
    with pytest.raises(UserError, match=r"no class 'vein'.*choose among left, inner, right"):
        evaluate(dataset, tubes=["vein"])


def test_evaluate_folder_finds_the_patients_by_the_key_of_the_data_set(dataset: Path) -> None:
    assert evaluate(dataset)["num_patients"] == 3
    assert evaluate(dataset, patient_key="^case")["num_patients"] == 1
    change_description(dataset, patient_key="case_([01]).*|case_2")
    assert evaluate(dataset)["num_patients"] == 3
    change_description(dataset, patient_key="[a-z]+")
    summary = evaluate(dataset)
    assert (summary["num_patients"], summary["patient_key"]) == (1, "[a-z]+")
