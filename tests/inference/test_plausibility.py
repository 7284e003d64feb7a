"""Images that are unlike the training images are named or refused; those that are like them not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from builders.fingerprint import make_fingerprint

from samnet.core.errors import UserError
from samnet.core.geometry import Grid, spacing_affine
from samnet.dataset.alignment import read_aligned_image
from samnet.dataset.cases import RawDataset, find_prediction_cases
from samnet.dataset.dataset_folder import DatasetFolder
from samnet.dataset.label_scheme import LabelScheme
from samnet.fingerprint.measure import measure_case
from samnet.fingerprint.training_data import TrainingData, summarize_training_data
from samnet.inference.plausibility import (
    EMPTY,
    describe_differences,
    describe_labels,
    refuse_hopeless_grid,
    summarize_image,
)
from samnet.preprocessing.case import prepare_volume

SHAPE = (20, 60, 50)
MM = (3.0, 1.0, 1.5)
DATA_SETS = ("Dataset004_Hippocampus", "Dataset010_SarcomaCT", "Dataset020_CardiacLV")
TWO_CLASSES = LabelScheme({"background": 0, "liver": 1, "tumour": 2})


def trained_on(
    values: tuple[float, float] = (0.0, 255.0),
    channels: tuple[str, ...] = ("MRI",),
    file_ending: str = ".nii.gz",
    shape: tuple[int, int, int] = SHAPE,
    spacing: tuple[float, float, float] = MM,
) -> TrainingData:
    fingerprint = make_fingerprint(shape, spacing, channels, values=values, file_ending=file_ending)
    data = summarize_training_data(fingerprint, fingerprint.cases)
    assert data is not None
    return data


def uniform(
    low: float = 0.0, high: float = 255.0, shape: tuple[int, ...] = SHAPE, channels: int = 1
) -> np.ndarray:
    """Return an image `(C, Z, Y, X)` whose intensities are spread evenly."""
    rng = np.random.default_rng(0)
    return rng.uniform(low, high, (channels, *shape)).astype(np.float32)


def differences(
    array: np.ndarray,
    data: TrainingData,
    spacing: tuple[float, float, float] = MM,
    affine: np.ndarray | None = None,
) -> list[str]:
    affine = spacing_affine(spacing) if affine is None else affine
    volume = prepare_volume(array, Grid(array.shape[1:], affine))
    names = [f"channel_{number}" for number in range(len(array))]
    return describe_differences(summarize_image(volume), data, names)


def test_image_like_those_of_the_training_is_not_named() -> None:
    assert differences(uniform(), trained_on()) == []
    assert differences(uniform(0, 200, (30, 80, 40)), trained_on(), (4.0, 0.8, 1.2)) == []


def test_margins_of_zeros_change_nothing() -> None:
    padded = np.pad(uniform(), ((0, 0), (3, 3), (20, 20), (10, 10)))
    assert differences(padded, trained_on()) == []


def test_axes_of_the_file_do_not_matter() -> None:
    """A file whose first axis is the patient's z has the same canonical spacing and size."""
    array = uniform().transpose(0, 3, 1, 2)  # the file's axes (z, y, x) are (x, z, y)
    affine = np.zeros((4, 4))
    affine[0, 2], affine[2, 1], affine[1, 0], affine[3, 3] = MM[2], MM[0], -MM[1], 1
    assert differences(array, trained_on(), affine=affine) == []


@pytest.mark.parametrize(
    ("spacing", "words"),
    [
        ((3.0, 1.0, 0.15), ["its spacing", "0.15 mm along x (trained on 1.5 mm)", "its size"]),
        ((12.0, 1.0, 1.5), ["its spacing", "12 mm along z (trained on 3 mm)"]),
        ((3.0, 4.0, 1.5), ["its spacing", "4 mm along y (trained on 1 mm)"]),
    ],
)
def test_spacing_several_fold_off_is_named(
    spacing: tuple[float, float, float], words: list[str]
) -> None:
    found = " ".join(differences(uniform(), trained_on(), spacing))
    for word in words:
        assert word in found
    assert "channel" not in found


@pytest.mark.parametrize("shape", [(1, 60, 50), (20, 60, 200), (80, 240, 200)])
def test_size_several_fold_off_is_named(shape: tuple[int, int, int]) -> None:
    [found] = differences(uniform(shape=shape), trained_on())
    assert found.startswith("its size is unlike that of the training images: ")
    assert "trained on" in found


