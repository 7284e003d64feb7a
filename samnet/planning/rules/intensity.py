"""How intensities become numbers from 0 to 1."""

from __future__ import annotations

import math

from samnet.fingerprint.records import PERCENTILES
from samnet.plan.configuration import IntensityWindow
from samnet.planning.rules.facts import CT_NAMES, Facts

LOW, HIGH = PERCENTILES[0], PERCENTILES[-1]


def intensity(facts: Facts) -> tuple[tuple[IntensityWindow, ...], str]:
    """CT: the data set's foreground percentiles in HU; colours: their full range; all else: percentiles per image."""
    windows, reasons = [], []
    for index, name in enumerate(facts.fingerprint.channel_names):
        window, reason = _channel_window(facts, index, name)
        windows.append(window)
        reasons.append(f"{name}: {reason}")
    return tuple(windows), "; ".join(dict.fromkeys(reasons))


def _channel_window(facts: Facts, index: int, name: str) -> tuple[IntensityWindow, str]:
    minimum, maximum = facts.intensity_range(index)
    is_colour = facts.is_2d_image and len(facts.fingerprint.channel_names) == 3
    if is_colour:
        channels = [case.channels[index] for case in facts.fingerprint.cases.values()]
        is_share = maximum <= 1 and not all(channel.whole_numbers for channel in channels)
        # Cameras of 10 to 14 bits fill only part of a 16-bit file.
        upper = 1.0 if is_share else max(255.0, 2.0 ** math.ceil(math.log2(maximum + 1)) - 1)
        return IntensityWindow("fixed", 0.0, upper), f"colour, 0 to {upper:.0f}"
    low, high = (float(f"{facts.fingerprint.foreground[index][place]:.6g}") for place in (0, -1))
    if facts.is_ct(index) and high > low:
        named = name.strip().lower() in CT_NAMES
        why = "named CT" if named else f"values from {minimum:.0f} to {maximum:.0f} look like HU"
        window = IntensityWindow("fixed", low, high)
        return (
            window,
            f"{why}; {LOW} and {HIGH} percentiles of the foreground are {low:g} and {high:g} HU",
        )
    return (
        IntensityWindow("percentiles", LOW, HIGH),
        f"no fixed scale; {LOW} and {HIGH} percentiles of each image's non-zero voxels",
    )


def pixel_statistics(facts: Facts) -> tuple[str, str]:
    return "sam", "the mean and standard deviation SAM's encoder was trained with"
