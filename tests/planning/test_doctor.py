from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from samnet.core.machine import Machine
from samnet.dataset.faults import Fault, Report
from samnet.fingerprint.records import CaseFingerprint, Fingerprint
from samnet.planning.doctor import examine_dataset, find_oddities
from samnet.planning.planner import make_plan

CPU = Machine("cpu", 8)
RAW = Path("raw")
MakeFingerprint = Callable[..., Fingerprint]
MakeDataset = Callable[..., Path]


def oddities(fingerprint: Fingerprint, **settings: object) -> dict[str, Fault]:
    configuration = make_plan(fingerprint, CPU, settings).configuration("lora")
    found = find_oddities(RAW, fingerprint, configuration)
    assert len({remark.kind for remark in found}) == len(found)
    return {remark.kind: remark for remark in found}


def with_case(
    fingerprint: Fingerprint, name: str, change: Callable[[CaseFingerprint], CaseFingerprint]
) -> Fingerprint:
    return dataclasses.replace(
        fingerprint, cases=fingerprint.cases | {name: change(fingerprint.cases[name])}
    )


def with_range(low: float, high: float) -> Callable[[CaseFingerprint], CaseFingerprint]:
    """The case with non-zero intensities evenly from `low` to `high`, labelled or not."""
    percentiles = tuple(low + (high - low) * share for share in (0.0, 0.05, 0.5, 0.95, 1.0))

    def change(case: CaseFingerprint) -> CaseFingerprint:
        channels = (
            dataclasses.replace(
                channel, minimum=low, maximum=high, nonzero=percentiles, foreground=percentiles
            )
            for channel in case.channels
        )
        return dataclasses.replace(case, channels=tuple(channels))

    return change


def test_an_ordinary_data_set_has_nothing_odd(make_fingerprint: MakeFingerprint) -> None:
    assert oddities(make_fingerprint()) == {}
    ct = make_fingerprint(channels=("CT",), values=(-1024, 2000), foreground=(-100, 200))
    assert oddities(ct) == {}
    assert (
        oddities(make_fingerprint(shape=(1, 300, 300), spacing=(1.0, 1.0, 1.0), file_ending=".png"))
        == {}
    )


def test_a_class_that_never_occurs(make_fingerprint: MakeFingerprint) -> None:
    remark = oddities(make_fingerprint(diameters={"organ": 40.0, "tumour": None}))[
        "class never occurs"
    ]
    assert str(remark) == (
        f"{RAW / 'dataset.json'}: class 'tumour' occurs in none of the 6 cases: it cannot be learned; "
        "label it, or remove the class"
    )


def test_a_class_of_a_single_case(make_fingerprint: MakeFingerprint) -> None:
    rare = make_fingerprint(diameters={"organ": 40.0, "tumour": None})
    shown = make_fingerprint(diameters={"organ": 40.0, "tumour": 30.0}).cases["c"]
    remarks = oddities(with_case(rare, "c", lambda case: shown))
    assert set(remarks) == {"class occurs once"}
    assert "class 'tumour' occurs in the case c only" in remarks["class occurs once"].value


@pytest.mark.parametrize(("diameter", "is_tiny"), [(5.8, True), (6.2, False)])
def test_tiny_is_reckoned_in_pixels_of_the_planned_input(
    make_fingerprint: MakeFingerprint, diameter: float, is_tiny: bool
) -> None:
    fingerprint = make_fingerprint(diameters={"organ": 80.0, "node": diameter})
    remarks = oddities(fingerprint, input_size=224, zoom=1.3, in_plane_spacing=1.0)
    assert set(remarks) == ({"tiny class"} if is_tiny else set())
    if is_tiny:
        assert (
            "class 'node' is tiny: its small objects are 5.8 mm wide, 7.5 pixels"
            in remarks["tiny class"].value
        )
        assert "--set input_size=" in remarks["tiny class"].remedy
    assert oddities(fingerprint, input_size=448, zoom=2.6, in_plane_spacing=1.0) == {}


@pytest.mark.parametrize(("spacing", "is_odd"), [((3.0, 1.9, 1.0), False), ((6.3, 1.0, 1.0), True)])
def test_mixed_spacings(
    make_fingerprint: MakeFingerprint, spacing: tuple[float, float, float], is_odd: bool
) -> None:
    remarks = oddities(
        with_case(make_fingerprint(), "b", lambda case: dataclasses.replace(case, spacing=spacing)),
        slicing_axis=0,
    )
    assert set(remarks) == ({"mixed spacings"} if is_odd else set())
    if is_odd:
        assert remarks["mixed spacings"].value == (
            "spacings are mixed: 1 of 6 cases is over 2 times off the median 3 x 1 x 1 mm (z, y, x), such as b with "
            "6.3 x 1 x 1 mm"
        )


def test_mixed_directions(make_fingerprint: MakeFingerprint) -> None:
    turned = with_case(
        make_fingerprint(), "b", lambda case: dataclasses.replace(case, spacing=(1.6, 1.0, 1.9))
    )
    remarks = oddities(turned)
    assert set(remarks) == {"mixed directions"}
    assert remarks["mixed directions"].value == (
        "1 of 6 cases is taken in another direction: b is coarsest along X, slices are planned across Z"
    )


