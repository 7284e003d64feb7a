from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builders.tiny import make_case, make_configuration, thresholds
from torch.utils.data import DataLoader

from samnet.dataset.label_scheme import Regions
from samnet.inference.slices import SlicePredictor
from samnet.preprocessing.storage import StoredCase
from samnet.training.augmentation import Placement, place_image
from samnet.training.sampling import SliceSamples


def balls(seed: int, shape: tuple[int, int, int] = (6, 24, 20)) -> tuple[np.ndarray, np.ndarray]:
    """A noisy image `(1, Z, Y, X)` and its labels: class 1 in many slices, class 2 in one."""
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
    cases: list[StoredCase], *, ignore_label: int | None = None, **changes: Any
) -> SliceSamples:
    return SliceSamples(
        cases, make_configuration(**changes), stride=2, seed=7, ignore_label=ignore_label
    )


def equal(one: tuple[torch.Tensor, torch.Tensor], other: tuple[torch.Tensor, torch.Tensor]) -> bool:
    return torch.equal(one[0], other[0]) and torch.equal(one[1], other[1])


def test_a_sample_depends_on_seed_and_number_alone(cases: list[StoredCase]) -> None:
    samples = make_samples(cases)
    expected = [samples[number] for number in range(8)]
    backwards = make_samples(cases[::-1])
    np.random.seed(3)
    assert all(equal(backwards[number], expected[number]) for number in reversed(range(8)))
    assert len({image.sum().item() for image, _ in expected}) == 8
    other_seed = SliceSamples(cases, make_configuration(), stride=2, seed=8)
    assert not any(equal(other_seed[number], expected[number]) for number in range(8))


def test_worker_processes_change_nothing(cases: list[StoredCase]) -> None:
    samples = make_samples(cases)
    loaders = [
        DataLoader(samples, batch_size=2, sampler=range(4, 10), num_workers=workers)
        for workers in (0, 1)
    ]
    batches = [list(loader) for loader in loaders]
    assert len(batches[0]) == 3
    assert all(equal(one, other) for one, other in zip(*batches, strict=True))


def test_global_randomness_is_left_alone(cases: list[StoredCase]) -> None:
    samples = make_samples(cases)
    before = (np.random.get_state()[1].tolist(), random.getstate(), torch.get_rng_state().tolist())
    for number in range(20):
        samples[number]
    assert (
        np.random.get_state()[1].tolist(),
        random.getstate(),
        torch.get_rng_state().tolist(),
    ) == before


@pytest.mark.parametrize("share", [0.0, 0.6, 1.0])
def test_foreground_share_and_equal_classes(cases: list[StoredCase], share: float) -> None:
    samples = make_samples(cases, foreground_share=share, views=(0, 1, 2))
    drawn = [samples._draw_slice(np.random.default_rng(number)) for number in range(400)]
    wanted = [entry[3] for entry in drawn]
    assert 1 - wanted.count(None) / 400 == pytest.approx(share, abs=0.07)
    assert wanted.count(1) == pytest.approx(200 * share, abs=35)  # though far more slices show it
    for case_index, axis, index, value in drawn:
        assert value is None or value in cases[case_index].label_slice(axis, index)
    assert {entry[0] for entry in drawn} == {0, 1, 2} == {entry[1] for entry in drawn}


def test_slices_without_any_label_are_enough(tmp_path: Path) -> None:
    image, labels = balls(0)
    image_only = make_samples([make_case(tmp_path, image, 0 * labels)], foreground_share=1.0)
    assert not image_only[0][1].any()


def test_unlabelled_voxels_are_never_chosen_and_stay_marked(tmp_path: Path) -> None:
    image, labels = balls(0)
    labels[:, :, 11:] = 3
    samples = make_samples(
        [make_case(tmp_path, image, labels)], ignore_label=3, foreground_share=1.0
    )
    assert set(samples.places_by_class) == {1}
    target = samples[0][1]
    assert set(target.unique().tolist()) == {0, 1, 3}


