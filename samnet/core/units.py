"""Units of length as file headers name them, and lengths for people to read."""

from __future__ import annotations

import math

# The Greek mu and the micro sign look alike; ImageJ and some programs for NRRD escape them.
_MICRO_SIGNS = ("\u00b5", "\u03bc", "\\u00b5", "\\u03bc", "&#181;")
_MILLIMETRES = {
    1e-7: ("\u00e5", "\u212b", "angstrom", "angstroms"),
    1e-9: ("pm", "picometer", "picometre"),
    1e-6: ("nm", "nanometer", "nanometre"),
    1e-3: ("um", "micron", "micrometer", "micrometre"),
    1.0: ("mm", "millimeter", "millimetre"),
    10.0: ("cm", "centimeter", "centimetre"),
    100.0: ("dm", "decimeter", "decimetre"),
    1000.0: ("m", "meter", "metre"),
    25.4: ("in", "inch", "inches", '"'),
}
_TINY = 0.1
_FACTORS = {name: factor for factor, names in _MILLIMETRES.items() for name in names}


def millimetres_per(unit: str) -> float | None:
    """Return the length of a unit.

    Args:
        unit: Its name or symbol, such as `mm`, `micron` or `meters`, in small or capital letters.

    Returns:
        Its length in mm, or None where the text names no known unit of length.
    """
    name = unit.strip().strip("\0").lower()
    for sign in _MICRO_SIGNS:
        name = name.replace(sign, "u")
    return _FACTORS.get(name) or _FACTORS.get(name.removesuffix("s"))


def round_length(length: float, decimals: int) -> float:
    """Round a length, to more decimals where it is small: pixels of a microscope are tiny in mm.

    Args:
        length: A length that is not negative.
        decimals: Number of decimals from a tenth on; of digits below.

    Returns:
        The rounded length, never 0 for one that is not.
    """
    if length == 0 or length >= _TINY:
        return round(length, decimals)
    leading_zeros = -1 - math.floor(math.log10(length))
    return round(length, leading_zeros + max(decimals, 1))


def show_length(length: float, decimals: int) -> str:
    """Return a length for people to read, with more decimals where it is small.

    Args:
        length: A length that is not negative.
        decimals: Number of decimals from a tenth on; of digits below.
    """
    rounded = round_length(length, decimals)
    return f"{rounded:.{decimals}f}" if length >= _TINY or length == 0 else f"{rounded:g}"
