"""The fingerprint of a data set, and when it is measured again."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from skimage import io

from samnet.core.errors import SamnetError, UserError
from samnet.dataset.cases import RawDataset
from samnet.fingerprint.extract import extract_fingerprint
from samnet.fingerprint.measure import measure_case
from samnet.fingerprint.records import PERCENTILES, Fingerprint

MakeDataset = Callable[..., Path]
OLD = 1  # a date in nanoseconds


@pytest.fixture
def dataset(make_dataset: MakeDataset, folders: dict[str, Path]) -> RawDataset:
    make_dataset(folders["raw"], num_cases=3)
    return RawDataset.load(501)


def make_old(dataset: RawDataset) -> None:
    """Give the fingerprint's file an old date, so that a later measurement can be told."""
    os.utime(dataset.folder.fingerprint_file, ns=(OLD, OLD))


def is_measured_again(dataset: RawDataset) -> bool:
    """Whether the fingerprint was written since `make_old`."""
    return dataset.folder.fingerprint_file.stat().st_mtime_ns != OLD


def test_fingerprint_holds_the_description_and_every_case(dataset: RawDataset) -> None:
    fingerprint = extract_fingerprint(dataset, 0)
    assert fingerprint.channel_names == ("MRI",)
    assert fingerprint.label_scheme.labels == {"background": 0, "ball": 1}
    assert list(fingerprint.cases) == ["case_00", "case_01", "case_02"]
    assert fingerprint.median_spacing == (2.0, 1.0, 1.0)
    assert Fingerprint.load(dataset.folder.fingerprint_file) == fingerprint


def test_fingerprint_holds_what_tells_the_patient(dataset: RawDataset) -> None:
    file = dataset.folder.description_file
    file.write_text(json.dumps(json.loads(file.read_text()) | {"patient_key": "^case"}))
    assert extract_fingerprint(RawDataset.load(501), 0).patient_key == "^case"


def test_fingerprint_does_not_depend_on_the_number_of_processes(dataset: RawDataset) -> None:
    alone = extract_fingerprint(dataset, 0)
    dataset.folder.fingerprint_file.unlink()
    assert extract_fingerprint(dataset, 2) == alone


def test_fingerprint_is_measured_once(dataset: RawDataset) -> None:
    first = extract_fingerprint(dataset, 0)
    make_old(dataset)
    assert extract_fingerprint(dataset, 0) == first
    assert not is_measured_again(dataset)


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
def test_fingerprint_of_changed_raw_data_is_measured_again(
    dataset: RawDataset, change: Callable[[Path], None]
) -> None:
    first = extract_fingerprint(dataset, 0)
    make_old(dataset)
    change(dataset.folder.raw)
    second = extract_fingerprint(RawDataset.load(501), 0)
    assert is_measured_again(dataset)
    assert second.data_key != first.data_key
    shutil.rmtree(dataset.folder.preprocessed)
    assert extract_fingerprint(RawDataset.load(501), 0) == second


