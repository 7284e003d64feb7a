"""A folder with small files under the names that the pages of the documentation use."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np

from builders.data import synthetic_case, write_dataset, write_volume
from builders.folders import save_image, save_mask
from builders.structure_sets import Volume, change_headers, circle, write_structure_set
from samnet.core.files import write_json

RAW = Path("samnet_data") / "raw"
AFFINE = np.diag([1.0, 1.0, 2.0, 1.0])
SHAPE = (5, 20, 16)  # (Z, Y, X)


def fill_workshop() -> None:
    """Write everything into the current folder."""
    liver = write_dataset(RAW, number=8, name="Liver", num_cases=2, num_test=2, shape=SHAPE)
    demo = write_dataset(RAW, number=999, name="Demo", num_cases=2, num_test=2, shape=SHAPE)
    _link("demo_output/raw", demo.parent)
    _link("imagesTs", liver / "imagesTs")
    _link("labelsTs", liver / "labelsTs")
    for name in ("images", "unlabelled"):
        shutil.copytree(liver / "imagesTs", name)
    _write_organs("scans", "masks", 3)
    _write_organs("new_scans", "new_masks", 2)
    shutil.copytree(liver / "imagesTs", liver / "imagesUn")
    for file in sorted((liver / "imagesUn").iterdir()):
        file.rename(file.with_name(f"un_{file.name}"))
    shutil.copy(sorted((liver / "imagesTs").iterdir())[0], "scan.nii.gz")
    _write_folders_to_convert()
    _write_task(Path("Task09_Spleen"))
    _write_studies(Path("studies"))


def _link(name: str, target: Path) -> None:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).symlink_to(target.resolve())


def _write_organs(images: str, masks: str, count: int) -> None:
    """Write volumes of five structures, one above the other."""
    labels = np.zeros(SHAPE, np.uint8)
    for value in range(1, 6):
        labels[1:4, 4 * value - 4 : 4 * value] = value
    for number in range(count):
        noise = np.random.default_rng(number).integers(0, 20, SHAPE).astype(np.uint8)
        write_volume(Path(images) / f"p{number}_0000.nii.gz", 40 * labels + noise + 1, AFFINE)
        write_volume(Path(masks) / f"p{number}.nii.gz", labels, AFFINE)


def _write_folders_to_convert() -> None:
    for number in range(1, 5):
        save_image(Path(f"photos/img_{number}.png"))
        save_mask(Path(f"drawn/img_{number}.png"), value=255)
        save_image(Path(f"new_photos/img_{number}.png"))
        volumes, labels = synthetic_case(number, SHAPE, [1], 4)
        for name, volume in zip(("t1", "t1ce", "t2", "flair"), volumes, strict=True):
            write_volume(Path(f"brats/p{number}/p{number}_{name}.nii.gz"), volume, AFFINE)
        write_volume(Path(f"brats/p{number}/p{number}_seg.nii.gz"), labels, AFFINE)
        save_image(Path(f"ct/case_{number}.nii.gz"))
        save_mask(Path(f"ct/case_{number}_liver.nii.gz"), "top")
        save_mask(Path(f"ct/case_{number}_spleen.nii.gz"), "bottom")
        subject = f"sub-{number:02d}"
        save_image(Path(f"BIDS/{subject}/anat/{subject}_T1w.nii.gz"))
        save_mask(Path(f"BIDS/derivatives/labels/{subject}/anat/{subject}_dseg.nii.gz"))


def _write_task(folder: Path) -> None:
    """Write a task of the Medical Segmentation Decathlon."""
    listed = []
    for number in range(3):
        (volume,), labels = synthetic_case(number, SHAPE, [1], 1)
        write_volume(folder / "imagesTr" / f"spleen_{number}.nii.gz", volume, AFFINE)
        write_volume(folder / "labelsTr" / f"spleen_{number}.nii.gz", labels, AFFINE)
        names = (f"./{part}Tr/spleen_{number}.nii.gz" for part in ("images", "labels"))
        listed.append(dict(zip(("image", "label"), names, strict=True)))
    description = {
        "name": "Spleen",
        "modality": {"0": "CT"},
        "labels": {"0": "background", "1": "spleen"},
        "training": listed,
        "test": [],
    }
    write_json(folder / "dataset.json", description)


def _write_studies(folder: Path) -> None:
    """Write the series and the structure set of two patients; `SERIES` is one of the series."""
    volume = Volume((5, 24, 24))
    for number in range(1, 3):
        uid, study, patient = f"1.2.3.4.{number}", f"1.2.3.77.{number}", f"MRN{number}"
        array = np.random.default_rng(number).integers(-100, 100, volume.shape)
        images = volume.write(folder / f"p{number}" / "images", array, series_uid=uid)
        headers = {"PatientID": patient, "StudyInstanceUID": study}
        change_headers(folder / f"p{number}" / "images", **headers)
        x, y = circle(4 + number, (12, 12)).T
        contours = [(volume.plane_point(z, x, y), "CLOSED_PLANAR") for z in (2, 3, 4)]
        file = folder / f"p{number}" / "contours" / "RS"
        write_structure_set(file, {"liver": contours}, images, uid, **headers)
    shutil.copytree(folder / "p1" / "images", "SERIES")
