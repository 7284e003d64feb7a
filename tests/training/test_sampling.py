from __future__ import annotations

import itertools
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builders.numerics import SINGLE, relative_error
from builders.tiny import TWO_CLASSES, make_case, make_configuration, thresholds
from torch.utils.data import DataLoader

from samnet.dataset.label_scheme import LabelScheme
from samnet.inference.slices import SlicePredictor
from samnet.plan.configuration import IntensityWindow
from samnet.preprocessing.storage import StoredCase
from samnet.training.sampling import SliceChooser, SliceSamples
from samnet.training.slice_reader import SampleSpecification

SEED = 7


def balls(seed: int, shape: tuple[int, int, int] = (6, 24, 20)) -> tuple[np.ndarray, np.ndarray]:
    """Return a noisy image `(1, Z, Y, X)` and its labels: 1 in many slices, 2 in one."""
    generator = np.random.default_rng(seed)
    labels = np.zeros(shape, dtype=np.uint8)
    labels[1:5, 4:12, 3:10] = 1
    labels[2, 14:18, 12:17] = 2
    image = (40 + 60 * labels + generator.normal(0, 10, shape)).clip(1, 255).astype(np.uint8)
    return image[None], labels


@pytest.fixture
def cases(tmp_path: Path) -> list[StoredCase]:
    return [
        make_case(tmp_path, *balls(seed), name=f"case_{seed}", views=(0, 1, 2)) for seed in range(3)
    ]


def make_samples(
    cases: list[StoredCase],
    *,
    seed: int = SEED,
    label_scheme: LabelScheme = TWO_CLASSES,
    **changes: Any,
) -> SliceSamples:
    configuration = make_configuration(**changes)
    return SliceSamples(cases, SampleSpecification(configuration, label_scheme, 2, seed))


def equal(one: tuple[torch.Tensor, torch.Tensor], other: tuple[torch.Tensor, torch.Tensor]) -> bool:
    return torch.equal(one[0], other[0]) and torch.equal(one[1], other[1])


def test_sample_depends_on_seed_and_number_alone(cases: list[StoredCase]) -> None:
    samples = make_samples(cases)
    expected = [samples[number] for number in range(8)]
    backwards = make_samples(cases[::-1])
    np.random.seed(3)
    assert all(equal(backwards[number], expected[number]) for number in reversed(range(8)))
    assert len({image.sum().item() for image, _ in expected}) == 8
    other_seed = make_samples(cases, seed=SEED + 1)
    assert not any(equal(other_seed[number], expected[number]) for number in range(8))


def test_samples_of_worker_processes_are_the_same(cases: list[StoredCase]) -> None:
    samples = make_samples(cases)
    loaders = [
        DataLoader(samples, batch_size=2, sampler=range(4, 10), num_workers=workers)
        for workers in (0, 1)
    ]
    batches = [list(loader) for loader in loaders]
    assert len(batches[0]) == 3
    assert all(equal(one, other) for one, other in zip(*batches, strict=True))


def global_states() -> tuple[list, tuple, list]:
    numpy_state = np.random.get_state()[1].tolist()
    return numpy_state, random.getstate(), torch.get_rng_state().tolist()


def test_samples_leave_global_generators_unchanged(cases: list[StoredCase]) -> None:
    samples = make_samples(cases)
    before = global_states()
    for number in range(20):
        samples[number]
    assert global_states() == before


@pytest.mark.parametrize("share", [0.0, 0.6, 1.0])
def test_slices_are_chosen_by_class_in_the_planned_share_and_each_class_equally_often(
    cases: list[StoredCase], share: float
) -> None:
    samples = make_samples(cases, foreground_share=share, views=(0, 1, 2))
    drawn = [samples.chooser.draw(np.random.default_rng(number), number) for number in range(400)]
    counts = Counter(choice.wanted for choice in drawn)
    assert 1 - counts[None] / 400 == pytest.approx(share, abs=0.07)
    assert counts[1] == pytest.approx(200 * share, abs=35)  # though far more slices show it
    for choice in drawn:
        labels = cases[choice.case_index].label_slice(choice.axis, choice.index)
        assert choice.wanted is None or choice.wanted in labels
    assert {choice.case_index for choice in drawn} == {0, 1, 2}
    assert {choice.axis for choice in drawn} == {0, 1, 2}