def test_2d_images_are_compared_in_pixels() -> None:
    data = trained_on(file_ending=".png", shape=(1, 64, 64), spacing=(1.0, 1.0, 1.0))
    spacing = (1.0, 1.0, 1.0)
    assert differences(uniform(shape=(1, 80, 64)), data, spacing) == []
    [found] = differences(uniform(shape=(1, 640, 64)), data, spacing)
    assert "640 pixels along y (trained on 64 pixels)" in found


HU = (-1000.0, 1500.0)


@pytest.mark.parametrize(
    ("trained", "found", "words"),
    [
        ((0, 255), (0, 1), ["spread over 0.9", "over 255", "from 0 to 255", "0 to 1?"]),
        ((0, 1), (0, 255), ["spread over", "training images from 0 to 1"]),
        ((0, 255), (0, 65535), ["spread over"]),
        ((0, 255), (0, 10), ["spread over"]),
        (HU, (0, 2500), ["no voxel is below 0", "-1,000 to 1,500", "Hounsfield"]),
        (HU, (0, 255), ["no voxel is below 0", "Hounsfield"]),
        (HU, (0, 1), ["no voxel is below 0", "Hounsfield"]),
        ((0, 255), (-1024, 300), ["spread over 1,3"]),
        ((0, 255), (220, 255), ["spread over"]),
        ((-3, 3), (20, 26), ["its intensities lie elsewhere", "50 percentile 23 and not 0"]),
        ((100, 200), (180, 280), ["its intensities lie elsewhere", "50 percentile 230"]),
        ((0, 255), (7, 7), ["all voxels have the same value, 7"]),
        ((0, 255), (0, 0), ["all voxels have the same value, 0"]),
        (HU, (-1000, -1000), ["all voxels have the same value, -1,000"]),
    ],
)
def test_intensities_several_fold_off_are_named(
    trained: tuple[float, float], found: tuple[float, float], words: list[str]
) -> None:
    [sentence] = differences(uniform(*found), trained_on(trained))
    assert sentence.startswith("channel channel_0: ")
    for word in words:
        assert word in sentence


@pytest.mark.parametrize(
    ("trained", "found"),
    [((0, 255), (0, 120)), ((0, 255), (10, 350)), (HU, (-1024, 3000)), ((0, 1), (0, 0.6))],
)
def test_usual_differences_of_intensities_are_not_named(
    trained: tuple[float, float], found: tuple[float, float]
) -> None:
    assert differences(uniform(*found), trained_on(trained)) == []


def with_ranges(data: TrainingData, **ranges: tuple[float, float]) -> TrainingData:
    """Return training data whose images differ in the statistics that are given."""
    return replace(data, channels=(replace(data.channels[0], **ranges),))


def test_what_only_some_training_images_have_is_expected_of_none() -> None:
    some_in_hu = with_ranges(trained_on(HU), minimum=(-1000.0, 0.0))
    assert "Hounsfield" not in " ".join(differences(uniform(0, 1500), some_in_hu))
    some_scaled = with_ranges(trained_on(), maximum=(1.0, 255.0))
    [found] = differences(uniform(0, 1), some_scaled)
    assert "spread over" in found
    assert "0 to 1?" not in found


def test_width_is_not_compared_with_images_of_one_value() -> None:
    constant = with_ranges(trained_on(), width=(0.0, 0.0))
    assert "spread over" not in " ".join(differences(uniform(), constant))


def test_channel_that_differs_is_named() -> None:
    array = uniform(channels=2)
    array[1] /= 255
    [found] = differences(array, trained_on(channels=("T1", "T2")))
    assert found.startswith("channel channel_1: ")


def test_grey_for_colour_and_colour_for_grey_are_named() -> None:
    trained_in_grey = trained_on(channels=("R", "G", "B"))
    trained_in_colour = replace(trained_in_grey, grey_cases=0)
    mixed = replace(trained_in_grey, grey_cases=2)
    colour, grey = uniform(channels=3), np.repeat(uniform(), 3, axis=0)
    assert differences(colour, trained_in_colour) == differences(grey, trained_in_grey) == []
    assert differences(colour, mixed) == differences(grey, mixed) == []
    [found] = differences(grey, trained_in_colour)
    assert found.startswith("the image is grey")
    [found] = differences(colour, trained_in_grey)
    assert found.startswith("the image is in colour")


@pytest.mark.parametrize("factor", [0.001, 1 / 150, 150, 1000])
def test_volumes_of_metres_and_of_fractions_of_a_millimetre_are_refused(factor: float) -> None:
    z, y, x = (length * factor for length in MM)
    with pytest.raises(UserError) as caught:
        refuse_hopeless_grid(Grid(SHAPE, spacing_affine((z, y, x))), trained_on())
    message = str(caught.value)
    assert "trained on images of 75 x 60 x 60 mm, with a spacing of 1.5 x 1 x 3 mm" in message
    assert "correct the spacing, or its unit, in the header of the image" in message


