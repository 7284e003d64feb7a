"""The fingerprint of a data set, and when it is measured anew."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from skimage import io

import samnet.fingerprint.extract as module
from samnet.core.errors import SamnetError, UserError
from samnet.dataset.cases import RawDataset
from samnet.fingerprint.extract import extract_fingerprint, fingerprint_path
from samnet.fingerprint.measure import measure_case
from samnet.fingerprint.records import PERCENTILES, Fingerprint

MakeDataset = Callable[..., Path]


@pytest.fixture
def dataset(make_dataset: MakeDataset, folders: dict[str, Path]) -> RawDataset:
    make_dataset(folders["raw"], num_cases=3)
    return RawDataset.load(501)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the cases that are measured from here on."""
    names: list[str] = []
    measure = module.measure_case

    def spy(case, description):
        names.append(case.identifier)
        return measure(case, description)

    monkeypatch.setattr(module, "measure_case", spy)
    return names


def test_it_holds_what_the_data_set_says_and_every_case(dataset: RawDataset) -> None:
    fingerprint = extract_fingerprint(dataset, 0)
    assert (fingerprint.channel_names, fingerprint.labels) == (
        ("MRI",),
        {"background": 0, "ball": 1},
    )
    assert list(fingerprint.cases) == ["case_00", "case_01", "case_02"]
    assert fingerprint.median_spacing == (2.0, 1.0, 1.0)
    assert Fingerprint.load(fingerprint_path(dataset.name)) == fingerprint


def test_the_number_of_processes_changes_nothing(dataset: RawDataset) -> None:
    alone = extract_fingerprint(dataset, 0)
    fingerprint_path(dataset.name).unlink()
    assert extract_fingerprint(dataset, 2) == alone


def test_it_is_measured_once(dataset: RawDataset, measured: list[str]) -> None:
    first = extract_fingerprint(dataset, 0)
    written = fingerprint_path(dataset.name).stat().st_mtime_ns
    assert extract_fingerprint(dataset, 0) == first
    assert len(measured) == 3
    assert fingerprint_path(dataset.name).stat().st_mtime_ns == written


def change_a_label(folder: Path) -> None:
    file = folder / "labelsTr" / "case_00.nii.gz"
    file.write_bytes((folder / "labelsTr" / "case_01.nii.gz").read_bytes())


def remove_a_case(folder: Path) -> None:
    (folder / "imagesTr" / "case_02_0000.nii.gz").unlink()
    (folder / "labelsTr" / "case_02.nii.gz").unlink()


def rename_a_class(folder: Path) -> None:
    description = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text(
        json.dumps(description | {"labels": {"background": 0, "globe": 1}})
    )


@pytest.mark.parametrize("change", [change_a_label, remove_a_case, rename_a_class])
def test_changed_raw_data_are_measured_again(
    dataset: RawDataset, measured: list[str], change: Callable[[Path], None]
) -> None:
    first = extract_fingerprint(dataset, 0)
    measured.clear()
    change(dataset.folder.raw)
    second = extract_fingerprint(RawDataset.load(501), 0)
    assert len(measured) == len(second.cases)
    assert second.data_key != first.data_key


def test_a_copied_and_a_touched_data_set_is_the_same(
    dataset: RawDataset,
    measured: list[str],
    folders: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = extract_fingerprint(dataset, 0)
    measured.clear()
    os.utime(dataset.folder.training_images / "case_01_0000.nii.gz", ns=(1, 1))
    assert extract_fingerprint(RawDataset.load(501), 0) == first
    shutil.copytree(folders["raw"], folders["raw"].with_name("copy"), copy_function=shutil.copyfile)
    monkeypatch.setenv("samnet_raw", str(folders["raw"].with_name("copy")))
    assert extract_fingerprint(RawDataset.load(501), 0) == first
    assert measured == []


def test_it_grows_by_a_line_a_case_and_not_with_the_slices(
    make_dataset: MakeDataset, folders: dict[str, Path]
) -> None:
    sizes = {}
    for number, cases in ((501, 1), (502, 9)):
        make_dataset(folders["raw"], number, num_cases=cases, shape=(40, 48, 48))
        extract_fingerprint(RawDataset.load(number), 0)
        sizes[cases] = len(fingerprint_path(f"Dataset{number}_Tiny").read_text())
    assert sizes[9] - sizes[1] < 8 * 600


def test_shapes_are_percentiles_over_the_slices_of_all_cases(dataset: RawDataset) -> None:
    slices = [measure_case(case, dataset.description).sizes["ball"][0] for case in dataset.cases]
    diameters = [value for entry in slices for value in entry.diameters]
    fingerprint = extract_fingerprint(dataset, 0)
    for percentile in (0, 10, 50, 100):
        expected = np.percentile(diameters, percentile)
        assert fingerprint.diameter("ball", 0, percentile) == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: json.dumps(json.loads(text) | {"schema_version": 0}),
        lambda text: json.dumps(
            {key: value for key, value in json.loads(text).items() if key != "schema_version"}
        ),
        lambda text: json.dumps(json.loads(text) | {"new_key": 1}),
        lambda text: text[: len(text) // 2],
        lambda text: "[]",
        lambda text: "",
    ],
    ids=["older schema", "no schema", "unknown key", "cut off", "no object", "empty"],
)
def test_one_that_cannot_be_used_is_measured_again(
    dataset: RawDataset, measured: list[str], damage: Callable[[str], str]
) -> None:
    first = extract_fingerprint(dataset, 0)
    path = fingerprint_path(dataset.name)
    path.write_text(damage(path.read_text()))
    with pytest.raises(UserError):
        Fingerprint.load(path)
    measured.clear()
    assert extract_fingerprint(dataset, 0) == first
    assert len(measured) == 3
    assert Fingerprint.load(path) == first


def test_cases_that_cannot_be_measured_are_all_named_and_nothing_is_written(
    dataset: RawDataset,
) -> None:
    for name in ("case_00", "case_02"):
        (dataset.folder.training_images / f"{name}_0000.nii.gz").write_bytes(b"no image")
    with pytest.raises(
        SamnetError, match=r"(?s)failed for 2 of 3 cases.*case_00.*case_02"
    ) as caught:
        extract_fingerprint(dataset, 0)
    assert caught.value.exit_code == 1
    assert not fingerprint_path(dataset.name).exists()


def test_pooled_percentiles_are_medians_that_one_odd_case_does_not_move(
    dataset: RawDataset,
) -> None:
    fingerprint = extract_fingerprint(dataset, 0)
    rows = [case.channels[0].foreground for case in fingerprint.cases.values()]
    assert len(fingerprint.foreground[0]) == len(PERCENTILES)
    assert fingerprint.foreground[0] == pytest.approx(np.median(np.array(rows), axis=0))


def test_without_any_label_there_is_a_fingerprint(
    make_dataset: MakeDataset, folders: dict[str, Path]
) -> None:
    folder = make_dataset(folders["raw"], num_cases=1, file_ending=".png", shape=(4, 24, 20))
    io.imsave(
        folder / "labelsTr" / "case_00.png", np.zeros((24, 20), np.uint8), check_contrast=False
    )
    fingerprint = extract_fingerprint(RawDataset.load(501), 0)
    assert fingerprint.foreground == ((0.0,) * 5,)
    assert fingerprint.labelled_slices(0) == 0
    assert fingerprint.diameter("ball", 0, 10) is fingerprint.thickness("ball", 0, 50) is None
