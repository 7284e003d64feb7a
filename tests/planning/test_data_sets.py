"""Real and synthetic data sets are planned without an option that says what they are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest

from samnet.core.machine import Machine
from samnet.dataset.cases import RawDataset
from samnet.dataset.images import read_image, read_labels
from samnet.fingerprint.extract import extract_fingerprint
from samnet.plan.configuration import Configuration, IntensityWindow
from samnet.plan.plan import Plan
from samnet.planning.planner import make_plan
from samnet.preprocessing.case import prepare_labels, prepare_volume
from samnet.preprocessing.prepare import prepare_all_configurations
from samnet.preprocessing.storage import load_case

CPU = Machine("cpu", 8)
GPU = Machine("cuda", 16)


@pytest.fixture
def plan_few_cases(
    real_data: Path, folders: dict[str, Path]
) -> Callable[[str, int, Machine], Plan]:
    """Plan some evenly chosen cases of a real data set."""

    def plan(name: str, count: int, machine: Machine) -> Plan:
        source, target = real_data / name, folders["raw"] / name
        for part in ("imagesTr", "labelsTr"):
            (target / part).mkdir(parents=True)
        (target / "dataset.json").symlink_to(source / "dataset.json")
        labels = sorted((source / "labelsTr").iterdir())
        for label in labels[:: len(labels) // count][:count]:
            stem = label.name[: label.name.index(".")]
            (target / "labelsTr" / label.name).symlink_to(label)
            for image in (source / "imagesTr").glob(f"{stem}_????.*"):
                (target / "imagesTr" / image.name).symlink_to(image)
        dataset = RawDataset.load(name)
        assert len(dataset.cases) == count
        return make_plan(extract_fingerprint(dataset, 0), machine)

    return plan


def shown_edge(configuration: Configuration, extent_mm: float) -> float:
    """The edge in pixels of the input of a slice whose edge is given in mm."""
    return extent_mm / configuration.in_plane_spacing * configuration.zoom


def test_plan_of_hippocampus_in_mri(plan_few_cases: Callable) -> None:
    values = plan_few_cases("Dataset004_Hippocampus", 4, CPU).configuration("lora")
    assert values.in_plane_spacing == 1.0
    assert values.channel_layout == "neighbours"
    assert values.input_size == 112
    assert values.intensity[0].scheme == "percentiles"
    assert 1.75 < values.zoom < 2.75
    assert values.mirror_axes == (2,)


@pytest.mark.parametrize("machine", [CPU, GPU], ids=str)
def test_plan_of_sarcoma_in_ct(plan_few_cases: Callable, machine: Machine) -> None:
    plan = plan_few_cases("Dataset010_SarcomaCT", 3, machine)
    values = plan.configuration("lora")
    assert (values.slicing_axis, values.views) == (0, (0, 1, 2))
    assert values.in_plane_spacing == pytest.approx(0.977, abs=0.01)
    assert values.channel_layout == "repeat"
    (window,) = values.intensity
    assert window.scheme == "fixed"
    assert -250 < window.lower < 50 < window.upper < 400
    assert 0.85 * values.input_size < shown_edge(values, 160 * 0.977) <= 1.15 * values.input_size
    assert plan.decisions["folds"].value == 3


def test_plan_of_ventricles_in_grey_2d_images(plan_few_cases: Callable) -> None:
    plan = plan_few_cases("Dataset020_CardiacLV", 12, CPU)
    values = plan.configuration("lora")
    assert (values.views, values.in_plane_spacing, values.channel_layout) == ((0,), 1.0, "repeat")
    assert values.intensity == (IntensityWindow("percentiles", 0.5, 99.5),)
    assert plan.patient_key is not None


def test_plan_of_nuclei_in_colour(plan_few_cases: Callable) -> None:
    plan = plan_few_cases("Dataset030_Nuclei", 6, GPU)
    values = plan.configuration("lora")
    assert (values.views, values.in_plane_spacing, values.channel_layout) == ((0,), 1.0, "as_is")
    assert values.intensity == (IntensityWindow("fixed", 0.0, 255.0),) * 3
    assert values.input_size >= 448
    assert plan.patient_key is None


@pytest.mark.parametrize(
    ("name", "is_on"),
    [
        ("Dataset004_Hippocampus", False),  # cropped: nothing is outside
        ("Dataset010_SarcomaCT", True),
        ("Dataset020_CardiacLV", True),
        ("Dataset030_Nuclei", False),
    ],
)
def test_no_label_of_real_data_is_outside_the_field_of_view(
    plan_few_cases: Callable, name: str, is_on: bool
) -> None:
    plan = plan_few_cases(name, 3, CPU)
    assert plan.decisions["background_outside"].value == is_on
    for case in RawDataset.load(name).cases:
        assert case.label_file is not None
        image = read_image(case.image_files, len(plan.channel_names))
        volume = prepare_volume(image.array, image.grid)
        labels = prepare_labels(read_labels(case.label_file).array[0], volume)
        assert labels.any()
        assert volume.outside(0).any() == is_on
        for axis in range(3):
            assert not labels[volume.outside(axis)].any()


def test_plan_of_a_single_case(make_dataset: Callable[..., Path], folders: dict[str, Path]) -> None:
    make_dataset(folders["raw"], num_cases=1)
    plan = make_plan(extract_fingerprint(RawDataset.load(501), 0), CPU)
    assert plan.decisions["folds"].value == 1
    assert "nothing can be held out" in plan.decisions["folds"].because


@pytest.mark.parametrize("spacing", [0.3, 1.0, 2.5])
def test_plan_of_2d_nifti_files(
    make_dataset: Callable[..., Path], folders: dict[str, Path], spacing: float
) -> None:
    """Its header has a spacing of 1 mm across the slice, which says nothing."""
    folder = make_dataset(folders["raw"], num_cases=2)
    for file in [*(folder / "imagesTr").iterdir(), *(folder / "labelsTr").iterdir()]:
        array = np.asarray(nibabel.load(file).dataobj)[:, :, 4]
        nibabel.save(nibabel.Nifti1Image(array, np.diag([spacing, spacing, 1.0, 1.0])), file)
    values = make_plan(extract_fingerprint(RawDataset.load(501), 0), CPU).configuration("lora")
    assert (values.slicing_axis, values.views, values.channel_layout) == (0, (0,), "repeat")
    assert values.in_plane_spacing == pytest.approx(spacing)
    assert values.zoom == pytest.approx(112 / 24, abs=0.01)


def test_plan_of_data_without_labels(
    make_dataset: Callable[..., Path], folders: dict[str, Path]
) -> None:
    folder = make_dataset(
        folders["raw"], num_cases=2, labels={"background": 0, "ball": 1, "never": 2}
    )
    for file in (folder / "labelsTr").iterdir():
        image = nibabel.load(file)
        nibabel.save(nibabel.Nifti1Image(np.zeros(image.shape, np.uint8), image.affine), file)
    dataset = RawDataset.load(501)
    plan = make_plan(extract_fingerprint(dataset, 0), CPU)
    assert plan.configuration("lora").input_size == 112
    prepare_all_configurations(dataset, plan, 0)
    assert load_case(dataset.folder.slices, "case_00").record.class_slices == {"0": {}}
