"""Structures that are copied into other slices: what is copied, where it lies, how bright it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builders.tiny import make_case, make_configuration

from samnet.dataset.label_scheme import LabelScheme
from samnet.training.copied_structure import CopiedStructure
from samnet.training.sampling import SliceSamples
from samnet.training.slice_reader import SampleSpecification
from samnet.training.stack_samples import StackSamples

ORGAN, LESION, UNKNOWN = 1, 2, 3
SCHEME = LabelScheme({"background": 0, "organ": ORGAN, "lesion": LESION}, ignore_label=UNKNOWN)
REGIONS = LabelScheme(
    {"background": 0, "organ": (ORGAN, LESION), "lesion": LESION}, UNKNOWN, (ORGAN, LESION)
)
SIZE = 48
COUNT = 40
# Each case has its own brightness. A lesion is 40 brighter than the organ around it.
BRIGHTNESS = {"case_0": 80, "case_1": 110}
MakeSamples = Callable[..., Any]


def volume(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return an image with an organ amid other tissue and air; case_1 has a lesion in 3 slices."""
    labels = np.zeros((6, SIZE, SIZE), np.uint8)
    labels[:, 8:40, 6:34] = ORGAN
    image = np.full(labels.shape, 50)
    image[:, :, 42:] = 2  # air
    if name == "case_1":
        labels[2:5, 14:20, 12:18] = LESION
    labels[:, 9:12, 30:34] = UNKNOWN
    image[labels == ORGAN] = BRIGHTNESS[name]
    image[labels == LESION] = BRIGHTNESS[name] + 40
    return image[None].astype(np.uint8), labels


@pytest.fixture
def make_samples(tmp_path: Path) -> MakeSamples:
    cases = [
        make_case(tmp_path, *volume(name), name=name, spacing=(1.0, 1.0, 1.0))
        for name in BRIGHTNESS
    ]

    def make(kind: type = SliceSamples, scheme: LabelScheme = SCHEME, **changes: Any) -> Any:
        values = {
            "structure_copying": 1.0,
            "copied_labels": (LESION,),
            "input_size": SIZE,
            "augmentation": "none",
            "foreground_share": 0.0,
        }
        configuration = make_configuration(**(values | changes))
        return kind(cases, SampleSpecification(configuration, scheme, 2, 5))

    return make


def copies_of(samples: SliceSamples) -> list[tuple[str, int, CopiedStructure]]:
    """Return case, slice and structure of all samples that have one."""
    found = []
    for number in range(COUNT):
        draws, _ = samples.draw(number)
        if draws.copied is not None:
            name = samples.reader.cases[draws.choice.case_index].identifier
            found.append((name, draws.choice.index, draws.copied))
    return found


def test_structure_is_as_much_brighter_than_its_new_surroundings(make_samples: MakeSamples) -> None:
    samples = make_samples()
    copies = copies_of(samples)
    assert len(copies) > COUNT / 2
    assert {name for name, _, _ in copies} == {"case_0", "case_1"}
    for name, index, copied in copies:
        image, labels = volume(name)
        pasted = copied.paste_labels(index, labels[index])
        new = (pasted == LESION) & (labels[index] != LESION)
        shown = copied.paste_image([index], image[:, [index]])[0, 0]
        assert shown.dtype == image.dtype
        # At the edges of a structure that is turned, intensities are interpolated.
        assert np.percentile(shown[new], 75) == pytest.approx(BRIGHTNESS[name] + 40, abs=1)
        unchanged = copied.patches[index].weight == 0
        area = copied.patches[index].rows, copied.patches[index].columns
        assert (shown[area][unchanged] == image[0, index][area][unchanged]).all()


def test_structure_lies_in_its_organ_and_replaces_no_other(make_samples: MakeSamples) -> None:
    places = set()
    for name, index, copied in copies_of(make_samples()):
        labels = volume(name)[1][index]
        pasted = copied.paste_labels(index, labels)
        changed = pasted != labels
        assert changed.any()
        assert (pasted[changed] == LESION).all()
        assert (labels[changed] == ORGAN).mean() >= 0.8
        assert not (changed & np.isin(labels, [LESION, UNKNOWN])).any()
        assert ((pasted == LESION) >= (labels == LESION)).all()
        places.add(tuple(np.argwhere(changed)[0]))
    assert len(places) > 8


