"""Arrays and affines come back from what the converters write, whatever the grid."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import nibabel
import numpy as np
from builders.properties import affines, for_any_input, shapes
from hypothesis import given
from hypothesis import strategies as st

from samnet.dataset.cases import Case, RawDataset
from samnet.dataset.convert_folder import plan_conversion
from samnet.dataset.convert_msd import convert_task, read_task
from samnet.dataset.dataset_folder import DatasetFolder
from samnet.dataset.images import read_image, read_labels
from samnet.dataset.write_conversion import convert

NAME = "Dataset007_Any"
CLASSES = ("background", "liver", "cancer", "vessel")


def save(
    voxels: np.ndarray, affine: np.ndarray, file: Path, slope: float = 1.0, intercept: float = 0.0
) -> None:
    """Write stored numbers `([C, ]Z, Y, X)` as NIfTI, channels last."""
    file.parent.mkdir(parents=True, exist_ok=True)
    image = nibabel.Nifti1Image(voxels.transpose(), affine)
    image.header.set_slope_inter(slope, intercept)
    nibabel.save(image, file)


def any_image(num_channels: int, shape: tuple[int, int, int], seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(-999, 999, (num_channels, *shape), np.int16)


def any_labels(shape: tuple[int, int, int], num_classes: int, seed: int) -> np.ndarray:
    """Return a label map in which every class occurs where there are voxels enough."""
    labels = np.arange(np.prod(shape)) % num_classes
    return np.random.default_rng(seed).permutation(labels).reshape(shape).astype(np.uint8)


def check_image(files: tuple[Path, ...], expected: np.ndarray, affine: np.ndarray) -> None:
    image = read_image(files)
    assert np.array_equal(image.array, expected)
    assert np.allclose(image.grid.affine, affine, atol=1e-3)


def check_labels(case: Case, expected: np.ndarray, affine: np.ndarray) -> None:
    assert case.label_file is not None
    found = read_labels(case.label_file)
    assert np.array_equal(found.array[0], expected)
    assert np.allclose(found.grid.affine, affine, atol=1e-3)


def read_converted(folders: dict[str, Path], folder: Path) -> RawDataset:
    """Read what was converted into a folder, in place of the folder of raw data."""
    paths = (folder, folders["preprocessed"] / NAME, folders["results"] / NAME)
    return RawDataset.read(DatasetFolder(NAME, *paths))


@for_any_input(8, simplify=False)
@given(
    affines(),
    shapes(5),
    st.integers(1, 3),
    st.lists(st.integers(1, 65_535), min_size=1, max_size=4, unique=True),
    st.sampled_from((".nii.gz", ".nii")),
    st.integers(0, 999),
)
def test_images_and_masks_of_a_folder_come_back_from_the_data_set(
    tmp_path: Path,
    folders: dict[str, Path],
    affine: np.ndarray,
    shape: tuple[int, int, int],
    num_channels: int,
    values: list[int],
    ending: str,
    seed: int,
) -> None:
    """Values become labels in ascending order; each channel of an image is a file of its own."""
    source = Path(tempfile.mkdtemp(dir=tmp_path))
    image = any_image(num_channels, shape, seed)
    classes = any_labels(shape, len(values) + 1, seed)
    mask = np.array([0, *sorted(values)], np.uint16)[classes]
    for number, channel in enumerate(image):
        save(channel, affine, source / "images" / f"a_{number:04d}{ending}")
    # In a second case every value occurs, however few voxels the first one has.
    row = np.array([0, *sorted(values)], np.uint16)[None, None]
    for number in range(num_channels):
        save(row.astype(np.int16), affine, source / "images" / f"b_{number:04d}{ending}")
    save(mask, affine, source / "masks" / f"a{ending}")
    save(row, affine, source / "masks" / f"b{ending}")
    names = [f"class {value}" for value in sorted(values)]
    conversion = plan_conversion(source / "images", source / "masks", label_names=names)
    convert(conversion, source / NAME)
    dataset = read_converted(folders, source / NAME)
    assert dataset.description.label_scheme.class_names == tuple(names)
    first, second = dataset.cases
    check_image(first.image_files, image, affine)
    check_labels(first, classes, affine)
    check_labels(second, np.arange(len(values) + 1)[None, None], affine)


@for_any_input(8, simplify=False)
@given(
    affines(),
    shapes(5),
    st.integers(1, 3),
    st.integers(2, len(CLASSES)),
    st.sampled_from(((1.0, 0.0), (0.5, -1024.0), (2.0, 3.0))),
    st.integers(0, 999),
)
def test_images_and_label_maps_of_a_decathlon_task_come_back_from_the_data_set(
    tmp_path: Path,
    folders: dict[str, Path],
    affine: np.ndarray,
    shape: tuple[int, int, int],
    num_channels: int,
    num_classes: int,
    scale: tuple[float, float],
    seed: int,
) -> None:
    """Channels keep their order and their intensities: the stored numbers, slope and intercept."""
    source = Path(tempfile.mkdtemp(dir=tmp_path))
    training, test = any_image(num_channels, shape, seed), any_image(num_channels, shape, seed + 1)
    labels = any_labels(shape, num_classes, seed)
    for part, voxels in (("imagesTr/a", training), ("imagesTs/b", test)):
        stored = voxels if num_channels > 1 else voxels[0]
        save(stored, affine, source / f"{part}.nii.gz", *scale)
    save(labels, affine, source / "labelsTr" / "a.nii.gz")
    channels = {str(number): f"channel {number}" for number in range(num_channels)}
    description = {
        "modality": channels,
        "labels": {str(label): name for label, name in enumerate(CLASSES[:num_classes])},
        "training": [{"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz"}],
        "test": ["./imagesTs/b.nii.gz"],
    }
    (source / "dataset.json").write_text(json.dumps(description))
    convert_task(read_task(source), source / NAME)
    dataset = read_converted(folders, source / NAME)
    assert dataset.description.channel_names == tuple(channels.values())
    assert dataset.description.label_scheme.class_names == CLASSES[1:num_classes]
    (case,) = dataset.cases
    slope, intercept = scale
    check_image(case.image_files, training * slope + intercept, affine)
    test_files = tuple(sorted(dataset.folder.test_images.iterdir()))
    assert len(test_files) == num_channels
    check_image(test_files, test * slope + intercept, affine)
    check_labels(case, labels, affine)
