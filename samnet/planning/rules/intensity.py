"""How intensities become numbers from 0 to 1.

Every rule takes the `Facts` and returns the value and the reason.
"""

from __future__ import annotations

import math

from samnet.fingerprint.records import PERCENTILES
from samnet.plan.configuration import IntensityWindow
from samnet.planning.rules.facts import CT_NAMES, Facts

LOW, HIGH = PERCENTILES[0], PERCENTILES[-1]
LEAST_BLANK = 0.01
MOST_LABELLED = 0.01


def intensity(facts: Facts) -> tuple[tuple[IntensityWindow, ...], str]:
    """Choose one window for each channel.

    CT gets the data set's foreground percentiles in HU, colour images their full range, all others
    percentiles of each image.
    """
    windows, reasons = [], []
    for index, name in enumerate(facts.fingerprint.channel_names):
        window, reason = _channel_window(facts, index, name)
        windows.append(window)
        reasons.append(f"{name}: {reason}")
    return tuple(windows), "; ".join(dict.fromkeys(reasons))


def _channel_window(facts: Facts, index: int, name: str) -> tuple[IntensityWindow, str]:
    if facts.is_2d and facts.num_channels == 3:
        upper = _colour_maximum(facts, index)
        return IntensityWindow("fixed", 0.0, upper), f"colour, 0 to {upper:.0f}"
    minimum, maximum = facts.intensity_range(index)
    percentiles = facts.fingerprint.foreground[index]
    low, high = float(f"{percentiles[0]:.6g}"), float(f"{percentiles[-1]:.6g}")
    if facts.is_ct(index) and high > low:
        is_named = name.strip().lower() in CT_NAMES
        why = "named CT" if is_named else f"values from {minimum:.0f} to {maximum:.0f} look like HU"
        return (
            IntensityWindow("fixed", low, high),
            f"{why}; {LOW} and {HIGH} percentiles of the foreground are {low:g} and {high:g} HU",
        )
    return (
        IntensityWindow("percentiles", LOW, HIGH),
        f"no fixed scale; {LOW} and {HIGH} percentiles of each image's non-zero voxels",
    )


def _colour_maximum(facts: Facts, index: int) -> float:
    """Return the highest value that the file format of colour images allows."""
    maximum = facts.intensity_range(index)[1]
    cases = facts.fingerprint.cases.values()
    only_whole_numbers = all(case.channels[index].whole_numbers for case in cases)
    if maximum <= 1 and not only_whole_numbers:
        return 1.0
    # Cameras of 10 to 14 bits fill only part of a 16-bit file.
    return max(255.0, 2.0 ** math.ceil(math.log2(maximum + 1)) - 1)


def pixel_statistics(facts: Facts) -> tuple[str, str]:
    """Take SAM's mean and standard deviation."""
    return "sam", "the mean and standard deviation SAM's encoder was trained with"


def background_outside(facts: Facts) -> tuple[bool, str]:
    """Predict background outside the field of view, if no structure can be there.

    No label of a training case lies there. No structure is black by itself either: it would reach
    the border in another crop. Up to `MOST_LABELLED` of a structure may be black, as at the edge of
    a coarse label. At least `LEAST_BLANK` of the voxels are blank; otherwise nothing is gained.
    """
    cases = facts.fingerprint.cases
    measured = {name: case.blank for name, case in cases.items() if case.blank is not None}
    if len(measured) < len(cases):
        return False, "an older fingerprint does not tell whether labels lie there"
    if not any(any(case.labelled_slices) for case in cases.values()):
        return False, "nothing is labelled"
    outside = {name: blank.outside for name, blank in measured.items() if blank.outside}
    if outside:
        name = max(outside, key=lambda key: outside[key])
        return False, (
            f"labels of {len(outside)} of {len(cases)} cases lie there: {outside[name]} voxels of "
            f"{name}"
        )
    darkest = max(measured, key=lambda name: measured[name].labelled)
    labelled = measured[darkest].labelled
    if labelled > MOST_LABELLED:
        return False, (
            f"structures may be as black as what is outside: {labelled:.1%} of a structure in "
            f"{darkest}"
        )
    share = sum(blank.share for blank in measured.values()) / len(measured)
    if share < LEAST_BLANK:
        return False, f"{share:.2%} of the voxels have the lowest intensity: nothing is gained"
    return True, (
        f"{share:.1%} of the voxels have the lowest intensity of their image; no label of "
        f"{len(cases)} cases lies outside, and at most {labelled:.1%} of a structure is as black"
    )