def test_volume_larger_than_a_body_is_refused_and_a_whole_body_is_not() -> None:
    for millimetres, is_refused in ((1900.0, False), (4000.0, True)):
        grid = Grid((100, 10, 10), spacing_affine((millimetres / 100, 1.0, 1.0)))
        if is_refused:
            with pytest.raises(UserError, match="correct the spacing"):
                refuse_hopeless_grid(grid, trained_on())
        else:
            refuse_hopeless_grid(grid, trained_on())


def test_microscopy_is_compared_with_microscopy() -> None:
    micrometres = (0.001, 0.0005, 0.0005)
    data = trained_on(spacing=micrometres)
    refuse_hopeless_grid(Grid(SHAPE, spacing_affine(micrometres)), data)
    with pytest.raises(UserError, match="correct the spacing"):
        refuse_hopeless_grid(Grid(SHAPE, spacing_affine(MM)), data)


def test_image_without_a_spacing_is_named_for_a_model_of_mm() -> None:
    grid = Grid(SHAPE, np.eye(4), has_spacing=False)
    refuse_hopeless_grid(grid, trained_on(spacing=(0.001, 0.0005, 0.0005)))
    volume = prepare_volume(uniform(shape=SHAPE), grid)
    [sentence] = describe_differences(summarize_image(volume), trained_on(), ["channel_0"])
    assert "its spacing is not known" in sentence
    assert "the training images have" in sentence


def test_large_2d_images_are_never_refused() -> None:
    data = trained_on(file_ending=".png", shape=(1, 64, 64), spacing=(1.0, 1.0, 1.0))
    refuse_hopeless_grid(Grid((1, 100_000, 100_000), np.eye(4)), data)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((0, 0, 0), [EMPTY]),
        ((0, 1, 2), []),
        ((1, 1, 1), ["every voxel is predicted as liver"]),
        ((2, 2, 2), ["every voxel is predicted as tumour"]),
        ((1, 2, 1), ["every voxel is predicted as foreground, none as background"]),
    ],
)
def test_empty_and_full_predictions_are_named(values: tuple[int, ...], expected: list[str]) -> None:
    labels = np.array(values, np.uint8)[:, None, None]
    for data in (None, trained_on()):
        assert describe_labels(labels, TWO_CLASSES, data) == expected


def test_full_predictions_are_usual_where_training_label_maps_are_full() -> None:
    data = replace(trained_on(), foreground=(0.8, 1.0))
    assert describe_labels(np.ones((2, 2, 2), np.uint8), TWO_CLASSES, data) == []


def test_a_region_around_every_voxel_is_named() -> None:
    regions = LabelScheme({"background": 0, "whole": (1, 2), "core": 2}, None, (1, 2))
    [found] = describe_labels(np.full((2, 2, 2), 2, np.uint8), regions, None)
    assert found == "every voxel is predicted as whole and core"


@pytest.fixture(scope="module")
def trained_on_real_data(real_data: Path) -> dict[str, TrainingData]:
    """The ranges of 60 evenly chosen training cases of each data set of one channel."""
    found = {}
    for name in DATA_SETS:
        dataset = RawDataset.read(DatasetFolder(name, real_data / name, Path(), Path()))
        chosen = dataset.cases[:: max(1, len(dataset.cases) // 60)]
        cases = {case.identifier: measure_case(case, dataset.description).case for case in chosen}
        fingerprint = make_fingerprint(file_ending=dataset.description.file_ending)
        data = summarize_training_data(replace(fingerprint, cases=cases), cases)
        assert data is not None
        found[name] = data
    return found


@pytest.mark.parametrize("name", DATA_SETS)
def test_test_images_of_real_data_sets_are_named_for_other_models_only(
    real_data: Path, trained_on_real_data: dict[str, TrainingData], name: str
) -> None:
    dataset = RawDataset.read(DatasetFolder(name, real_data / name, Path(), Path()))
    for case in find_prediction_cases(real_data / name / "imagesTs", dataset.description)[::8]:
        image = read_aligned_image(case)
        volume = prepare_volume(image.array, image.grid)
        for trained, data in trained_on_real_data.items():
            refuse_hopeless_grid(image.grid, data)
            found = describe_differences(summarize_image(volume), data, ["image"])
            assert bool(found) == (trained != name), (case.identifier, trained, found)