def test_passes_show_every_slice_once_and_each_pass_in_another_order(
    cases: list[StoredCase],
) -> None:
    samples = make_samples(cases, foreground_share=0.0, slice_order="passes", views=(0, 1))
    chooser, count = samples.chooser, samples.chooser.num_slices
    draws = [chooser.draw(np.random.default_rng(number), number) for number in range(3 * count)]
    passes = [draws[first : first + count] for first in (0, count, 2 * count)]
    every_slice = {
        (case_index, axis, index)
        for case_index, axis in samples.reader.stacks
        for index in range(cases[case_index].num_slices(axis))
    }
    for one_pass in passes:
        assert len(one_pass) == len(every_slice)
        assert {(one.case_index, one.axis, one.index) for one in one_pass} == every_slice
        assert all(one.wanted is None for one in one_pass)
    assert passes[0] != passes[1] != passes[2]
    # A worker process draws any sample, in any order.
    other = make_samples(cases, foreground_share=0.0, slice_order="passes", views=(0, 1)).chooser
    for number in (2 * count, 1, count + 3, 0):
        assert other.draw(np.random.default_rng(number), number) == draws[number]


def test_passes_leave_the_share_that_is_chosen_by_class(cases: list[StoredCase]) -> None:
    samples = make_samples(cases, foreground_share=0.6, slice_order="passes")
    draws = [samples.chooser.draw(np.random.default_rng(number), number) for number in range(200)]
    assert sum(one.wanted is None for one in draws) / 200 == pytest.approx(0.4, abs=0.1)


def test_every_slice_is_drawn_where_no_class_is_wanted(tmp_path: Path) -> None:
    shapes = [(2, 4, 3), (3, 2, 5)]
    cases = []
    for name, shape in zip("ab", shapes, strict=True):
        labels = np.zeros(shape, np.uint8)
        cases.append(make_case(tmp_path, labels[None] + 5, labels, name=name, views=(0, 2)))
    chooser = make_samples(cases, foreground_share=0.0, views=(0, 2)).chooser
    expected = set()
    for case_index, shape in enumerate(shapes):
        for axis in (0, 2):
            expected |= {(case_index, axis, index) for index in range(shape[axis])}
    generator = np.random.default_rng(0)
    drawn = [chooser.draw(generator, number) for number in range(200)]
    assert {(choice.case_index, choice.axis, choice.index) for choice in drawn} == expected
    assert chooser.num_slices == len(expected) == 13


def test_slices_are_drawn_for_a_class_only_where_they_may_be(cases: list[StoredCase]) -> None:
    reader = make_samples(cases[:2], foreground_share=1.0, views=(0, 1)).reader
    allowed = {(1, 0, 0, 2), (1, 0, 0, 4), (1, 1, 1, 5), (2, 1, 1, 14)}
    considered = []

    def may_show(value: int, case_index: int, axis: int, index: int) -> bool:
        considered.append((value, case_index, axis, index))
        return considered[-1] in allowed

    chooser = SliceChooser(reader, may_show)
    expected = []
    for value, slices in ((1, {0: range(1, 5), 1: range(4, 12)}), (2, {0: [2], 1: range(14, 18)})):
        for case_index in (0, 1):
            for axis in (0, 1):
                expected += [(value, case_index, axis, index) for index in slices[axis]]
    assert considered == expected
    generator = np.random.default_rng(0)
    choices = [chooser.draw(generator, number) for number in range(100)]
    assert {
        (choice.wanted, choice.case_index, choice.axis, choice.index) for choice in choices
    } == allowed