def test_size_of_a_structure_varies(make_samples: MakeSamples) -> None:
    areas = [
        np.count_nonzero(copied.patches[index].labels)
        for _, index, copied in copies_of(make_samples())
    ]
    assert 36 / 1.25**2 - 6 <= min(areas) < 32
    assert 42 < max(areas) <= 36 * 1.25**2 + 8


def test_sample_depends_on_its_number_alone(make_samples: MakeSamples) -> None:
    forwards, backwards = make_samples(), make_samples()
    expected = [forwards[number] for number in range(12)]
    for number in reversed(range(12)):
        image, target = backwards[number]
        assert torch.equal(image, expected[number][0])
        assert torch.equal(target, expected[number][1])


def test_share_of_the_samples_is_changed_and_the_others_stay_as_they_were(
    make_samples: MakeSamples,
) -> None:
    without, half = make_samples(structure_copying=0.0), make_samples(structure_copying=0.5)
    every = make_samples()
    changed = 0
    for number in range(COUNT):
        draws = half.draw(number)[0]
        if draws.copied is None:
            assert torch.equal(half[number][0], without[number][0])
            assert torch.equal(half[number][1], without[number][1])
        else:
            changed += 1
            assert torch.equal(half[number][0], every[number][0])
    assert changed == pytest.approx(len(copies_of(every)) / 2, abs=6)


def test_labels_that_are_not_planned_are_not_copied(make_samples: MakeSamples) -> None:
    assert not copies_of(make_samples(copied_labels=(7,)))


def test_target_shows_the_structure_as_classes_and_as_regions(make_samples: MakeSamples) -> None:
    classes, regions = make_samples(), make_samples(scheme=REGIONS)
    seen = 0
    for number in range(20):
        draws, labels = classes.draw(number)
        if draws.copied is None:
            continue
        target, masks = classes[number][1], regions[number][1]
        assert (target == LESION).any()
        assert (labels == LESION).any()
        lesion = masks[1] == 1
        assert lesion.any()
        assert (masks[0][lesion] == 1).all()  # which lies in the organ
        seen += 1
    assert seen > 5


@pytest.mark.parametrize("layout", ["repeat", "neighbours"])
def test_stack_has_the_structure_in_several_slices(make_samples: MakeSamples, layout: str) -> None:
    stacks = make_samples(StackSamples, depth=3, channel_layout=layout)
    without = make_samples(StackSamples, depth=3, channel_layout=layout, structure_copying=0.0)
    most = 0
    for number in range(COUNT):
        images, targets = stacks[number]
        plain_images, plain_targets = without[number]
        changed = (targets == LESION) & (plain_targets != LESION)
        slices = changed.flatten(1).any(1)
        if not slices.any():
            assert torch.equal(images, plain_images)
            continue
        assert slices[1]
        most = max(most, int(slices.sum()))
        # Where the label is, the middle channel has changed too, and no slice without it has.
        differs = (images != plain_images)[:, 1].flatten(1).any(1)
        assert torch.equal(differs, slices)
    assert most == 3


def test_two_channels_are_shifted_each_by_its_own_surroundings(tmp_path: Path) -> None:
    cases = []
    for name, second in (("case_0", 30), ("case_1", 60)):
        image, labels = volume(name)
        other = np.full_like(image, second)
        other[0][labels == LESION] = second - 20
        both = np.concatenate([image, other])
        cases.append(make_case(tmp_path, both, labels, name=name))
    configuration = make_configuration(
        structure_copying=1.0,
        copied_labels=(LESION,),
        input_size=SIZE,
        augmentation="none",
        foreground_share=0.0,
        channel_layout="pair_mean",
        intensity=make_configuration().intensity * 2,
    )
    samples = SliceSamples(cases, SampleSpecification(configuration, SCHEME, 2, 5))
    for name, index, copied in copies_of(samples):
        patch = copied.patches[index]
        inner = patch.labels == LESION
        # 40 above the organ in the first channel, 20 below it in the second.
        first, second = (float(np.median(plane[inner])) for plane in patch.image)
        expected = {"case_0": (120.0, 10.0), "case_1": (150.0, 40.0)}
        assert (first, second) == pytest.approx(expected[name], abs=0.01)
