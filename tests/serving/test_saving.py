"""What is done with label maps and images that clients send."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
from builders.data import write_dataset, write_volume
from builders.dicom import write_series
from builders.serving import files_below

from samnet.core.errors import UserError
from samnet.dataset.cases import RawDataset
from samnet.dataset.dataset_folder import DatasetFolder
from samnet.dataset.images import read_image, read_labels
from samnet.dataset.integrity import verify_dataset
from samnet.serving.datastore import Datastore
from samnet.serving.errors import Conflict, NotFound, Unusable
from samnet.serving.saving import save_image, save_label

AFFINE = np.diag([1.0, 1.0, 2.0, 1.0])
INFO = [{"name": "one", "idx": 1}, {"name": "two", "idx": 2}]


def label_map(tmp_path: Path, values: list[int], shape: tuple[int, ...] = (5, 24, 20)) -> Path:
    """Write a label map in which each value fills a row of pixels."""
    labels = np.zeros(shape, np.uint8)
    for row, value in enumerate(values):
        labels[2, row] = value
    file = tmp_path / "sent.nii.gz"
    write_volume(file, labels, AFFINE)
    return file


def values_of(file: Path) -> list[int]:
    return [int(value) for value in read_labels(file).array[0, 2, :3, 0]]


def test_final_label_becomes_training_data(folder: DatasetFolder, tmp_path: Path) -> None:
    store = Datastore(folder)
    before = files_below(folder.raw)
    saved = save_label(store, "case_04.nii.gz", label_map(tmp_path, [1, 2]), "final", INFO)
    assert saved.is_labelled
    assert saved.is_training
    added = files_below(folder.raw) - before
    assert added == {"imagesTr/case_04_0000.nii.gz", "labelsTr/case_04.nii.gz"}
    assert values_of(folder.training_labels / "case_04.nii.gz") == [1, 2, 0]
    assert json.loads(folder.description_file.read_text())["numTraining"] == 4
    assert [image.identifier for image in store.unlabelled()] == ["case_03", "case_05"]
    verify_dataset(RawDataset.load(501), 0)


def test_other_tags_are_kept_apart(folder: DatasetFolder, tmp_path: Path) -> None:
    store = Datastore(folder)
    before = files_below(folder.raw)
    saved = save_label(store, "case_04", label_map(tmp_path, [1]), "draft", INFO)
    assert not saved.is_labelled
    assert files_below(folder.raw) - before == {"annotations/draft/case_04.nii.gz"}
    assert store.status() == {
        "total": 6,
        "completed": 3,
        "label_tags": {"final": 3, "draft": 1},
    }
    assert values_of(store.find_label("case_04", "draft")) == [1, 0, 0]
    verify_dataset(RawDataset.load(501), 0)


def test_replaced_label_is_kept(folder: DatasetFolder, tmp_path: Path) -> None:
    store = Datastore(folder)
    old = (folder.training_labels / "case_00.nii.gz").read_bytes()
    save_label(store, "case_00", label_map(tmp_path, [2]), "final", INFO)
    assert values_of(folder.training_labels / "case_00.nii.gz") == [2, 0, 0]
    [kept] = (folder.raw / "annotations" / "previous").iterdir()
    assert kept.read_bytes() == old
    assert kept.name.startswith("case_00.")
    assert store.status()["total"] == 6


@pytest.mark.parametrize(
    ("info", "sent", "expected"),
    [
        ([{"name": "two", "idx": 1}, {"name": "one", "idx": 2}], [1, 2], [2, 1, 0]),
        # 3D Slicer counts a segment that it does not export, and numbers from 1 on all the same.
        ([{"name": "one", "idx": 2}, {"name": "two", "idx": 3}], [1, 2], [1, 2, 0]),
        ([{"name": "one", "idx": 4}, {"name": "two", "idx": 5}], [4, 5], [1, 2, 0]),
        ([{"name": "strange", "idx": 1}, {"name": "two", "idx": 2}], [2], [2, 0, 0]),
        ([], [1, 2], [1, 2, 0]),
        (["rubbish", {"idx": 3}, None], [2], [2, 0, 0]),
    ],
)
def test_values_follow_the_names_of_segments(
    folder: DatasetFolder, tmp_path: Path, info: list, sent: list[int], expected: list[int]
) -> None:
    save_label(Datastore(folder), "case_03", label_map(tmp_path, sent), "final", info)
    assert values_of(folder.training_labels / "case_03.nii.gz") == expected


@pytest.mark.parametrize(
    ("info", "sent", "message"),
    [
        ([{"name": "tumour", "idx": 1}], [1], "'tumour'; the labels of this data set are one, two"),
        ([{"name": "one", "idx": 1}], [1, 7], "'value 7'"),
        ([], [9], r"the values \[9\]; those of this data set are \[0, 1, 2\]"),
    ],
)
def test_unknown_labels_are_refused(
    folder: DatasetFolder, tmp_path: Path, info: list, sent: list[int], message: str
) -> None:
    before = files_below(folder.raw)
    with pytest.raises(Unusable, match=message):
        save_label(Datastore(folder), "case_03", label_map(tmp_path, sent), "final", info)
    assert files_below(folder.raw) == before


def test_label_on_another_grid_is_refused(folder: DatasetFolder, tmp_path: Path) -> None:
    store, before = Datastore(folder), files_below(folder.raw)
    with pytest.raises(Unusable, match=r"shape \(4, 24, 20\).*differs from \(5, 24, 20\)"):
        save_label(store, "case_03", label_map(tmp_path, [1], (4, 24, 20)), "final")
    shifted = label_map(tmp_path, [1])
    write_volume(shifted, np.ones((5, 24, 20), np.uint8), AFFINE + np.eye(4)[:, [3, 0, 1, 2]])
    with pytest.raises(Unusable, match="beside its image"):
        save_label(store, "case_03", shifted, "final")
    shifted.write_bytes(b"no image")
    with pytest.raises(UserError, match="cannot be read"):
        save_label(store, "case_03", shifted, "final")
    with pytest.raises(NotFound):
        save_label(store, "../case_03/x", label_map(tmp_path, [1]), "final")
    assert files_below(folder.raw) == before


def test_voxels_without_a_header_are_read(folder: DatasetFolder, tmp_path: Path) -> None:
    file = tmp_path / "label.bin"
    labels = np.zeros((5, 24, 20), "<u2")
    labels[2, 0] = 2
    for kind in ("<u2", np.uint8):
        file.write_bytes(labels.astype(kind).tobytes())
        save_label(Datastore(folder), "case_05", file, "final", INFO)
        assert values_of(folder.training_labels / "case_05.nii.gz") == [2, 0, 0]
    file.write_bytes(b"123")
    with pytest.raises(Unusable, match="3 bytes"):
        save_label(Datastore(folder), "case_05", file, "final", INFO)


def test_dicom_series_is_found_by_its_uid_and_stored_as_nifti(
    folder: DatasetFolder, tmp_path: Path
) -> None:
    volume = np.random.default_rng(0).integers(0, 90, (4, 6, 5)).astype(np.int16)
    series = tmp_path / "pacs" / "patient" / "series"
    write_series(series, volume, [(0.0, 0.0, 3.0 * index) for index in range(4)])
    uid = pydicom.dcmread(next(series.iterdir())).SeriesInstanceUID
    store = Datastore(folder, (tmp_path / "pacs",))
    found = store.find(str(uid))
    assert found.identifier == "patient_series"
    image = read_image([series])
    sent = tmp_path / "sent.nii.gz"
    labels = (image.array[0] > 45).astype(np.uint8)
    nibabel.save(nibabel.Nifti1Image(labels.T, image.grid.affine), sent)
    saved = save_label(store, str(uid), sent, "final")
    copied = read_image(saved.case.image_files)
    assert saved.file.parent == folder.training_images
    assert copied.grid.difference(image.grid) is None
    assert np.array_equal(copied.array, image.array)
    assert np.array_equal(read_labels(saved.labels["final"]).array[0], labels)


def test_uploaded_image_is_stored_once(folder: DatasetFolder, tmp_path: Path) -> None:
    store, file = Datastore(folder), tmp_path / "image.nii.gz"
    write_volume(file, np.full((5, 24, 20), 7, np.uint8), AFFINE)
    assert save_image(store, "new: scan.nii.gz", file, ".nii.gz") == "new_scan"
    assert (folder.raw / "imagesUnlabelled" / "new_scan_0000.nii.gz").is_file()
    before = files_below(folder.raw)
    assert save_image(store, "New: scan", file, ".nii.gz") == "new_scan"
    write_volume(file, np.full((5, 24, 20), 8, np.uint8), AFFINE)
    with pytest.raises(Conflict, match="another one of this name"):
        save_image(store, "new: scan", file, ".nii.gz")
    assert files_below(folder.raw) == before
    with pytest.raises(Unusable, match=r"end in \.nii\.gz"):
        save_image(store, "other", tmp_path / "image.nrrd", ".nrrd")


def test_image_with_too_few_channels_is_refused(
    folder: DatasetFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_dataset(folder.raw.parent, number=502, name="Two", num_cases=1, channels=("T1", "T2"))
    store = Datastore(DatasetFolder.of("Dataset502_Two"))
    with pytest.raises(Unusable, match=r"1 channel.*the data set 2: T1, T2"):
        save_image(store, "new", folder.training_images / "case_00_0000.nii.gz", ".nii.gz")


def test_listed_files_are_refused(folder: DatasetFolder) -> None:
    content = json.loads(folder.description_file.read_text())
    content["dataset"] = {"a": {"images": ["imagesTr/case_00_0000.nii.gz"], "label": "x.nii.gz"}}
    folder.description_file.write_text(json.dumps(content))
    with pytest.raises(UserError, match="lists the files of its cases"):
        Datastore(folder)


def test_files_that_others_add_and_remove_are_noticed(folder: DatasetFolder) -> None:
    store = Datastore(folder)
    images = folder.raw / "imagesUnlabelled"
    (images / "case_05_0000.nii.gz").rename(images / "late_0000.nii.gz")
    assert [image.identifier for image in store.unlabelled()] == ["case_03", "case_04", "late"]
    with pytest.raises(NotFound):
        store.find("case_05")