def test_slices_are_drawn_from_all_where_none_may_be_drawn_for_a_class(
    cases: list[StoredCase],
) -> None:
    reader = make_samples(cases, foreground_share=1.0).reader
    chooser = SliceChooser(reader, lambda *place: False)
    assert chooser.draw(np.random.default_rng(0), 0).wanted is None


def test_samples_of_slices_without_any_label(tmp_path: Path) -> None:
    image, labels = balls(0)
    unlabelled = make_samples([make_case(tmp_path, image, 0 * labels)], foreground_share=1.0)
    assert not unlabelled[0][1].any()


def test_slices_are_not_chosen_by_the_ignore_label_and_keep_it_in_the_target(
    tmp_path: Path,
) -> None:
    image, labels = balls(0)
    labels[:, :, 11:] = 3
    scheme = LabelScheme(TWO_CLASSES.labels, ignore_label=3)
    case = make_case(tmp_path, image, labels)
    samples = make_samples([case], label_scheme=scheme, foreground_share=1.0)
    assert set(samples.chooser.places_by_class) == {1}
    target = samples[0][1]
    assert set(target.unique().tolist()) == {0, 1, 3}


@pytest.mark.parametrize(
    "zoom",
    [1.0, 1.5, 4.0],
    ids=["slice fits the input", "slice is larger in one axis", "slice is larger in both axes"],
)
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_image_and_target_of_a_sample_are_aligned(tmp_path: Path, zoom: float, axis: int) -> None:
    """The image shows its own labels: every draw has to move both alike, mirrored or not."""
    labels = np.zeros((22, 24, 26), dtype=np.uint8)
    labels[4:18, 6:20, 5:11] = 1
    labels[4:10, 6:20, 5:20] = 1
    labels[4:18, 14:20, 5:20] = 1
    case = make_case(tmp_path, 255 * labels[None], labels, views=(axis,), spacing=(1.0, 1.1, 0.9))
    changes = {
        "views": (axis,),
        "slicing_axis": axis,
        "mirror_axes": (0, 1, 2),
        "foreground_share": 1.0,
        "zoom": zoom,
    }
    samples = make_samples([case], **changes)
    samples.reader.profile = replace(samples.reader.profile, intensities=False)
    for number in range(12):
        image, target = samples[number]
        shown = torch.nn.functional.avg_pool2d(image[:1], 2)[0] > 0.5
        differing = (shown != (target == 1)).float()
        assert (target == 1).any()
        # Lines of a pixel may differ, areas may not.
        assert torch.nn.functional.avg_pool2d(differing[None], 3, 1).max() < 1


@pytest.mark.parametrize("mirror_axes", [(1, 2), (0, 1, 2)])
def test_samples_show_neighbouring_slices_in_order(
    tmp_path: Path, mirror_axes: tuple[int, ...]
) -> None:
    """Only where the volume may be mirrored across the slices, below and above change places."""
    values = np.arange(20, 130, 20)
    image = np.broadcast_to(values[:, None, None], (6, 24, 20)).astype(np.uint8)
    case = make_case(tmp_path, image[None], 0 * image)
    samples = make_samples([case], channel_layout="neighbours", mirror_axes=mirror_axes)
    samples.reader.profile = replace(samples.reader.profile, intensities=False)
    is_in_order = set()
    for number in range(40):
        index = samples.chooser.draw(np.random.default_rng([SEED, number]), number).index
        expected = [int(values[i]) for i in (max(index - 1, 0), index, min(index + 1, 5))]
        shown = (255 * samples[number][0][:, 16, 16]).round().tolist()
        assert shown in (expected, expected[::-1])
        is_in_order.add(shown == expected)
    assert is_in_order == ({True} if 0 not in mirror_axes else {True, False})


