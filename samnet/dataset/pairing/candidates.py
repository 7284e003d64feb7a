"""What images and masks are paired from, and the pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

_SHOWN_FILES = 4


@dataclass(frozen=True)
class CaseFiles:
    """The files of a case.

    Attributes:
        images: Image files in channel order.
        masks: The mask; or one for each class, in the order of the classes, None where absent.
    """

    images: tuple[Path, ...]
    masks: tuple[Path | None, ...]

    @property
    def mask_files(self) -> list[Path]:
        """The masks that are there."""
        return [mask for mask in self.masks if mask is not None]


@dataclass(frozen=True)
class Candidate:
    """An image, or a mask, that has no partner yet. It may consist of several files.

    Attributes:
        name: Its name: the folders that lead to it and its name without the ending.
        files: Its files, one for each of its parts; None where one is missing.
        folder: Names of the folders that lead to it, joined.
        parts: Names of its parts, which are channels or classes; empty for a single file.
    """

    name: str
    files: tuple[Path | None, ...]
    folder: str = ""
    parts: tuple[str, ...] = ()

    @property
    def file(self) -> Path:
        """The first file that is there."""
        return next(file for file in self.files if file is not None)

    @property
    def present(self) -> list[Path]:
        """All files that are there."""
        return [file for file in self.files if file is not None]

    @property
    def missing(self) -> list[str]:
        """Names of the parts without a file."""
        pairs = zip(self.parts, self.files, strict=False)
        return [part for part, file in pairs if file is None]


@dataclass(frozen=True)
class Pairing:
    """Images and their masks.

    Attributes:
        cases: Case name -> its files.
        unmatched: Images and masks without a partner.
        incomplete: Texts on cases that lack a channel or the mask of a class.
        left_out: Texts on files that are neither image nor mask.
        notes: Texts on what was found in the names, and what is taken as empty.
        faults: Texts on names that do not tell which file is meant, and on folders in the folders.
        suggestions: Options that would pair files whose names only begin alike.
        allows_missing_masks: Whether a class without a mask in a case is taken as empty.
    """

    cases: dict[str, CaseFiles] = field(default_factory=dict)
    unmatched: list[Path] = field(default_factory=list)
    incomplete: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    suggestions: list[str] = field(default_factory=list)
    allows_missing_masks: bool = False

    def add(self, image: Candidate, mask: Candidate) -> None:
        """Add a case, unless it lacks a channel or the mask of a class: then it is named.

        Args:
            image: The image.
            mask: Its mask.
        """
        if image.missing:
            self.incomplete.append(
                f"{image.file}: the case {image.name} has no file of the channel "
                f"{', '.join(image.missing)}; add it, or leave out such cases with --skip-unmatched"
            )
        elif mask.missing and not self.allows_missing_masks:
            self.incomplete.append(
                f"{mask.file}: the case {image.name} has no mask of {', '.join(mask.missing)}; add "
                "it, take what is missing as empty with --allow-missing-masks, or leave out such "
                "cases with --skip-unmatched"
            )
        else:
            self.cases[image.name] = CaseFiles(tuple(image.present), mask.files)
            self.notes.extend(
                f"{image.name}: no mask of {name}, taken as empty" for name in mask.missing
            )


def listed(candidates: Sequence[Candidate]) -> str:
    """Return the files of images or masks, for a message.

    Args:
        candidates: The images or masks.

    Returns:
        The first ones, and the number of the others.
    """
    shown = ", ".join(str(candidate.file) for candidate in candidates[:_SHOWN_FILES])
    rest = len(candidates) - _SHOWN_FILES
    return shown + (f" and {rest} more" if rest > 0 else "")
