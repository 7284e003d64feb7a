"""Remarks on what is odd about a data set."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from builders.fingerprint import make_fingerprint

from samnet.core.machine import Machine
from samnet.dataset.cases import RawDataset
from samnet.dataset.dataset_folder import DatasetFolder
from samnet.dataset.faults import Fault, Report
from samnet.fingerprint.extract import extract_fingerprint
from samnet.fingerprint.records import SHAPE_PERCENTILES, CaseFingerprint, Fingerprint
from samnet.planning.doctor import examine_dataset, find_oddities
from samnet.planning.memory import Meter
from samnet.planning.planned_step import PlannedStep
from samnet.planning.planner import make_plan

CPU = Machine("cpu", 8)
RAW = Path("raw")
MakeDataset = Callable[..., Path]


def oddities(fingerprint: Fingerprint, **settings: object) -> dict[str, Fault]:
    configuration = make_plan(fingerprint, CPU, settings).configuration("lora")
    found = find_oddities(RAW, fingerprint, configuration)
    assert len({remark.kind for remark in found}) == len(found)
    return {remark.kind: remark for remark in found}


def with_case(
    fingerprint: Fingerprint, name: str, change: Callable[[CaseFingerprint], CaseFingerprint]
) -> Fingerprint:
    changed = change(fingerprint.cases[name])
    return dataclasses.replace(fingerprint, cases=fingerprint.cases | {name: changed})


def with_spacing(
    spacing: tuple[float, float, float],
) -> Callable[[CaseFingerprint], CaseFingerprint]:
    """A change that gives a case a spacing `(Z, Y, X)` in mm."""
    return lambda case: dataclasses.replace(case, spacing=spacing)


def with_range(low: float, high: float) -> Callable[[CaseFingerprint], CaseFingerprint]:
    """A change that gives a case intensities from `low` to `high`, labelled or not."""
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


def test_find_oddities_of_an_ordinary_data_set_finds_nothing() -> None:
    assert oddities(make_fingerprint()) == {}
    ct = make_fingerprint(channels=("CT",), values=(-1024, 2000), foreground=(-100, 200))
    assert oddities(ct) == {}
    image = make_fingerprint(shape=(1, 300, 300), spacing=(1.0, 1.0, 1.0), file_ending=".png")
    assert oddities(image) == {}


def test_find_oddities_names_a_class_that_never_occurs() -> None:
    remarks = oddities(make_fingerprint(diameters={"organ": 40.0, "tumour": None}))
    assert str(remarks["class never occurs"]) == (
        f"{RAW / 'dataset.json'}: class 'tumour' occurs in none of the 6 cases: it cannot be "
        "learned; label it, or remove the class"
    )


def test_find_oddities_names_a_class_that_occurs_in_one_case() -> None:
    rare = make_fingerprint(diameters={"organ": 40.0, "tumour": None})
    shown = make_fingerprint(diameters={"organ": 40.0, "tumour": 30.0}).cases["c"]
    remarks = oddities(with_case(rare, "c", lambda case: shown))
    assert set(remarks) == {"class occurs once"}
    assert "class 'tumour' occurs in the case c only" in remarks["class occurs once"].value


def test_find_oddities_takes_no_rare_class_in_two_cases() -> None:
    """Of two cases one is held out, whichever shows the class."""
    fingerprint = make_fingerprint(case_names=("a", "b"))
    nothing = make_fingerprint(diameters={"organ": None}).cases["a"]
    assert oddities(with_case(fingerprint, "b", lambda case: nothing)) == {}


def test_find_oddities_judges_a_class_by_its_small_objects() -> None:
    fingerprint = make_fingerprint()
    some = tuple(4.0 if percentile < 15 else 80.0 for percentile in SHAPE_PERCENTILES)
    few = tuple(4.0 if percentile < 5 else 80.0 for percentile in SHAPE_PERCENTILES)
    for diameters, kinds in ((some, {"tiny class"}), (few, set())):
        shapes = tuple(
            dataclasses.replace(shape, diameters=diameters) for shape in fingerprint.shapes["organ"]
        )
        changed = dataclasses.replace(fingerprint, shapes={"organ": shapes})
        assert set(oddities(changed, input_size=224, zoom=1.0)) == kinds


@pytest.mark.parametrize(("diameter", "is_tiny"), [(5.8, True), (6.2, False)])
def test_find_oddities_measures_tiny_classes_in_pixels_of_the_input(
    diameter: float, is_tiny: bool
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
def test_find_oddities_names_mixed_spacings(
    spacing: tuple[float, float, float], is_odd: bool
) -> None:
    mixed = with_case(make_fingerprint(), "b", with_spacing(spacing))
    remarks = oddities(mixed, slicing_axis=0)
    assert set(remarks) == ({"mixed spacings"} if is_odd else set())
    if is_odd:
        assert remarks["mixed spacings"].value == (
            "spacings are mixed: 1 of 6 cases is over 2 times off the median 3 x 1 x 1 mm "
            "(z, y, x), such as b with 6.3 x 1 x 1 mm"
        )


def test_find_oddities_names_spacings_that_are_too_fine() -> None:
    fine = with_case(make_fingerprint(), "b", with_spacing((3.0, 0.45, 1.0)))
    assert set(oddities(fine, slicing_axis=0)) == {"mixed spacings"}


def test_find_oddities_names_mixed_slicing_directions() -> None:
    mixed = with_case(make_fingerprint(), "b", with_spacing((1.6, 1.0, 1.9)))
    remarks = oddities(mixed)
    assert set(remarks) == {"mixed directions"}
    assert remarks["mixed directions"].value == (
        "1 of 6 cases is taken in another direction: b is coarsest along X, slices are planned "
        "across Z"
    )


def test_find_oddities_names_a_ct_channel_without_hounsfield_units() -> None:
    remarks = oddities(make_fingerprint(channels=("CT",), values=(0, 255), foreground=(40, 90)))
    assert set(remarks) == {"no Hounsfield units"}
    assert remarks["no Hounsfield units"].value == (
        "channel 'CT' has no values of CT: the lowest is 0, but air has -1000 HU"
    )


def test_find_oddities_accepts_ct_without_air_in_some_cases() -> None:
    within = make_fingerprint(channels=("CT",), values=(-100, 255), foreground=(40, 90))
    assert "no Hounsfield units" in oddities(within)
    assert "no Hounsfield units" not in oddities(with_case(within, "b", with_range(-1024, 1500)))


def test_find_oddities_names_a_case_that_the_window_clips() -> None:
    ct = make_fingerprint(channels=("CT",), values=(-1024, 2000), foreground=(-100, 200))
    shifted = with_case(ct, "d", with_range(-1024 + 1500, 2000 + 1500))
    remarks = oddities(shifted)
    assert set(remarks) == {"intensities"}
    assert "case d has other intensities" in remarks["intensities"].value
    assert "outside the planned window -100 to 200" in remarks["intensities"].value
    darker = with_case(ct, "d", with_range(-1024 - 1500, 2000 - 1500))
    assert set(oddities(darker)) == {"intensities"}


def test_find_oddities_names_cases_on_another_scale() -> None:
    remarks = oddities(with_case(make_fingerprint(), "d", with_range(0.0, 1.0)))
    assert set(remarks) == {"mixed intensities"}
    assert remarks["mixed intensities"].value == (
        "1 of 6 cases is on another scale: MRI goes from 0 to 1 in d, a range of 1, while 1000 is "
        "typical"
    )
    assert (
        "it does no harm, as every image is scaled by itself" in remarks["mixed intensities"].remedy
    )
    wider = oddities(with_case(make_fingerprint(), "d", with_range(0.0, 40_000.0)))
    assert "a range of 40000, while 1000 is typical" in wider["mixed intensities"].value


def test_find_oddities_warns_of_another_scale_of_ct() -> None:
    """All images have one window there: other units do harm."""
    ct = make_fingerprint(channels=("CT",), values=(-1024, 2000), foreground=(-100, 200))
    remark = oddities(with_case(ct, "d", with_range(-1.0, 2.0)))["mixed intensities"]
    assert remark.remedy == "check how they were exported"


@pytest.fixture
def folder(folders: dict[str, Path], make_dataset: MakeDataset) -> DatasetFolder:
    """The folder of a data set of six cases of three patients."""
    dataset = make_dataset(folders["raw"], num_cases=6)
    for number in range(6):
        known, renamed = f"case_{number:02d}", f"p{number // 2}_{number}"
        for file in list(dataset.glob(f"*/{known}*")):
            file.rename(file.with_name(file.name.replace(known, renamed)))
    return DatasetFolder.of(dataset.name)


def examined() -> Report:
    return examine_dataset(501, 0, CPU)


def write_fold(folder: DatasetFolder, train: list[str], val: list[str]) -> None:
    folder.preprocessed.mkdir(exist_ok=True)
    folder.splits_file.write_text(json.dumps([{"train": train, "val": val}]))


def test_examine_dataset_finds_no_leak_in_planned_folds_and_writes_no_plan(
    folder: DatasetFolder,
) -> None:
    report = examined()
    assert (report.faults, report.remarks) == ((), ())
    assert set(folder.preprocessed.iterdir()) == {folder.fingerprint_file, folder.hashes_file}


def test_examine_dataset_names_a_patient_on_both_sides_of_a_fold(folder: DatasetFolder) -> None:
    write_fold(folder, ["p0_0", "p0_1", "p1_2"], ["p1_3", "p2_4", "p2_5"])
    (remark,) = examined().remarks
    assert str(remark) == (
        f"{folder.splits_file}: fold 0 validates on 1 cases whose patient it trains on, such as "
        "p1_3, which has the patient of p1_2; put them on the same side of the fold, or delete the "
        "file"
    )


def test_examine_dataset_names_a_fold_that_holds_nothing_out(folder: DatasetFolder) -> None:
    write_fold(folder, ["p0_0", "p0_1"], ["p0_0", "p0_1"])
    assert [remark.kind for remark in examined().remarks] == ["nothing held out"]


def test_examine_dataset_names_an_image_on_both_sides_of_a_fold(folder: DatasetFolder) -> None:
    write_fold(folder, ["p0_0", "p0_1"], ["p2_4", "p2_5"])
    images = folder.training_images
    shutil.copy(images / "p0_1_0000.nii.gz", images / "p2_5_0000.nii.gz")
    report = examined()
    assert [fault.kind for fault in report.faults] == ["case twice"]
    (remark,) = report.remarks
    assert (
        "cases whose image it trains on, such as p2_5, which has the image of p0_1" in remark.value
    )
    assert not folder.fingerprint_file.exists()


def test_examine_dataset_takes_the_declared_patients(folder: DatasetFolder) -> None:
    """By `patient_key` the cases of even and odd numbers are those of two patients."""
    write_fold(folder, ["p0_0", "p2_4"], ["p0_1", "p2_5"])
    assert [remark.kind for remark in examined().remarks] == ["leak between folds"]
    content = json.loads(folder.description_file.read_text())
    folder.description_file.write_text(json.dumps(content | {"patient_key": r"p\d_[024]|p"}))
    assert examined().remarks == ()


def test_examine_dataset_measures_the_step_of_the_configuration_that_is_not_planned(
    folder: DatasetFolder,
) -> None:
    measured = []

    def meter_of(file: Path) -> Meter:
        assert file == folder.step_memory_file

        def measure(step: PlannedStep) -> float:
            measured.append(step)
            return 0.5

        return measure

    examine_dataset(501, 0, CPU, meter_of)
    assert {step.configuration.backbone for step in measured} == {"small"}
    # No configuration but the first, which begins with released weights.
    assert {step.configuration.initial_weights for step in measured} == {"pretrained"}
    facts = {(step.num_channels, step.num_outputs, step.has_regions) for step in measured}
    assert facts == {(1, 2, False)}


def test_examine_dataset_names_a_plan_of_other_data(folder: DatasetFolder) -> None:
    plan = make_plan(extract_fingerprint(RawDataset.load(501), 0), CPU)
    dataclasses.replace(plan, data_key="another").save(folder.plan_file)
    (remark,) = examined().remarks
    assert str(remark) == (
        f"{folder.plan_file}: the raw files have changed since it was made; run samnet_plan again"
    )


def test_examine_dataset_without_a_description_reports_only_that(folder: DatasetFolder) -> None:
    folder.description_file.write_text("{")
    (fault,) = examined().faults
    assert "not valid JSON" in fault.value