@pytest.mark.parametrize("zoom", [1.0, 1.5, 4.0], ids=["fits", "larger in one axis", "larger"])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_image_and_target_are_aligned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zoom: float, axis: int
) -> None:
    """The image shows its own labels: every draw has to move both alike, mirrored or not."""
    monkeypatch.setattr(
        "samnet.training.sampling.change_intensities", lambda image, generator: image
    )
    labels = np.zeros((22, 24, 26), dtype=np.uint8)
    labels[4:18, 6:20, 5:11] = labels[4:10, 6:20, 5:20] = labels[4:18, 14:20, 5:20] = 1
    case = make_case(tmp_path, 255 * labels[None], labels, views=(axis,), spacing=(1.0, 1.1, 0.9))
    changes = {
        "views": (axis,),
        "slicing_axis": axis,
        "mirror_axes": (0, 1, 2),
        "foreground_share": 1.0,
        "zoom": zoom,
    }
    samples = make_samples([case], **changes)
    for number in range(12):
        image, target = samples[number]
        shown = torch.nn.functional.avg_pool2d(image[:1], 2)[0] > 0.5
        differing = (shown != (target == 1)).float()
        assert (target == 1).any()
        assert (
            torch.nn.functional.avg_pool2d(differing[None], 3, 1).max() < 1
        )  # lines of a pixel, never areas


@pytest.mark.parametrize("mirror_axes", [(1, 2), (0, 1, 2)])
def test_neighbouring_slices_keep_their_order(tmp_path: Path, mirror_axes: tuple[int, ...]) -> None:
    """Unless the volume may be mirrored across the slices; then below and above are exchanged together."""
    image = np.broadcast_to(np.arange(20, 130, 20)[:, None, None], (6, 24, 20)).astype(np.uint8)
    case = make_case(tmp_path, image[None], 0 * image)
    samples = make_samples([case], channel_layout="neighbours", mirror_axes=mirror_axes)
    monotone = set()
    for number in range(40):
        generator = np.random.default_rng([7, number])
        index = samples._draw_slice(generator)[2]
        expected = [
            image[max(index - 1, 0), 0, 0],
            image[index, 0, 0],
            image[min(index + 1, 5), 0, 0],
        ]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                "samnet.training.sampling.change_intensities", lambda image, generator: image
            )
            shown = (255 * samples[number][0][:, 16, 16]).round().tolist()
        assert shown in (expected, expected[::-1])
        monotone.add(shown == expected)
    assert monotone == ({True} if 0 not in mirror_axes else {True, False})


@pytest.mark.parametrize("layout", ["repeat", "neighbours"])
@pytest.mark.parametrize("axis", [0, 2])
def test_without_augmentation_training_sees_what_prediction_sees(
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
        [thresholds([0, 1], 2)], samples.configuration, volume, axis, mirror=False
    )
    canvases = predictor.canvases(0, volume.array.shape[axis + 1])
    for number in range(6):
        image, _ = samples[number]
        assert min((image - canvas).abs().max() for canvas in canvases) < 1e-5


def test_a_large_slice_is_seen_where_the_wanted_class_is_or_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = np.zeros((1, 100, 100), dtype=np.uint8)
    labels[0, 90:94, 5:9] = 1
    case = make_case(tmp_path, np.full((1, 1, 100, 100), 9, dtype=np.uint8), labels)
    wanted = make_samples([case], foreground_share=1.0, augmentation="none")
    for number in range(20):
        image, target = wanted[number]
        assert target.any()
        assert (image > 0).all()  # nothing beyond the slice is shown

    centres = []

    def note_centre(image: torch.Tensor, placement: Placement, input_size: int) -> torch.Tensor:
        centres.append(placement.centre)
        return place_image(image, placement, input_size)

    monkeypatch.setattr("samnet.training.sampling.place_image", note_centre)
    anywhere = make_samples([case], foreground_share=0.0, augmentation="none")
    for number in range(100):
        anywhere[number]
    lowest, highest = np.min(centres, axis=0), np.max(centres, axis=0)
    assert ((lowest >= 16) & (lowest < 22) & (highest <= 84) & (highest > 78)).all()


def test_regions_change_the_target_and_nothing_else(cases: list[StoredCase]) -> None:
    regions = Regions(((1, 2), (2,)), (1, 2))
    plain, nested = (
        make_samples(cases),
        SliceSamples(cases, make_configuration(), stride=2, seed=7, regions=regions),
    )
    shown = set()
    for number in range(12):
        (image, classes), (same_image, masks) = plain[number], nested[number]
        assert torch.equal(image, same_image)
        # The two structures do not touch: where one class wins, it has more than half.
        assert torch.equal(masks, torch.stack([classes > 0, classes == 2]).int())
        shown |= set(classes.unique().tolist())
    assert shown == {0, 1, 2}