def rising_case(folder: Path, axis: int) -> StoredCase:
    """Return a case of three channels, of which each rises along one axis of the volume."""
    ramps = [100 + 100 * np.linspace(-1, 1, length) for length in (20, 22, 24)]
    image = np.stack(np.meshgrid(*ramps, indexing="ij")).astype(np.uint8)
    return make_case(folder, image, 0 * image[0], views=(axis,))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_samples_are_mirrored_along_the_allowed_axes_of_the_volume(
    tmp_path: Path, axis: int
) -> None:
    """Where a sample is mirrored along an axis, the channel that rises along it falls.

    Image and target of a wrongly mirrored sample agree, so that nothing else tells.
    """
    case = rising_case(tmp_path, axis)
    in_plane = [other for other in range(3) if other != axis]
    for mirror_axes in [(), (0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)]:
        samples = make_samples(
            [case],
            views=(axis,),
            slicing_axis=axis,
            channel_layout="as_is",
            intensity=(IntensityWindow("fixed", 0, 255),) * 3,
            mirror_axes=mirror_axes,
        )
        samples.reader.profile = replace(samples.reader.profile, intensities=False)
        mirrored = set()
        for number in range(40):
            shown = samples[number][0][:, 12:20, 12:20]  # within the slice, wherever that lies
            rise_of_rows = shown[in_plane[0]].diff(dim=0).mean()
            rise_of_columns = shown[in_plane[1]].diff(dim=1).mean()
            mirrored.add((bool(rise_of_rows < 0), bool(rise_of_columns < 0)))
        choices = [(False, True) if other in mirror_axes else (False,) for other in in_plane]
        assert mirrored == set(itertools.product(*choices))


@pytest.mark.parametrize("layout", ["repeat", "neighbours"])
@pytest.mark.parametrize("axis", [0, 2])
def test_samples_without_augmentation_show_what_prediction_sees(
    cases: list[StoredCase], layout: str, axis: int
) -> None:
    changes = {
        "views": (axis,),
        "slicing_axis": axis,
        "channel_layout": layout,
        "augmentation": "none",
    }
    samples = make_samples(cases[:1], **changes)
    volume = cases[0].volume()
    predictor = SlicePredictor(
        [thresholds([0, 1], 2)],
        samples.reader.configuration,
        volume,
        axis,
        mirror=False,
        label_scheme=TWO_CLASSES,
    )
    canvases = predictor.canvases(0, volume.array.shape[axis + 1])
    for number in range(6):
        image, _ = samples[number]
        assert min(relative_error(image, canvas) for canvas in canvases) < SINGLE


def test_samples_of_a_large_slice_show_the_class_they_were_drawn_for(tmp_path: Path) -> None:
    labels = np.zeros((1, 100, 100), dtype=np.uint8)
    labels[0, 90:94, 5:9] = 1
    case = make_case(tmp_path, np.full((1, 1, 100, 100), 9, dtype=np.uint8), labels)
    samples = make_samples([case], foreground_share=1.0, augmentation="none")
    for number in range(20):
        image, target = samples[number]
        assert target.any()
        assert (image > 0).all()  # nothing beyond the slice is shown


def test_regions_change_the_target_of_a_sample_and_nothing_else(cases: list[StoredCase]) -> None:
    regions = LabelScheme(
        {"background": 0, "whole": (1, 2), "core": (2,)}, regions_class_order=(1, 2)
    )
    plain, nested = make_samples(cases), make_samples(cases, label_scheme=regions)
    shown: set[int] = set()
    for number in range(12):
        (image, classes), (same_image, masks) = plain[number], nested[number]
        assert torch.equal(image, same_image)
        # The two structures do not touch: where one class wins, it has more than half.
        assert torch.equal(masks, torch.stack([classes > 0, classes == 2]).int())
        shown.update(classes.unique().tolist())
    assert shown == {0, 1, 2}