def test_fingerprint_of_a_copied_or_touched_data_set_is_not_measured_again(
    dataset: RawDataset,
    folders: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = extract_fingerprint(dataset, 0)
    make_old(dataset)
    os.utime(dataset.folder.training_images / "case_01_0000.nii.gz", ns=(1, 1))
    assert extract_fingerprint(RawDataset.load(501), 0) == first
    shutil.copytree(folders["raw"], folders["raw"].with_name("copy"), copy_function=shutil.copyfile)
    monkeypatch.setenv("samnet_raw", str(folders["raw"].with_name("copy")))
    assert extract_fingerprint(RawDataset.load(501), 0) == first
    assert not is_measured_again(dataset)


def test_fingerprint_file_grows_with_the_cases_and_not_with_their_slices(
    make_dataset: MakeDataset, folders: dict[str, Path]
) -> None:
    sizes = {}
    for number, cases in ((501, 1), (502, 9)):
        make_dataset(folders["raw"], number, num_cases=cases, shape=(40, 48, 48))
        dataset = RawDataset.load(number)
        extract_fingerprint(dataset, 0)
        sizes[cases] = len(dataset.folder.fingerprint_file.read_text())
    assert sizes[9] - sizes[1] < 8 * 600


def test_fingerprint_diameters_are_percentiles_over_the_slices_of_all_cases(
    dataset: RawDataset,
) -> None:
    slices = [measure_case(case, dataset.description).sizes["ball"][0] for case in dataset.cases]
    diameters = [value for entry in slices for value in entry.diameters]
    fingerprint = extract_fingerprint(dataset, 0)
    for percentile in (0, 10, 50, 100):
        expected = np.percentile(diameters, percentile)
        assert fingerprint.diameter("ball", 0, percentile) == pytest.approx(expected, abs=1e-3)


def with_older_schema(text: str) -> str:
    return json.dumps(json.loads(text) | {"schema_version": 0})


def of_version_2(text: str) -> str:
    content = json.loads(of_version_3(text)) | {"schema_version": 2}
    for case in content["cases"].values():
        del case["has_spacing"]
    return json.dumps(content)


def of_version_3(text: str) -> str:
    content = json.loads(text) | {"schema_version": 3}
    for case in content["cases"].values():
        del case["blank"]
    return json.dumps(content)


def without_schema(text: str) -> str:
    content = json.loads(text)
    del content["schema_version"]
    return json.dumps(content)


def with_unknown_key(text: str) -> str:
    return json.dumps(json.loads(text) | {"new_key": 1})


def cut_off(text: str) -> str:
    return text[: len(text) // 2]


def no_object(text: str) -> str:
    return "[]"


def empty(text: str) -> str:
    return ""


@pytest.mark.parametrize(("version", "write"), [(2, of_version_2), (3, of_version_3)])
def test_fingerprint_of_an_earlier_version_can_be_read_and_is_measured_again(
    dataset: RawDataset, version: int, write: Callable[[str], str]
) -> None:
    """Training runs that were begun with it can be resumed."""
    first = extract_fingerprint(dataset, 0)
    path = dataset.folder.fingerprint_file
    path.write_text(write(path.read_text()))
    cases = {name: replace(case, blank=None) for name, case in first.cases.items()}
    assert Fingerprint.load(path) == replace(first, schema_version=version, cases=cases)
    make_old(dataset)
    assert extract_fingerprint(dataset, 0) == first
    assert is_measured_again(dataset)


@pytest.mark.parametrize(
    "damage",
    [
        with_older_schema,
        without_schema,
        with_unknown_key,
        cut_off,
        no_object,
        empty,
    ],
)
def test_fingerprint_that_cannot_be_used_is_measured_again(
    dataset: RawDataset, damage: Callable[[str], str]
) -> None:
    first = extract_fingerprint(dataset, 0)
    path = dataset.folder.fingerprint_file
    path.write_text(damage(path.read_text()))
    with pytest.raises(UserError):
        Fingerprint.load(path)
    make_old(dataset)
    assert extract_fingerprint(dataset, 0) == first
    assert is_measured_again(dataset)
    assert Fingerprint.load(path) == first


def test_extract_fingerprint_names_all_cases_that_cannot_be_measured_and_writes_nothing(
    dataset: RawDataset,
) -> None:
    for name in ("case_00", "case_02"):
        (dataset.folder.training_images / f"{name}_0000.nii.gz").write_bytes(b"no image")
    with pytest.raises(
        SamnetError, match=r"(?s)failed for 2 of 3 cases.*case_00.*case_02"
    ) as caught:
        extract_fingerprint(dataset, 0)
    assert caught.value.exit_code == 1
    assert not dataset.folder.fingerprint_file.exists()


def test_fingerprint_foreground_is_the_median_over_cases(
    dataset: RawDataset,
) -> None:
    fingerprint = extract_fingerprint(dataset, 0)
    rows = [case.channels[0].foreground for case in fingerprint.cases.values()]
    assert len(fingerprint.foreground[0]) == len(PERCENTILES)
    assert fingerprint.foreground[0] == pytest.approx(np.median(np.array(rows), axis=0))


def test_fingerprint_of_a_data_set_without_labels(
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


def test_images_without_labels_are_counted_and_nothing_is_measured_again_for_them(
    dataset: RawDataset,
) -> None:
    first = extract_fingerprint(dataset, processes=0)
    assert first.num_unlabelled == 0
    shutil.copytree(dataset.folder.training_images, dataset.folder.unlabelled_images)
    more = extract_fingerprint(RawDataset.read(dataset.folder), processes=0)
    assert more == replace(first, num_unlabelled=len(dataset.cases))
    assert Fingerprint.load(dataset.folder.fingerprint_file) == more