def test_ct_that_is_none(make_fingerprint: MakeFingerprint) -> None:
    remarks = oddities(make_fingerprint(channels=("CT",), values=(0, 255), foreground=(40, 90)))
    assert set(remarks) == {"no Hounsfield units"}
    assert (
        "channel 'CT' is no CT by its values: the lowest is 0, air"
        in remarks["no Hounsfield units"].value
    )


def test_a_case_whose_labelled_voxels_the_window_clips(make_fingerprint: MakeFingerprint) -> None:
    ct = make_fingerprint(channels=("CT",), values=(-1024, 2000), foreground=(-100, 200))
    shifted = with_case(ct, "d", with_range(-1024 + 1500, 2000 + 1500))
    remarks = oddities(shifted)
    assert set(remarks) == {"intensities"}
    assert "case d has other intensities" in remarks["intensities"].value
    assert "outside the planned window -100 to 200" in remarks["intensities"].value


def test_cases_on_a_scale_of_their_own(make_fingerprint: MakeFingerprint) -> None:
    remarks = oddities(with_case(make_fingerprint(), "d", with_range(0.0, 1.0)))
    assert set(remarks) == {"mixed intensities"}
    assert remarks["mixed intensities"].value == (
        "1 of 6 cases is on another scale: MRI goes from 0 to 1 in d, a range of 1, while 1000 is typical"
    )
    assert (
        "it does no harm, as every image is scaled by itself" in remarks["mixed intensities"].remedy
    )


@pytest.fixture
def dataset(folders: dict[str, Path], make_dataset: MakeDataset) -> Path:
    """Six cases of three patients."""
    dataset = make_dataset(folders["raw"], num_cases=6)
    for number in range(6):
        for file in list(dataset.glob(f"*/case_{number:02d}*")):
            file.rename(
                file.with_name(file.name.replace(f"case_{number:02d}", f"p{number // 2}_{number}"))
            )
    return dataset


def examined() -> Report:
    return examine_dataset(501, 0, CPU)


def write_folds(folders: dict[str, Path], train: list[str], val: list[str]) -> Path:
    path = folders["preprocessed"] / "Dataset501_Tiny" / "splits_final.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps([{"train": train, "val": val}]))
    return path


def test_planned_folds_leak_nothing_and_no_plan_is_written(
    dataset: Path, folders: dict[str, Path]
) -> None:
    report = examined()
    assert (report.faults, report.remarks) == ((), ())
    written = {file.name for file in (folders["preprocessed"] / "Dataset501_Tiny").iterdir()}
    assert written == {"dataset_fingerprint.json", "raw_files.json"}


def test_a_patient_on_both_sides_of_a_fold(dataset: Path, folders: dict[str, Path]) -> None:
    path = write_folds(folders, ["p0_0", "p0_1", "p1_2"], ["p1_3", "p2_4", "p2_5"])
    (remark,) = examined().remarks
    assert str(remark) == (
        f"{path}: fold 0 validates on 1 cases whose patient it trains on, such as p1_3, which has the patient of p1_2; "
        "hold them together, or delete the file"
    )


def test_a_fold_that_holds_nothing_out(dataset: Path, folders: dict[str, Path]) -> None:
    write_folds(folders, ["p0_0", "p0_1"], ["p0_0", "p0_1"])
    assert [remark.kind for remark in examined().remarks] == ["nothing held out"]


def test_an_image_on_both_sides_of_a_fold(dataset: Path, folders: dict[str, Path]) -> None:
    write_folds(folders, ["p0_0", "p0_1"], ["p2_4", "p2_5"])
    shutil.copy(
        dataset / "imagesTr" / "p0_1_0000.nii.gz", dataset / "imagesTr" / "p2_5_0000.nii.gz"
    )
    report = examined()
    assert [fault.kind for fault in report.faults] == ["case twice"]
    (remark,) = report.remarks
    assert (
        "cases whose image it trains on, such as p2_5, which has the image of p0_1" in remark.value
    )
    assert not (folders["preprocessed"] / "Dataset501_Tiny" / "dataset_fingerprint.json").exists()


def test_a_plan_of_other_data(dataset: Path, folders: dict[str, Path]) -> None:
    from samnet.dataset.cases import RawDataset
    from samnet.fingerprint.extract import extract_fingerprint
    from samnet.plan.plan import plan_path

    plan = make_plan(extract_fingerprint(RawDataset.load(501), 0), CPU)
    dataclasses.replace(plan, data_key="another").save(plan_path(plan.dataset_name))
    (remark,) = examined().remarks
    assert (
        str(remark)
        == f"{plan_path(plan.dataset_name)}: the raw files have changed since it was made; run samnet_plan again"
    )


def test_without_a_description_there_is_nothing_to_examine(dataset: Path) -> None:
    (dataset / "dataset.json").write_text("{")
    (fault,) = examined().faults
    assert "not valid JSON" in fault.value
