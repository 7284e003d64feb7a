from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK
from builders.broken_input import change, describe, mask_of_255, put
from skimage import io

from samnet.core.errors import UserError
from samnet.dataset.cases import RawDataset
from samnet.dataset.integrity import inspect_dataset
from samnet.dataset.repair import map_masks

MakeDataset = Callable[..., Path]


@pytest.fixture
def dataset(folders: dict[str, Path], make_dataset: MakeDataset) -> Path:
    """Write three cases, of which the first two have masks of 0 and 255."""
    dataset = make_dataset(folders["raw"], num_cases=3, shape=(4, 12, 10))
    for number in (0, 1):
        change(dataset / "labelsTr" / f"case_{number:02d}.nii.gz", mask_of_255)
    return dataset


def fix() -> list[str]:
    return list(map_masks(inspect_dataset(RawDataset.load(501), 0)))


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_map_masks_maps_keeps_and_reports_each_file(dataset: Path) -> None:
    before = contents(dataset / "labelsTr")
    masks = {name: np.asarray(nibabel.load(dataset / "labelsTr" / name).dataobj) for name in before}
    done = fix()
    assert [line.partition(": ")[0] for line in done] == [
        str(dataset / "labelsTr" / f"case_{number:02d}.nii.gz") for number in (0, 1)
    ]
    voxels = int((masks["case_00.nii.gz"] == 255).sum())
    originals = dataset / "labelsTr_before_fix"
    assert f"mapped 255 to 1 in {voxels} voxels; the original file is {originals}" in done[0]
    for name, mask in masks.items():
        mapped = nibabel.load(dataset / "labelsTr" / name)
        assert np.array_equal(np.asarray(mapped.dataobj), mask > 0)
        assert np.array_equal(
            mapped.affine, nibabel.load(dataset / "imagesTr" / "case_00_0000.nii.gz").affine
        )
    kept = contents(originals)
    assert kept == {name: before[name] for name in ("case_00.nii.gz", "case_01.nii.gz")}
    assert contents(dataset / "labelsTr")["case_02.nii.gz"] == before["case_02.nii.gz"]
    assert inspect_dataset(RawDataset.load(501), 0).faults == ()


def test_map_masks_run_twice_changes_nothing_more(dataset: Path) -> None:
    assert len(fix()) == 2
    after = contents(dataset / "labelsTr")
    assert fix() == []
    assert contents(dataset / "labelsTr") == after


@pytest.mark.parametrize(
    ("labels", "value"),
    [
        ({"background": 0, "ball": 1}, 7),
        ({"background": 0, "ball": 1}, 1),
        ({"background": 0, "ball": 1, "cube": 2}, 255),
    ],
)
def test_map_masks_leaves_ambiguous_values_alone(
    dataset: Path, labels: dict[str, int], value: int
) -> None:
    describe(dataset, labels=labels)
    for number in (0, 1):
        change(dataset / "labelsTr" / f"case_{number:02d}.nii.gz", put(value, np.uint8))
    before = contents(dataset / "labelsTr")
    assert fix() == []
    assert contents(dataset / "labelsTr") == before
    assert not (dataset / "labelsTr_before_fix").exists()


def test_map_masks_leaves_a_mask_with_ignored_voxels_alone(dataset: Path) -> None:
    describe(dataset, labels={"background": 0, "ball": 1, "ignore": 2})
    change(dataset / "labelsTr" / "case_00.nii.gz", put(2, np.uint8))
    assert len(fix()) == 1  # case_00 holds 2 and 255: left alone


def test_map_masks_never_replaces_a_kept_original(dataset: Path) -> None:
    kept = dataset / "labelsTr_before_fix" / "case_00.nii.gz"
    kept.parent.mkdir()
    kept.write_bytes(b"another")
    before = contents(dataset / "labelsTr")
    with pytest.raises(
        UserError,
        match=r"case_00\.nii\.gz: is there already and differs from .*; move it elsewhere",
    ):
        fix()
    assert kept.read_bytes() == b"another"
    assert contents(dataset / "labelsTr") == before


def test_map_masks_killed_after_a_backup_maps_the_rest_later(
    dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    before = contents(dataset / "labelsTr")
    with monkeypatch.context() as patch:
        patch.setattr(nibabel, "save", stop)
        with pytest.raises(KeyboardInterrupt):
            fix()
    assert [file.name for file in (dataset / "labelsTr_before_fix").iterdir()] == ["case_00.nii.gz"]
    assert contents(dataset / "labelsTr") == before
    assert len(fix()) == 2
    assert contents(dataset / "labelsTr_before_fix")["case_00.nii.gz"] == before["case_00.nii.gz"]


def test_map_masks_leaves_a_file_that_changed_since_the_report_alone(dataset: Path) -> None:
    report = inspect_dataset(RawDataset.load(501), 0)
    change(dataset / "labelsTr" / "case_00.nii.gz", put(9, np.uint8))
    with pytest.raises(UserError, match="holds more than 0 and 255; check the data set again"):
        list(map_masks(report))
    assert not (dataset / "labelsTr_before_fix").exists()


def test_map_masks_maps_2d_images_too(folders: dict[str, Path], make_dataset: MakeDataset) -> None:
    dataset = make_dataset(folders["raw"], num_cases=1, file_ending=".png")
    file = dataset / "labelsTr" / "case_00.png"
    labels = io.imread(file)
    io.imsave(file, labels * np.uint8(255), check_contrast=False)
    assert len(fix()) == 1
    assert np.array_equal(io.imread(file), labels)


def test_map_masks_keeps_the_voxels_of_a_header_with_it(
    folders: dict[str, Path], make_dataset: MakeDataset
) -> None:
    dataset = make_dataset(folders["raw"], num_cases=2, shape=(4, 12, 10), file_ending=".mha")
    file = dataset / "labelsTr" / "case_00.mhd"
    image = SimpleITK.ReadImage(str(file.with_suffix(".mha")))
    file.with_suffix(".mha").unlink()
    SimpleITK.WriteImage(image * 255, str(file))
    (done,) = fix()
    assert "mapped 255 to 1" in done
    kept = dataset / "labelsTr_before_fix"
    assert np.array_equal(
        SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(kept / "case_00.mhd"))),
        255 * SimpleITK.GetArrayFromImage(image),
    )
