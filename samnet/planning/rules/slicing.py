"""Which slices the network sees, and how their pixels are laid out."""

from __future__ import annotations

import re

import numpy as np

from samnet.planning.rules.facts import AXIS_NAMES, Facts

ANISOTROPIC = 1.5
NEIGHBOURS_WITHIN = 3.0
VIEWS_WITHIN = 4.0
SMALL_PART = 1 / 8
_SIDES = (("left", "right"), ("l", "r"), ("lt", "rt"), ("lh", "rh"))
# A number belongs to the word before it: the vertebra L1 is no left one. KidneyL and LKidney are two words each.
_WORD = re.compile(r"[A-Z]?[a-z]+\d*|[A-Z]+(?![a-z])\d*|[^\W_A-Za-z]+")


def slicing_axis(facts: Facts) -> tuple[int, str]:
    """Across the coarsest spacing if it is over `ANISOTROPIC` times the finest, else across the shortest axis.

    Slices of full resolution are what SAM's encoder can use; the shortest axis leaves the largest slices.
    """
    if facts.is_2d_image:
        return 0, "the data are 2D pictures"
    if facts.flat_axis is not None:
        return facts.flat_axis, f"every case is a single slice across {AXIS_NAMES[facts.flat_axis]}"
    spacing = np.array(facts.fingerprint.median_spacing)
    shown = " x ".join(f"{value:.2f}" for value in spacing)
    ratio = spacing.max() / spacing.min()
    if ratio > ANISOTROPIC:
        axis = int(spacing.argmax())
        return (
            axis,
            f"median spacing {shown} mm (Z, Y, X): {AXIS_NAMES[axis]} is {ratio:.1f} times coarser than the finest",
        )
    lengths = np.median(
        [np.array(case.cropped_shape) * case.spacing for case in facts.fingerprint.cases.values()],
        axis=0,
    )
    axis = int(lengths.argmin())
    return axis, (
        f"median spacing {shown} mm (Z, Y, X) is nearly isotropic; {AXIS_NAMES[axis]} is the shortest axis "
        f"({lengths[axis]:.0f} mm), slices across it are the largest"
    )


def views(facts: Facts) -> tuple[tuple[int, ...], str]:
    """The axes whose slices one network sees and whose probabilities are averaged on the volume.

    All three where what is labelled takes up less than `SMALL_PART` of the volume, half of it along each axis: in a
    slice across one axis much looks like it that does not across the others. Where it fills the image, its place tells
    most, and one network need not learn it three times. Measured on one data set of each kind (docs/planning.md).
    """
    axis = facts.values["slicing_axis"]
    if facts.is_2d_image or facts.flat_axis == axis:
        return (axis,), "single slices have one view"
    spacing = np.array(facts.fingerprint.median_spacing)
    ratio = spacing.max() / spacing.min()
    if ratio > VIEWS_WITHIN:
        return (
            (axis,),
            f"spacing differs {ratio:.1f} fold between the axes: slices across the others would be squeezed",
        )
    if facts.fingerprint.ignore_label is not None:
        return (axis,), "cases with an ignore label may be annotated on slices across one axis only"
    part = facts.fingerprint.labelled_part
    if part is None:
        return (axis,), "nothing is labelled"
    found = f"what is labelled extends over {part:.0%} of the volume"
    if part < SMALL_PART:
        return (0, 1, 2), f"{found}: what looks like it from one side does not from all"
    return (axis,), f"{found}: its place tells most, and that one view shows"


def in_plane_spacing(facts: Facts) -> tuple[float, str]:
    """The median of both in-plane axes over all cases, made isotropic."""
    if facts.is_2d_image:
        return 1.0, "pictures are taken pixel by pixel"
    axis = facts.values["slicing_axis"]
    spacing = [np.delete(np.array(case.spacing), axis) for case in facts.fingerprint.cases.values()]
    value = round(float(np.median(spacing)), 4)
    return value, f"median in-plane spacing of {len(spacing)} cases"


def channel_layout(facts: Facts) -> tuple[str, str]:
    """How the channels become the three that SAM's encoder takes."""
    count = len(facts.fingerprint.channel_names)
    if count == 2:
        return "pair_mean", "two channels: both and their mean"
    if count == 3:
        return "as_is", "three channels are what the encoder takes"
    if count > 3:
        return (
            "stem",
            f"{count} channels: a learned 1 x 1 convolution to three that starts as their mean",
        )
    axis = facts.values["slicing_axis"]
    if facts.flat_axis == axis:
        return "repeat", "one channel, single slices: repeated three times"
    through, plane = facts.fingerprint.median_spacing[axis], facts.values["in_plane_spacing"]
    if through < NEIGHBOURS_WITHIN * plane:
        return (
            "neighbours",
            f"slices are {through:.2f} mm apart, under {NEIGHBOURS_WITHIN:.0f} x {plane:.2f} mm in plane",
        )
    return (
        "repeat",
        f"slices are {through:.2f} mm apart, {through / plane:.1f} times the in-plane spacing: too far to help",
    )


def mirror_axes(facts: Facts) -> tuple[tuple[int, ...], str]:
    """Left-right, where no labels come in left/right pairs; pictures every way.

    Bodies are alike on both sides, and not upside down or back to front: classes that lie in front of each other, or
    above, can hardly be told apart when half of the samples are turned round. The measurement is in docs/planning.md.
    """
    if facts.is_2d_image:
        return (0, 1, 2), "pictures have no side that is always up"
    pair = find_left_right_pair(facts.fingerprint.class_names)
    if pair:
        return (), f"{pair[0]!r} and {pair[1]!r} are told apart by their side: X is not mirrored"
    return (2,), "bodies are alike on both sides only, and no labels come in left/right pairs"


def find_left_right_pair(names: tuple[str, ...]) -> tuple[str, str] | None:
    """Two class names that differ only in left/right, or in a short form of it that is a word of its own."""
    spelled = {tuple(word.lower() for word in _WORD.findall(name)): name for name in names}
    for words, name in spelled.items():
        for left, right in _SIDES:
            other = tuple(_other_side(word, left, right) for word in words)
            if other != words and other in spelled:
                return name, spelled[other]
    return None


def _other_side(word: str, left: str, right: str) -> str:
    return word.replace(left, right) if len(left) > 2 or word == left else word
