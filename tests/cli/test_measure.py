"""`samnet_measure`: what it writes, and that one bad file does not stop the others."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from builders.label_maps import SPACING_XYZ, write_label_map, write_predicted_dataset
from skimage import io

from samnet.cli.measure import main


@pytest.fixture
def dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data set whose predictions have images, in which every voxel is 7."""
    folder = write_predicted_dataset(tmp_path)
    monkeypatch.chdir(folder)
    for number in range(3):
        image = np.full((6, 8, 10), 7, dtype=np.int16)
        write_label_map(folder / "images" / f"case_{number}_0000.nii.gz", image)
    return folder


def run(*options: str) -> int:
    return main(["-p", "preds", "-np", "0", *options])


def read_rows(folder: str) -> list[dict[str, str]]:
    with (Path(folder) / "measurements.csv").open(newline="", encoding="utf-8") as handle:
        return list(csv.DictReader(handle))


def test_measure_writes_a_row_for_each_case_and_class(
    dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run() == 0
    rows = read_rows("preds")
    assert [(row["case"], row["class"]) for row in rows[:2]] == [
        ("case_0", "left, inner"),
        ("case_0", "right"),
    ]
    assert len(rows) == 6
    assert (rows[0]["volume_unit"], rows[0]["length_unit"]) == ("mL", "mm")
    assert float(rows[0]["volume"]) == pytest.approx(2 * 3 * 3 * np.prod(SPACING_XYZ) / 1000)
    assert [float(rows[0][f"extent_{axis}"]) for axis in "xyz"] == [3.0, 6.0, 6.0]
    assert "MRI_mean" not in rows[0]
    content = json.loads(Path("preds/measurements.json").read_text())
    assert content["cases"]["case_0"]["classes"]["right"]["components"] == 1
    assert content["failed"] == {}
    printed = capsys.readouterr().out
    assert "volume (mL)" in printed
    assert "left, inner" in printed


def test_measure_shows_a_table_for_each_unit(
    dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = np.zeros((8, 1, 10), np.uint8)
    labels[:5] = 1
    write_label_map(Path("preds/flat.nii.gz"), labels)
    assert run() == 0
    volumes, areas = capsys.readouterr().out.split("written")[0].split("\n\n")
    assert volumes.startswith("volume (mL)")
    assert areas.startswith("area (mm2)")
    # 50 voxels of 1 x 3 mm.
    size = ["150.00", "150.00", "to", "150.00"]
    assert areas.splitlines()[3].split() == ["left,", "inner", "1", *size, "1"]


def test_measure_with_images_measures_intensities(dataset: Path) -> None:
    assert run("-i", "images", "-o", "out") == 0
    row = read_rows("out")[0]
    assert (row["MRI_mean"], row["MRI_std"], row["MRI_p95"]) == ("7.0", "0.0", "7.0")
    assert not Path("preds/measurements.csv").exists()


def test_measure_names_what_it_cannot_measure_and_measures_the_others(
    dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = np.zeros((6, 8, 10), dtype=np.uint8)
    write_label_map(Path("preds/value.nii.gz"), labels + 7)
    write_label_map(Path("preds/shifted.nii.gz"), labels, shift_mm=4.0)
    write_label_map(Path("preds/alone.nii.gz"), labels)
    for name in ("value", "shifted"):
        write_label_map(Path(f"images/{name}_0000.nii.gz"), labels.astype(np.int16))
    Path("preds/case_1.nii.gz").write_bytes(b"no image")
    assert run("-i", "images") == 1
    message = capsys.readouterr().err
    assert "4 of 6 cases could not be measured" in message
    for words in (
        "value.nii.gz: has the label 7, dataset.json declares 0 to 2",
        "shifted.nii.gz: lies 4.0 voxels beside images/shifted_0000.nii.gz",
        "alone.nii.gz: images has no image of that name",
        "case_1.nii.gz: cannot be read",
    ):
        assert words in message
    assert {row["case"] for row in read_rows("preds")} == {"case_0", "case_2"}
    failed = json.loads(Path("preds/measurements.json").read_text())["failed"]
    assert list(failed) == ["alone", "case_1", "shifted", "value"]


def test_measure_writes_nothing_where_nothing_can_be_measured(
    dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for file in Path("preds").iterdir():
        file.write_bytes(b"")
    assert run("-o", "out") == 1
    assert "3 of 3 cases" in capsys.readouterr().err
    assert not Path("out").exists()


def test_measure_shows_an_empty_cell_and_null_for_an_absent_class(dataset: Path) -> None:
    write_label_map(Path("preds/case_0.nii.gz"), np.zeros((6, 8, 10), dtype=np.uint8))
    assert run() == 0
    row = read_rows("preds")[0]
    assert (row["voxels"], row["volume"], row["extent_x"]) == ("0", "0", "")
    content = json.loads(Path("preds/measurements.json").read_text())
    assert content["cases"]["case_0"]["classes"]["right"]["centroid_x"] is None


def test_measure_counts_pixels_of_images_without_a_spacing(dataset: Path) -> None:
    content = json.loads(Path("dataset.json").read_text())
    Path("dataset.json").write_text(json.dumps(content | {"file_ending": ".png"}))
    mask = np.zeros((9, 9), dtype=np.uint8)
    mask[2:5, 3:7] = 1
    io.imsave("preds/a.png", mask, check_contrast=False)
    assert run("--dataset-json", "dataset.json") == 0
    row = read_rows("preds")[0]
    assert (row["volume"], row["volume_unit"], row["length_unit"]) == ("12.0", "pixels", "pixels")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["-p", "absent"], "absent: no such folder"),
        (["-p", "preds", "-i", "absent"], "absent: no such folder"),
        (["-p", "empty"], "empty: holds no .nii.gz file"),
        (["-p", "preds", "--dataset-json", "absent.json"], "absent.json"),
    ],
)
def test_measure_refuses_folders_that_it_cannot_use(
    dataset: Path, options: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("empty").mkdir()
    assert main([*options, "-np", "0"]) == 2
    assert words in capsys.readouterr().err
