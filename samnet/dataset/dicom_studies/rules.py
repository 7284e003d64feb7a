"""What a user decides on the conversion of DICOM studies."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from samnet.core.errors import UserError


@dataclass(frozen=True)
class Channel:
    """A channel, and how its series is recognised.

    Attributes:
        name: Its name in the data set.
        pattern: The modality, or a pattern of the series' description such as `*t1*`; case does not
            matter.
    """

    name: str
    pattern: str


@dataclass(frozen=True)
class StudyRules:
    """How studies are converted.

    Attributes:
        channels: The channels of multi-channel studies. Empty for the series that labels refer to.
        label_patterns: Patterns of the descriptions or file names of the label files that count;
            empty for all.
        threshold: The lowest share or probability of a fractional segmentation that counts.
        overlap: What is done where structures overlap: `first`, `last` or `regions`; None if they
            may not.
        resample: Whether channels are resampled to the grid of the labelled series.
        skip_faulty: Whether cases that cannot be converted are left out.
    """

    channels: tuple[Channel, ...] = ()
    label_patterns: tuple[str, ...] = ()
    threshold: float = 0.5
    overlap: str | None = None
    resample: bool = False
    skip_faulty: bool = False


@dataclass(frozen=True)
class TableFiles:
    """The tables next to a conversion, outside the data set.

    Attributes:
        structures: The table of names that the user edits; None to take the names as they are.
        patients: The table that says who the patients are; None for none.
    """

    structures: Path | None = None
    patients: Path | None = None


def matches_any(texts: Iterable[str], patterns: Iterable[str]) -> bool:
    """Tell whether any text fits any pattern; case does not matter.

    Args:
        texts: The texts.
        patterns: Patterns with `*` and `?`.
    """
    folded = [pattern.casefold() for pattern in patterns]
    return any(fnmatchcase(text.casefold(), pattern) for text in texts for pattern in folded)


def parse_channel(text: str) -> Channel:
    """Read a channel as it is written on the command line.

    Args:
        text: Such as `T1=*t1*`.

    Returns:
        The channel.

    Raises:
        UserError: There is no name or no pattern.
    """
    name, separator, pattern = text.partition("=")
    if not separator or not name.strip() or not pattern.strip():
        raise UserError(f"--channels {text}: write NAME=PATTERN, such as 'T1=*t1*' or PET=PT")
    return Channel(name.strip(), pattern.strip())
