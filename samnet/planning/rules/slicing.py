"""Which slices the network sees, and how their pixels are laid out.

Every rule takes the `Facts` and returns the value and the reason.
"""

from __future__ import annotations

import re

import numpy as np

from samnet.core.slicing import find_slicing_axis, is_anisotropic
from samnet.core.units import round_length, show_length
from samnet.planning.rules.facts import AXIS_NAMES, Facts

NEIGHBOURS_WITHIN = 3.0
VIEWS_WITHIN = 4.0
FEW_VOLUMES = 5  # labelled ones, of which slices across all axes were measured to teach more
_SIDES = (("left", "right"), ("l", "r"), ("lt", "rt"), ("lh", "rh"))
# A number belongs to the word before it: the vertebra L1 is not "left". KidneyL and LKidney are two
# words each.
_WORD = re.compile(r"[A-Z]?[a-z]+\d*|[A-Z]+(?![a-z])\d*|[^\W_A-Za-z]+")


def slicing_axis(facts: Facts) -> tuple[int, str]:
    """Slice across the coarsest spacing if it is over 1.5 times the finest.

    Otherwise across the shortest axis. SAM's encoder can use slices of full resolution; across the
    shortest axis the slices are the largest.
    """
    if facts.is_2d:
        return 0, "the data are 2D images"
    if facts.flat_axis is not None:
        axis_name = AXIS_NAMES[facts.flat_axis]
        return facts.flat_axis, f"every case is a single slice across {axis_name}"
    spacing = np.array(facts.fingerprint.median_spacing)
    shown = " x ".join(show_length(value, 2) for value in spacing)
    cases = facts.fingerprint.cases.values()
    lengths = np.median([np.array(case.cropped_shape) * case.spacing for case in cases], axis=0)
    axis = find_slicing_axis(spacing, lengths)
    if is_anisotropic(spacing):
        ratio = spacing.max() / spacing.min()
        return axis, (
            f"median spacing {shown} {facts.unit} (Z, Y, X): {AXIS_NAMES[axis]} is {ratio:.1f} "
            "times coarser than the finest"
        )
    return axis, (
        f"median spacing {shown} {facts.unit} (Z, Y, X) is nearly isotropic; {AXIS_NAMES[axis]} is "
        f"the shortest axis ({show_length(lengths[axis], 0)} {facts.unit}), slices across it are "
        "the largest"
    )


def views(facts: Facts) -> tuple[tuple[int, ...], str]:
    """Choose the axes whose slices one network sees; their probabilities are averaged.

    All three axes where the labelled structures take up less than a quarter of the volume:
    look-alikes in slices across one axis can be ruled out across the others. All three were better
    at 4 % and 18 %. Where the structures fill the image, their position identifies them: with many
    volumes one view was as good as three in a third of the time of a prediction, with `FEW_VOLUMES`
    nearly isotropic ones three were better (docs/measurements.md).
    """
    axis = facts.values["slicing_axis"]
    if facts.is_2d or facts.flat_axis == axis:
        return (axis,), "single slices have one view"
    spacing = np.array(facts.fingerprint.median_spacing)
    ratio = spacing.max() / spacing.min()
    if ratio > VIEWS_WITHIN:
        return (axis,), (
            f"spacing differs {ratio:.1f} fold between the axes: slices across the others would be "
            "squeezed"
        )
    if facts.fingerprint.label_scheme.ignore_label is not None:
        return (axis,), (
            "cases with an ignore label may be annotated on slices across one axis only"
        )
    part = facts.fingerprint.labelled_part
    if part is None:
        return (axis,), "nothing is labelled"
    found = f"the labelled structures extend over {part:.0%} of the volume"
    if not facts.position_identifies:
        return (0, 1, 2), (f"{found}: look-alikes in one plane can be ruled out in the other two")
    found += ": their position identifies them"
    count = len(facts.fingerprint.cases)
    if count <= FEW_VOLUMES and not is_anisotropic(spacing):
        volumes = "a single labelled volume" if count == 1 else f"{count} labelled volumes"
        return (0, 1, 2), f"{found}, but of {volumes} slices across all axes teach more"
    return (axis,), f"{found}, so one slice direction is enough"


def in_plane_spacing(facts: Facts) -> tuple[float, str]:
    """Take the median of both in-plane axes over all cases, for both axes."""
    if facts.is_2d:
        return 1.0, "2D images are taken pixel by pixel"
    axis = facts.values["slicing_axis"]
    cases = facts.fingerprint.cases.values()
    spacing = [np.delete(np.array(case.spacing), axis) for case in cases]
    value = round_length(float(np.median(spacing)), 4)
    return value, f"median in-plane spacing of {len(spacing)} cases"


def channel_layout(facts: Facts) -> tuple[str, str]:
    """Choose how the channels become the three that SAM's encoder takes."""
    count = facts.num_channels
    if count == 2:
        return "pair_mean", "two channels: both and their mean"
    if count == 3:
        return "as_is", "three channels are what the encoder takes"
    if count > 3:
        return "stem", (
            f"{count} channels: a learned 1 x 1 convolution to three that starts as their mean"
        )
    axis = facts.values["slicing_axis"]
    if facts.flat_axis == axis:
        return "repeat", "one channel, single slices: repeated three times"
    through, plane = facts.fingerprint.median_spacing[axis], facts.values["in_plane_spacing"]
    if through < NEIGHBOURS_WITHIN * plane:
        return "neighbours", (
            f"slices are {show_length(through, 2)} {facts.unit} apart, under "
            f"{NEIGHBOURS_WITHIN:.0f} x {show_length(plane, 2)} {facts.unit} in plane"
        )
    return "repeat", (
        f"slices are {show_length(through, 2)} {facts.unit} apart, {through / plane:.1f} times the "
        "in-plane spacing: too far to help"
    )


def mirror_axes(facts: Facts) -> tuple[tuple[int, ...], str]:
    """Mirror left-right, unless labels come in left/right pairs; 2D images in every direction.

    Bodies look alike on both sides, but not upside down or back to front. Classes that lie in front
    of or above each other can hardly be told apart when half of the samples are turned round
    (docs/measurements.md).
    """
    if facts.is_2d:
        return (0, 1, 2), "2D images have no side that is always up"
    pair = find_left_right_pair(facts.fingerprint.label_scheme.class_names)
    if pair:
        return (), f"{pair[0]!r} and {pair[1]!r} are told apart by their side: X is not mirrored"
    return (2,), "bodies are alike on both sides only, and no labels come in left/right pairs"


def find_left_right_pair(names: tuple[str, ...]) -> tuple[str, str] | None:
    """Find two class names that differ only in left/right.

    A short form such as `L` counts where it is a word by itself.

    Args:
        names: The names of the classes.

    Returns:
        The two names, or None.
    """
    spelled: dict[tuple[str, ...], str] = {}
    for name in names:
        words = tuple(word.lower() for word in _WORD.findall(name))
        spelled[words] = name
    for words, name in spelled.items():
        for left, right in _SIDES:
            other = tuple(_other_side(word, left, right) for word in words)
            if other != words and other in spelled:
                return name, spelled[other]
    return None


def _other_side(word: str, left: str, right: str) -> str:
    return word.replace(left, right) if len(left) > 2 or word == left else word
