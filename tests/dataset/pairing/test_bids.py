"""Images and masks with names of BIDS, in folders that differ."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from builders.folders import convert, converted, labels_of, rows, save_image, save_mask, values_of

from samnet.dataset.splits import make_splits


def write_images(top: Path, *names: str) -> None:
    for value, name in enumerate(names):
        subject = name.split("_")[0]
        save_image(top / subject / "anat" / f"{name}.nii.gz", 20 * value)


@pytest.mark.parametrize(
    "mask",
    [
        "{0}/anat/{0}_T1w_label-lesion_mask",
        "{0}/anat/{0}_space-T1w_desc-lesion_mask",
        "{0}/{0}_label-lesion_mask",
        "{0}_T1w_mask",
        "anat/{0}_T1w",
        "{0}/anat/T1w_dseg",
    ],
)
def test_masks_are_paired_by_entities_where_folders_differ(
    tmp_path: Path, folders: dict[str, Path], mask: str
) -> None:
    subjects = ("sub-01", "sub-A2")
    write_images(tmp_path, *(f"{subject}_T1w" for subject in subjects))
    labels = tmp_path / "derivatives" / "labels"
    for subject, band in zip(subjects, ("top", "bottom"), strict=True):
        save_mask(labels / f"{mask.format(subject)}.nii.gz", band)
    (tmp_path / "participants.tsv").write_text("participant_id")
    assert convert(tmp_path, labels) == 0
    dataset = converted()
    assert labels_of(dataset) == {"sub-01_T1w": rows(top=1), "sub-A2_T1w": rows(bottom=1)}


def test_sessions_of_a_patient_stay_together(tmp_path: Path, folders: dict[str, Path]) -> None:
    """Subjects without a number, in whose names the planner finds no patient itself."""
    subjects = [f"sub-{letter}" for letter in "abcdefgh"]
    for subject in subjects:
        for session in ("ses-pre", "ses-post"):
            folder = Path(subject) / session / "anat"
            save_image(tmp_path / "bids" / folder / f"{subject}_{session}_T1w.nii.gz")
            name = f"{subject}_{session}_T1w_mask.nii.gz"
            save_mask(tmp_path / "bids" / "derivatives" / "masks" / subject / name)
    masks = tmp_path / "bids" / "derivatives" / "masks"
    assert convert(tmp_path / "bids", masks, "--test-share", "0.2") == 0
    dataset = converted()
    held_out = {file.name[:5] for file in (dataset.folder.raw / "labelsTs").iterdir()}
    assert len(held_out) in (1, 2)
    assert not held_out & {case.identifier[:5] for case in dataset.cases}
    names = [case.identifier for case in dataset.cases]
    for fold in make_splits(names, dataset.description.patient_key):
        assert not {name[:5] for name in fold["train"]} & {name[:5] for name in fold["val"]}


def test_the_session_of_a_folder_counts_where_the_name_has_none(
    tmp_path: Path, folders: dict[str, Path]
) -> None:
    for session, band in (("ses-1", "top"), ("ses-2", "bottom")):
        save_image(tmp_path / "b" / "sub-1" / session / "anat" / "sub-1_T1w.nii.gz")
        save_mask(tmp_path / "m" / "sub-1" / session / "sub-1_mask.nii.gz", band)
    assert convert(tmp_path / "b", tmp_path / "m") == 0
    assert labels_of(converted()) == {
        "sub-1_ses-1_T1w": rows(top=1),
        "sub-1_ses-2_T1w": rows(bottom=1),
    }


def test_runs_and_acquisitions_tell_images_apart(tmp_path: Path, folders: dict[str, Path]) -> None:
    for number, name in enumerate(("sub-1_acq-a_run-1", "sub-1_acq-a_run-2", "sub-1_acq-b_run-1")):
        write_images(tmp_path / "b", f"{name}_T1w")
        save_mask(tmp_path / "m" / f"{name}_mask.nii.gz", ("top", "middle", "bottom")[number])
    assert convert(tmp_path / "b", tmp_path / "m") == 0
    assert labels_of(converted()) == {
        "sub-1_acq-a_run-1_T1w": rows(top=1),
        "sub-1_acq-a_run-2_T1w": rows(middle=1),
        "sub-1_acq-b_run-1_T1w": rows(bottom=1),
    }


def test_several_images_for_a_mask_are_refused_with_their_names(
    tmp_path: Path, folders: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    write_images(tmp_path / "b", "sub-1_run-1_T1w", "sub-1_run-2_T1w", "sub-2_T1w")
    for subject in ("sub-1", "sub-2"):
        save_mask(tmp_path / "m" / f"{subject}_mask.nii.gz")
    for options in ((), ("--skip-unmatched",)):
        assert convert(tmp_path / "b", tmp_path / "m", *options) == 2
        error = capsys.readouterr().err
        assert f"{tmp_path / 'm' / 'sub-1_mask.nii.gz'}: may belong to 2 images" in error
        assert "sub-1_run-1_T1w.nii.gz" in error
        assert "sub-1_run-2_T1w.nii.gz" in error


def test_several_masks_of_an_image_are_refused_or_taken_as_classes(
    tmp_path: Path, folders: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    write_images(tmp_path / "b", "sub-1_T1w", "sub-2_T1w")
    for subject in ("sub-1", "sub-2"):
        for label, band in (("brain", "top"), ("lesion", "bottom")):
            save_mask(tmp_path / "m" / subject / f"{subject}_label-{label}_mask.nii.gz", band)
    source = tmp_path / "b", tmp_path / "m"
    assert convert(*source) == 2
    error = capsys.readouterr().err
    assert "sub-1_T1w.nii.gz: has 2 masks" in error
    assert "sub-1_label-brain_mask.nii.gz" in error
    assert convert(*source, "--class-suffixes", "brain", "lesion") == 0
    assert labels_of(converted())["sub-2_T1w"] == rows(top=1, bottom=2)


def test_the_kind_of_image_that_a_mask_names_is_taken(
    tmp_path: Path, folders: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    write_images(tmp_path / "b", "sub-1_T1w", "sub-1_T2w", "sub-1_space-MNI_T1w")
    save_mask(tmp_path / "m" / "sub-1_space-T2w_desc-lesion_mask.nii.gz")
    assert convert(tmp_path / "b", tmp_path / "m", "--skip-unmatched") == 0
    assert values_of(converted()) == {"sub-1_T2w": [20]}
    printed = capsys.readouterr().out
    for name in ("sub-1_T1w", "sub-1_space-MNI_T1w"):
        file = tmp_path / "b" / "sub-1" / "anat" / f"{name}.nii.gz"
        assert f"left out, without a partner: {file}" in printed


def test_channels_of_bids_are_stacked(tmp_path: Path, folders: dict[str, Path]) -> None:
    for subject in ("sub-1", "sub-2"):
        write_images(tmp_path / "b", f"{subject}_T1w", f"{subject}_ce-gad_T1w", f"{subject}_FLAIR")
        save_mask(tmp_path / "m" / f"{subject}_space-FLAIR_label-lesion_mask.nii.gz")
    options = ("--channel-suffixes", "_FLAIR", "_T1w", "_ce-gad_T1w")
    assert convert(tmp_path / "b", tmp_path / "m", *options) == 0
    assert values_of(converted()) == {"sub-1": [40, 0, 20], "sub-2": [40, 0, 20]}


def test_masks_next_to_the_images_are_told_by_their_suffix(
    tmp_path: Path, folders: dict[str, Path]
) -> None:
    """As in ATLAS R2.0."""
    for subject in ("sub-r001s001", "sub-r001s002"):
        folder = tmp_path / "b" / subject / "ses-1" / "anat"
        save_image(folder / f"{subject}_ses-1_space-MNI_T1w.nii.gz")
        save_mask(folder / f"{subject}_ses-1_space-MNI_label-L_desc-T1lesion_mask.nii.gz")
    assert convert(tmp_path / "b", tmp_path / "b") == 0
    assert sorted(labels_of(converted())) == [
        "sub-r001s001_ses-1_space-MNI_T1w",
        "sub-r001s002_ses-1_space-MNI_T1w",
    ]


def test_other_derivatives_are_left_out_and_named(
    tmp_path: Path, folders: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    write_images(tmp_path, "sub-1_T1w")
    write_images(tmp_path / "derivatives" / "fmriprep", "sub-1_T1w", "sub-1_desc-preproc_T1w")
    save_mask(tmp_path / "derivatives" / "labels" / "sub-1_mask.nii.gz")
    assert convert(tmp_path, tmp_path / "derivatives" / "labels") == 0
    assert list(labels_of(converted())) == ["sub-1_T1w"]
    assert f"left out: {tmp_path / 'derivatives'}: the folder belongs" in capsys.readouterr().out


def test_a_file_in_the_folder_of_another_subject_is_refused(
    tmp_path: Path, folders: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    save_image(tmp_path / "b" / "sub-1" / "sub-2_T1w.nii.gz")
    save_mask(tmp_path / "m" / "sub-2_mask.nii.gz")
    assert convert(tmp_path / "b", tmp_path / "m") == 2
    assert "sub-2_T1w.nii.gz: lies in the folder of sub-1" in capsys.readouterr().err


def test_the_subject_is_the_patient_of_the_data_set(
    tmp_path: Path, folders: dict[str, Path]
) -> None:
    write_images(tmp_path / "b", "sub-1_T1w")
    save_mask(tmp_path / "m" / "sub-1_mask.nii.gz")
    assert convert(tmp_path / "b", tmp_path / "m") == 0
    description = json.loads(converted().folder.description_file.read_text())
    assert description["patient_key"] == "^(sub-[^_]+)"


def test_all_sessions_of_a_subject_are_held_out(tmp_path: Path, folders: dict[str, Path]) -> None:
    """Also where no number in the names tells the subject."""
    for subject in ("sub-ann", "sub-bob", "sub-eve", "sub-ian"):
        for session in ("ses-one", "ses-two", "ses-three"):
            name = f"{subject}_{session}"
            save_image(tmp_path / "b" / subject / session / f"{name}_T1w.nii.gz")
            save_mask(tmp_path / "m" / f"{name}_mask.nii.gz")
    assert convert(tmp_path / "b", tmp_path / "m", "--test-share", "0.4") == 0
    dataset = converted()
    kept = {case.identifier[:7] for case in dataset.cases}
    held_out = {file.name[:7] for file in dataset.folder.test_images.iterdir()}
    assert kept
    assert held_out
    assert not kept & held_out
