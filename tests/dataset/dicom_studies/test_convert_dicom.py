"""`samnet_convert_dicom`: which series, names, patients and channels make a data set."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from builders.dicom import write_object
from builders.structure_sets import Volume, change_headers, circle, write_structure_set

from samnet.core.paths import raw_folder
from samnet.dataset.cases import RawDataset
from samnet.dataset.description import DatasetDescription
from samnet.dataset.integrity import verify_dataset
from samnet.dataset.splits import patient_of

VOLUME = Volume()
UID = "1.2.826.0.1.3680043.2.1125.1"
REPORT = Path("Dataset007_Organs_report.json")


def disc(radius: float, centre: tuple[float, float] = (20, 20), heights: tuple = (2, 3, 4)) -> list:
    x, y = circle(radius, centre).T
    return [(VOLUME.plane_point(z, x, y), "CLOSED_PLANAR") for z in heights]


def write_patient(
    folder: Path, patient: str, structures: dict[str, list], number: int = 1, **options: object
) -> None:
    """Write the series and the structure set of a patient, in folders of their own."""
    uid, study = f"{UID}.{number}", f"1.2.3.77.{number}"
    array = np.random.default_rng(number).integers(-100, 100, VOLUME.shape)
    images = VOLUME.write(folder / f"images{number}", array, series_uid=uid)
    change_headers(folder / f"images{number}", PatientID=patient, StudyInstanceUID=study)
    options = {"PatientID": patient, "StudyInstanceUID": study, **options}
    write_structure_set(folder / f"contours{number}" / "RS", structures, images, uid, **options)


def test_a_tree_of_patients_becomes_a_data_set(
    studies: Path, converted: Callable, capsys: pytest.CaptureFixture
) -> None:
    for number in (1, 2, 3):
        patient = f"MRN00{1 + number // 3}"
        write_patient(studies / "a" / "b", patient, {"liver": disc(4 + number)}, number)
    (studies / "a" / "notes.txt").write_text("by hand")
    (studies / "slice.dcm").write_text("nothing")
    write_object(studies / "report", "1.2.840.10008.5.1.4.1.1.88.11", Modality="SR")
    VOLUME.write(studies / "a" / "other", series_uid="1.2.3.4")
    shutil.copytree(studies / "a" / "b" / "images1", studies / "copy")
    result = converted()
    said = capsys.readouterr().out
    assert "3 cases of 2 patients" in said
    assert "without labels: 1:" in said
    assert "notes.txt (is no DICOM file)" in said
    assert "slice.dcm (is named as DICOM, but is no DICOM file; copy it again" in said
    assert "report (holds neither image nor labels (Basic Text SR Storage))" in said
    verify_dataset(RawDataset.load(7), 0)
    description = DatasetDescription.load(result.folder / "dataset.json")
    assert (description.channel_names, description.num_training) == (("CT",), 3)
    patients = {patient_of(case, description.patient_key) for case in result.cases}
    assert len(patients) == 2
    report = json.loads(REPORT.read_text())
    assert sorted(report["cases"]) == result.cases
    assert sum("is a copy of" in entry for entry in report["left_out"]) == 8


def test_nothing_that_names_the_patient_is_copied(studies: Path, converted: Callable) -> None:
    write_patient(studies, "MRN4711", {"liver": disc(5)}, PatientName="Doe^Jane")
    result = converted("--patients", "who.csv")
    for file in result.folder.rglob("*"):
        content = b"" if file.is_dir() else file.read_bytes()
        if file.suffix == ".gz":
            content = gzip.decompress(content)
        for secret in (b"MRN4711", b"Doe", b"Synthetic", b"1.2.3.77", UID.encode()):
            assert secret not in content
            assert secret.decode() not in file.name
    (case,) = result.cases
    table = Path("who.csv").read_text(encoding="utf-8-sig").splitlines()
    assert table == ["patient,name", f"MRN4711,{case.split('_')[0]}"]


def test_names_of_patients_in_the_table_are_kept(studies: Path, converted: Callable) -> None:
    write_patient(studies, "MRN4711", {"liver": disc(5)})
    Path("who.csv").write_text("patient;name\nMRN4711;pAnna\nMRN1;pOtto\n")
    assert converted("--patients", "who.csv").cases[0].startswith("pAnna_")
    table = Path("who.csv").read_text(encoding="utf-8-sig").splitlines()
    assert table == ["patient,name", "MRN1,pOtto", "MRN4711,pAnna"]


def test_the_table_of_names_is_written_first_and_then_read(
    studies: Path, convert: Callable, converted: Callable, capsys: pytest.CaptureFixture
) -> None:
    external = disc(15)
    write_patient(studies, "1", {"Liver": disc(5), "BODY": external}, 1, kinds={"BODY": "EXTERNAL"})
    write_patient(studies, "2", {"LIVER ": disc(6), "BODY": external}, 2)
    write_patient(studies, "3", {"Liver": disc(7), "spleen": disc(3, (8, 8))}, 3)
    assert convert() == 2
    said = capsys.readouterr().err
    assert "'Liver' is like 'LIVER'" in said
    assert "'spleen' is in 1 of 3 cases" in said
    assert "--structures names.csv" in said
    assert convert("--structures", "names.csv") == 0
    assert "edit its column 'label'" in capsys.readouterr().out
    assert not list(raw_folder().iterdir())
    table = Path("names.csv").read_text(encoding="utf-8-sig").splitlines()
    assert table[0] == "structure,label,cases,type,similar"
    assert table[1:] == [
        "Liver,Liver,2,,LIVER",
        "BODY,BODY,2,EXTERNAL,",
        "LIVER,Liver,1,,Liver",
        "spleen,spleen,1,,",
    ]
    # As a spreadsheet program writes it.
    Path("names.csv").write_text(
        "structure;label;cases\nspleen;Milz;1\nLiver;Leber;2\nLIVER;Leber;1\nBODY;;2\n"
    )
    result = converted("--structures", "names.csv")
    assert result.description["labels"] == {"background": 0, "Milz": 1, "Leber": 2}
    assert all((result.labels(number) == 2).any() for number in range(3))
    assert "Milz: is in 1 of 3 cases" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("structure,label\nliver,liver\n", "has no row for 1 structures (spleen)"),
        ("structure,label\nliver,liver\nliver,x\nspleen,\n", "has the structure 'liver' twice"),
        ("structure,label\nliver,background\nspleen,\n", "'background' cannot be a label"),
        ("structure,label\nliver,\nspleen,\n", "drops all structures"),
        ("name,label\nliver,\n", "has no column 'structure'"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(
    studies: Path, convert: Callable, capsys: pytest.CaptureFixture, rows: str, message: str
) -> None:
    write_patient(studies, "1", {"liver": disc(5), "spleen": disc(3, (8, 8))})
    Path("names.csv").write_text(rows)
    assert convert("--structures", "names.csv") == 2
    assert message in capsys.readouterr().err


def test_references_by_images_alone(
    studies: Path, converted: Callable, capsys: pytest.CaptureFixture
) -> None:
    images = VOLUME.write(studies / "ct", series_uid=UID)
    VOLUME.write(studies / "pet", series_uid="1.2.3.4")
    options = {"FrameOfReferenceUID": "1.2.8", "PatientID": "synthetic"}
    write_structure_set(studies / "RS", {"liver": disc(5)}, images, series_uid=None, **options)
    assert converted().mask("liver").any()
    said = capsys.readouterr().out
    assert "states another frame of reference than its images" in said


def test_references_by_the_frame_alone(
    studies: Path, converted: Callable, capsys: pytest.CaptureFixture
) -> None:
    VOLUME.write(studies / "ct", series_uid=UID)
    write_structure_set(studies / "RS", {"liver": disc(5)}, series_uid=None, PatientID="synthetic")
    assert converted().mask("liver").any()
    assert "taken to belong to the only series with its frame" in capsys.readouterr().out


def test_label_files_without_their_series_are_refused(
    studies: Path, convert: Callable, capsys: pytest.CaptureFixture
) -> None:
    VOLUME.write(studies / "ct", series_uid=UID)
    VOLUME.write(studies / "pet", series_uid="1.2.3.4")
    options = {"PatientID": "synthetic"}
    write_structure_set(studies / "RS", {"liver": disc(5)}, series_uid=None, **options)
    assert convert() == 2
    assert "RS: belongs to 2 series" in capsys.readouterr().err
    missing = {"series_uid": "1.2.9", "FrameOfReferenceUID": "1.2.8", **options}
    write_structure_set(studies / "RS", {"liver": disc(5)}, ["1.2.7"], **missing)
    assert convert() == 2
    assert "RS: refers to no series in the folder (series: 1.2.9)" in capsys.readouterr().err
    assert not list(raw_folder().iterdir())


def test_labels_of_missing_slices_are_cut_off_with_a_word(
    studies: Path, converted: Callable, capsys: pytest.CaptureFixture
) -> None:
    images = VOLUME.write(studies / "ct", series_uid=UID)
    for name in ("s006", "s007"):
        (studies / "ct" / name).unlink()
    heights = (4, 5, 6, 7)
    write_structure_set(studies / "RS", {"liver": disc(5, heights=heights)}, images, UID)
    mask = converted().mask("liver")
    assert np.flatnonzero(mask.any(axis=(1, 2))).tolist() == [4, 5]
    said = capsys.readouterr().out
    assert "refers to 2 images that are not in the folder; labels there are cut off" in said
    assert "states another PatientID" not in said


def test_one_structure_in_two_files_needs_a_choice(
    studies: Path, convert: Callable, converted: Callable, capsys: pytest.CaptureFixture
) -> None:
    images = VOLUME.write(studies / "ct", series_uid=UID)
    for radius, name in ((5, "draft"), (6, "final")):
        options = {"StructureSetLabel": name, "PatientID": "synthetic"}
        write_structure_set(
            studies / f"RS{radius}", {"liver": disc(radius)}, images, UID, **options
        )
    assert convert() == 2
    said = capsys.readouterr().err
    assert "RS5 and" in said
    assert "both have 'liver' for one series; choose between them with --segmentations" in said
    assert converted("--segmentations", "FIN*").mask("liver")[3].sum() > 100


def test_files_of_one_identifier_that_differ_are_refused(
    studies: Path, convert: Callable, capsys: pytest.CaptureFixture
) -> None:
    write_patient(studies, "1", {"liver": disc(5)})
    VOLUME.write(studies / "again", np.zeros(VOLUME.shape), series_uid=f"{UID}.1")
    assert convert() == 2
    assert "have one SOPInstanceUID and differ; keep the right one" in capsys.readouterr().err


def test_overlaps_need_a_decision(
    studies: Path, convert: Callable, capsys: pytest.CaptureFixture
) -> None:
    write_patient(studies, "1", {"liver": disc(9), "tumour": disc(4)})
    assert convert() == 2
    said = capsys.readouterr().err
    assert "liver and tumour overlap in 147 voxels of 1 cases" in said
    assert "--overlap regions" in said
    assert not list(raw_folder().iterdir())
    assert json.loads(REPORT.read_text())["faults"]


@pytest.mark.parametrize(("overlap", "expected"), [("first", (1, 0)), ("last", (0, 1))])
def test_of_overlapping_structures_one_is_taken(
    studies: Path, converted: Callable, overlap: str, expected: tuple[int, int]
) -> None:
    write_patient(studies, "1", {"liver": disc(9), "tumour": disc(4)})
    result = converted("--overlap", overlap)
    assert (result.labels()[3, 20, 20] == 1, result.labels()[3, 20, 20] == 2) == expected


def test_overlapping_structures_become_regions(studies: Path, converted: Callable) -> None:
    write_patient(studies, "1", {"tumour": disc(4), "liver": disc(9), "vein": disc(4, (25, 20))})
    result = converted("--overlap", "regions")
    scheme = DatasetDescription.load(result.folder / "dataset.json").label_scheme
    assert scheme.class_names == ("liver", "tumour", "vein", "tumour and vein")
    masks = {name: result.mask(name) for name in scheme.class_names}
    assert masks["liver"][3].sum() == 253
    assert np.array_equal(masks["tumour"] & masks["vein"], masks["tumour and vein"])
    assert (masks["liver"] | ~masks["tumour"]).all()


def test_channels_are_found_by_their_description(
    studies: Path, convert: Callable, converted: Callable, capsys: pytest.CaptureFixture
) -> None:
    generator = np.random.default_rng(0)
    arrays = {name: generator.integers(0, 99, VOLUME.shape) for name in ("T1 3D", "ax T2 fs")}
    images = {}
    for number, (name, array) in enumerate(arrays.items()):
        images[name] = VOLUME.write(studies / name, array, series_uid=f"{UID}.{number}")
        change_headers(studies / name, SeriesDescription=name, Modality="MR")
    options = {"PatientID": "synthetic"}
    write_structure_set(
        studies / "RS", {"liver": disc(5)}, images["ax T2 fs"], f"{UID}.1", **options
    )
    VOLUME.write(studies / "again", series_uid="1.2.3.4")
    change_headers(studies / "again", SeriesDescription="T1 3D again", Modality="MR")
    assert convert("--channels", "T1=*t1*", "T2=*t2*") == 2
    said = capsys.readouterr().err
    assert "2 series of its study fit the channel T1 (*t1*)" in said
    assert "write a narrower pattern in --channels" in said
    assert convert("--channels", "T1=*t1 3d", "FLAIR=*flair*") == 2
    said = capsys.readouterr().err
    assert "its study has no series for the channel FLAIR (*flair*)" in said
    assert "it has 'T1 3D', 'T1 3D again', 'ax T2 fs'" in said
    result = converted("--channels", "T1=*t1 3d", "T2=*t2*")
    assert result.description["channel_names"] == {"0": "T1", "1": "T2"}
    assert np.array_equal(result.image(0), arrays["T1 3D"])
    assert np.array_equal(result.image(1), arrays["ax T2 fs"])


def test_channels_on_another_grid_are_resampled_on_request(
    studies: Path, convert: Callable, converted: Callable, capsys: pytest.CaptureFixture
) -> None:
    coarse = Volume((5, 20, 22), step=(0.0, 0.0, 2.0), pixels=(2.0, 2.0))
    images = VOLUME.write(studies / "ct", series_uid=f"{UID}.1")
    ramp = np.indices(coarse.shape)[2] * 20
    coarse.write(studies / "pet", ramp, series_uid=f"{UID}.2")
    change_headers(studies / "pet", Modality="PT", SeriesDescription="PET")
    write_structure_set(studies / "RS", {"liver": disc(5)}, images, f"{UID}.1")
    channels = ("--channels", "CT=CT", "PET=PT")
    assert convert(*channels) == 2
    assert "if both are registered, add --resample" in capsys.readouterr().err
    result = converted(*channels, "--resample")
    expected = np.broadcast_to(10.0 * np.arange(43), (8, 39, 43))
    assert np.allclose(result.image(1)[:, :39, :43], expected, atol=1e-3)
    assert "it is resampled, and covers" in capsys.readouterr().out


def test_faulty_cases_are_left_out_on_request_and_nothing_is_half_written(
    studies: Path, convert: Callable, converted: Callable, capsys: pytest.CaptureFixture
) -> None:
    write_patient(studies, "1", {"liver": disc(5)}, 1)
    write_patient(studies, "2", {"liver": disc(5)}, 2)
    write_patient(studies, "3", {"liver": disc(5)}, 3)
    (studies / "images3" / "s004").unlink()
    assert convert() == 2
    said = capsys.readouterr().err
    assert "add the missing slices" in said
    assert "--skip-faulty" in said
    # Pixels are read when the case is written.
    damaged = studies / "images2" / "s003"
    damaged.write_bytes(damaged.read_bytes()[:-1000])
    assert convert("--skip-faulty", "--dry-run") == 0
    assert not list(raw_folder().iterdir())
    result = converted("--skip-faulty")
    assert len(result.cases) == result.description["numTraining"] == 1
    assert len(json.loads(REPORT.read_text())["faults"]) == 2


def test_a_folder_without_label_files_says_what_it_holds(
    studies: Path, convert: Callable, capsys: pytest.CaptureFixture
) -> None:
    VOLUME.write(studies / "ct")
    assert convert() == 2
    said = capsys.readouterr().err
    assert "holds no DICOM segmentation (SEG) or structure set (RTSTRUCT), but 1 series" in said


def test_options_that_cannot_be_meant_are_refused(
    studies: Path, convert: Callable, capsys: pytest.CaptureFixture
) -> None:
    assert convert("--channels", "T1") == 2
    assert "write NAME=PATTERN" in capsys.readouterr().err
    assert convert("--resample") == 2
    assert "name them with --channels" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        convert("--threshold", "0")
