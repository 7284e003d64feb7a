"""A batch that is made at once shows the samples that are made one by one."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
import torch
from builders.numerics import relative_error
from builders.tiny import make_case
from torch import Tensor

from samnet.core.errors import SamnetError
from samnet.dataset.label_scheme import LabelScheme
from samnet.plan.configuration import IntensityWindow
from samnet.preprocessing.storage import StoredCase
from samnet.training.device_batches.batches import BatchMaker, DeviceBatches
from samnet.training.device_batches.drawn_samples import DrawnSamples
from samnet.training.sampling import SliceSamples

MakeSamples = Callable[..., SliceSamples]
CPU = torch.device("cpu")
THREE_CLASSES = LabelScheme({"background": 0, "one": 1, "two": 2, "three": 3})
# Rounding moves some values to the next of the 1,024 grey values that a curve tells apart.
CURVE = 1e-3
# Coordinates of pixels are rounded in single precision, as are those of single slices.
ROUNDING = 1e-5
COUNT = 12


def make_batch(samples: SliceSamples, numbers: range, keeps_slices: bool) -> tuple[Tensor, Tensor]:
    drawn = DrawnSamples(samples, carries_slices=not keeps_slices)
    maker = BatchMaker(samples.reader, CPU, keeps_slices=keeps_slices)
    return maker.make(drawn.collate([drawn[number] for number in numbers]))


def check_batch(samples: SliceSamples, count: int = COUNT, keeps_slices: bool = True) -> None:
    """Compare a batch with its samples.

    A label may differ where two classes have equal shares to the last digit.
    """
    images, targets = make_batch(samples, range(count), keeps_slices)
    one_by_one = [samples[number] for number in range(count)]
    tolerance = CURVE if samples.reader.profile.intensities else ROUNDING
    for image, target, expected in zip(images, targets, one_by_one, strict=True):
        assert image.dtype == expected[0].dtype
        assert relative_error(image, expected[0]) < tolerance
        assert (target.dtype, target.shape) == (expected[1].dtype, expected[1].shape)
    same = targets == torch.stack([target for _, target in one_by_one])
    assert same.float().mean() >= 0.999
    assert (targets > 0).any()


@pytest.mark.parametrize("augmentation", ["planned", "samed", "none"])
@pytest.mark.parametrize("layout", ["repeat", "neighbours"])
@pytest.mark.parametrize("frame", ["scale", "stretch"])
def test_batch_of_volumes_equals_its_samples(
    cases: list[StoredCase],
    make_samples: MakeSamples,
    augmentation: str,
    layout: str,
    frame: str,
) -> None:
    """Slices along every axis, of any size, with cropped margins where they are stretched."""
    samples = make_samples(
        cases,
        label_scheme=THREE_CLASSES,
        views=(0, 1, 2),
        augmentation=augmentation,
        channel_layout=layout,
        frame=frame,
        mirror_axes=(0, 2),
        zoom=1.4,
    )
    check_batch(samples, keeps_slices=True)
    check_batch(samples, keeps_slices=False)


@pytest.mark.parametrize("layout", ["repeat", "neighbours"])
def test_batch_has_copied_structures_as_its_samples(
    cases: list[StoredCase], make_samples: MakeSamples, layout: str
) -> None:
    samples = make_samples(
        cases,
        label_scheme=THREE_CLASSES,
        views=(0, 1, 2),
        structure_copying=1.0,
        copied_labels=(3,),
        channel_layout=layout,
        foreground_share=0.0,
    )
    assert any(samples.draw(number)[0].copied for number in range(COUNT))
    check_batch(samples, keeps_slices=False)


@pytest.mark.parametrize("augmentation", ["planned", "samed", "none"])
@pytest.mark.parametrize("layout", ["as_is", "stem"])
@pytest.mark.parametrize("scheme", ["percentiles", "slice_range"])
def test_batch_of_colour_images_equals_its_samples(
    colour_images: list[StoredCase],
    make_samples: MakeSamples,
    augmentation: str,
    layout: str,
    scheme: str,
) -> None:
    """Some are shrunk by averaging, and some are not."""
    samples = make_samples(
        colour_images,
        label_scheme=THREE_CLASSES,
        augmentation=augmentation,
        channel_layout=layout,
        intensity=(IntensityWindow(scheme, 0.5, 99.5),) * 3,
        zoom=0.7,
    )
    check_batch(samples)


def test_batch_of_two_channels_equals_its_samples(
    tmp_path: Path, make_samples: MakeSamples
) -> None:
    labels = np.zeros((3, 24, 20), np.uint8)
    labels[:, 4:14, 4:12] = 1
    image = np.stack([40 + 100 * labels, 200 - 90 * labels]) + np.arange(20, dtype=np.uint8)
    case = make_case(tmp_path, image.astype(np.uint16), labels)
    window = IntensityWindow("fixed", 0, 255)
    check_batch(make_samples([case], channel_layout="pair_mean", intensity=(window, window)))


@pytest.mark.parametrize("ignore_label", [None, 3])
def test_batch_of_regions_equals_its_samples(
    cases: list[StoredCase], make_samples: MakeSamples, ignore_label: int | None
) -> None:
    scheme = LabelScheme(
        {"background": 0, "whole": (1, 2), "core": (2,)}, ignore_label, regions_class_order=(1, 2)
    )
    samples = make_samples(cases, label_scheme=scheme, views=(0, 2), zoom=1.5)
    check_batch(samples)
    _, targets = make_batch(samples, range(COUNT), keeps_slices=True)
    assert set(targets.unique().tolist()) == ({0, 1} if ignore_label is None else {0, 1, 3})


def test_batch_with_an_ignore_label_equals_its_samples(
    cases: list[StoredCase], make_samples: MakeSamples
) -> None:
    scheme = LabelScheme({"background": 0, "one": 1, "two": 2}, ignore_label=3)
    check_batch(make_samples(cases, label_scheme=scheme, zoom=1.5))


def test_batch_of_slices_with_many_classes_equals_its_samples(
    tmp_path: Path, make_samples: MakeSamples
) -> None:
    """Labels of a slice with more than 64 values are not interpolated, those of others are."""
    labels = np.zeros((2, 24, 20), np.uint16)
    labels[0, 4:-4, 4:-4] = np.arange(300, 300 + 16 * 12).reshape(16, 12)
    labels[1, 4:-4, 4:-4] = 300
    image = np.random.default_rng(0).integers(1, 255, labels.shape)
    case = make_case(tmp_path, image.astype(np.uint8)[None], labels)
    names = {str(value): int(value) for value in np.unique(labels)}
    samples = make_samples([case], label_scheme=LabelScheme(names), zoom=1.3)
    check_batch(samples)


@pytest.mark.parametrize(
    ("name", "stem", "views"),
    [
        ("Dataset004_Hippocampus", "hippocampus_00", (0, 1, 2)),
        ("Dataset020_CardiacLV", "SC-HF-I-01-IM-0001-00", (0,)),
    ],
)
def test_batch_of_real_data_equals_its_samples(
    real_data: Path, tmp_path: Path, make_samples: MakeSamples, name: str, stem: str, views: tuple
) -> None:
    cases = []
    for file in sorted((real_data / name / "imagesTr").glob(f"{stem}*"))[:2]:
        labels = real_data / name / "labelsTr" / file.name.replace("_0000", "")
        planes = [SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(one)) for one in (file, labels)]
        image, label_map = (plane if plane.ndim == 3 else plane[None] for plane in planes)
        cases.append(
            make_case(
                tmp_path, image[None], label_map.astype(np.uint8), name=file.name[:20], views=views
            )
        )
    for augmentation, size in (("planned", 64), ("samed", 96)):
        check_batch(
            make_samples(
                cases,
                views=views,
                augmentation=augmentation,
                input_size=size,
                mirror_axes=(2,),
                intensity=(IntensityWindow("percentiles", 0.5, 99.5),),
                zoom=1.7 if len(views) == 3 else 0.5,
            ),
            count=12,
        )


def batches_of(samples: SliceSamples, numbers: list[range]) -> DeviceBatches:
    drawn = DrawnSamples(samples, carries_slices=False)
    loader = []
    for one in numbers:
        loader.append(drawn.collate([drawn[number] for number in one]))
    return DeviceBatches(loader, partial(BatchMaker, samples.reader, keeps_slices=True), CPU)


def test_batches_come_in_order_and_do_not_depend_on_those_before(
    cases: list[StoredCase], make_samples: MakeSamples
) -> None:
    """A sample that is shown again, alone or with others, is the same."""
    samples = make_samples(cases, zoom=1.4)
    numbers = [range(0, 3), range(3, 6), range(6, 9)]
    found = list(batches_of(samples, numbers))
    assert len(found) == 3
    [last] = batches_of(samples, numbers[2:])
    assert torch.equal(found[2][0], last[0])
    assert torch.equal(found[2][1], last[1])
    single, _ = make_batch(samples, range(4, 5), keeps_slices=True)
    assert relative_error(found[1][0][1], single[0]) < CURVE


def test_no_batches_of_a_run_that_is_over(
    cases: list[StoredCase], make_samples: MakeSamples
) -> None:
    assert not list(batches_of(make_samples(cases), []))


def test_batches_are_made_on_the_cpu_when_memory_runs_out(
    cases: list[StoredCase], make_samples: MakeSamples, caplog: pytest.LogCaptureFixture
) -> None:
    samples = make_samples(cases)
    drawn = DrawnSamples(samples, carries_slices=True)
    loader = [drawn.collate([drawn[number]]) for number in range(3)]
    built = []

    def build(device: torch.device) -> BatchMaker:
        built.append(device.type)
        if device.type != "cpu":
            raise MemoryError("no room")
        return BatchMaker(samples.reader, device, keeps_slices=False)

    with caplog.at_level(logging.WARNING):
        found = list(DeviceBatches(loader, build, torch.device("mps")))
    assert built == ["mps", "cpu"]
    assert [record.getMessage() for record in caplog.records] == [
        "out of memory (no room): from here on batches are made on the CPU"
    ]
    for number, (images, _) in enumerate(found):
        assert relative_error(images[0], samples[number][0]) < CURVE


def test_memory_that_is_too_small_for_a_batch_on_the_cpu_is_an_error(
    cases: list[StoredCase], make_samples: MakeSamples
) -> None:
    drawn = DrawnSamples(make_samples(cases), carries_slices=True)

    def build(device: torch.device) -> BatchMaker:
        raise MemoryError("no room")

    with pytest.raises(SamnetError, match=r"does not fit into the memory \(no room\)"):
        list(DeviceBatches([drawn.collate([drawn[0]])], build, CPU))
