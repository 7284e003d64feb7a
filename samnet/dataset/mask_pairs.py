"""Finding the mask of each image, by the names of the files."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from samnet.core.errors import UserError
from samnet.dataset.cases.folder_walk import Contents, walk
from samnet.dataset.images import (
    companions_of,
    ending_of,
    name_without_ending,
    supported_endings,
)

_ROLE_WORDS = r"images?|imgs?|masks?|segs?|segmentations?|labels?|gt|ground[\W_]?truth|annotations?"
_ROLES = re.compile(rf"(?:^|(?<=[\W_]))(?:{_ROLE_WORDS})(?=[\W_]|$)", re.IGNORECASE)
_EDGES = re.compile(r"^[\W_]+|[\W_]+$")
_SHOWN_FILES = 4


@dataclass(frozen=True)
class Pairing:
    """Images and their masks.

    Attributes:
        cases: Case name -> its image and its mask.
        unmatched: Images and masks without a partner.
        left_out: Texts on files that are neither image nor mask.
        faults: Texts on names that do not tell which file is meant, and on folders in the folders.
    """

    cases: dict[str, tuple[Path, Path]] = field(default_factory=dict)
    unmatched: list[Path] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Found:
    """A supported file, and its name as a case: with the folders that lead to it."""

    file: Path
    name: str


def pair_files(
    images: Path, masks: Path, *, mask_suffix: str | None = None, recursive: bool = False
) -> Pairing:
    """Find the mask of each image.

    Args:
        images: Folder of the images.
        masks: Folder of the masks. It may be that of the images where `mask_suffix` is given.
        mask_suffix: What the name of a mask has after the name of its image, before the ending.
            None for masks that are named as their image, apart from words such as `mask`.
        recursive: Whether to search the folders in both folders too.

    Returns:
        The pairs, and what belongs to none.

    Raises:
        UserError: A folder is missing, or holds no image.
    """
    pairing = Pairing()
    found_images = _find(images, masks, recursive, pairing)
    is_same = images.resolve() == masks.resolve()
    if is_same and mask_suffix is None:
        raise UserError(
            f"{images}: is the folder of the images and of the masks; say with --mask-suffix how "
            "the names of the masks end, such as _mask"
        )
    found_masks = found_images if is_same else _find(masks, images, recursive, pairing)
    if mask_suffix is None:
        # First equal names are matched, then names that are equal without words such as `mask`.
        remaining = _match(found_images, found_masks, _own_name, pairing)
        remaining = _match(*remaining, _name_without_roles, pairing)
    else:
        if is_same:
            found_images = [entry for entry in found_images if not _has(entry, mask_suffix)]
        with_suffix = [entry for entry in found_masks if _has(entry, mask_suffix)]
        others = [] if is_same else [entry for entry in found_masks if entry not in with_suffix]
        named = [_Found(mask.file, mask.name[: -len(mask_suffix)]) for mask in with_suffix]
        image_rest, mask_rest = _match(found_images, named, _own_name, pairing)
        remaining = image_rest, [*mask_rest, *others]
    pairing.unmatched.extend(entry.file for part in remaining for entry in part)
    pairing.faults.extend(_equal_names(pairing.cases))
    ordered = sorted(pairing.cases.items())
    pairing.cases.clear()
    pairing.cases.update(ordered)
    return pairing


def _find(top: Path, other: Path, recursive: bool, pairing: Pairing) -> list[_Found]:
    """Return the supported files of a folder; what else lies in it is named.

    The other folder may lie in it, as the label maps of BIDS do in `derivatives`.
    """
    if not top.is_dir():
        raise UserError(f"{top}: no such folder")
    found = []
    is_other_below = top.resolve() in other.resolve().parents
    for contents in walk(top):
        if is_other_below and _is_within(contents.folder, other):
            continue
        supported = [file for file in contents.files if ending_of(file)]
        is_below = contents.folder != top
        if is_below and not recursive:
            if supported:
                pairing.faults.append(
                    f"{contents.folder}: a folder with {len(supported)} images or masks; add "
                    "--recursive to take the folders in it too, or move it elsewhere"
                )
            continue
        pairing.left_out.extend(_others(contents, supported))
        prefix = "_".join((*contents.folder.relative_to(top).parts, ""))
        found += [_Found(file, prefix + name_without_ending(file)) for file in supported]
    if not found and not pairing.faults:
        raise UserError(f"{top}: no image in it; supported are {', '.join(supported_endings())}")
    return found


def _is_within(folder: Path, top: Path) -> bool:
    return top.resolve() in (folder.resolve(), *folder.resolve().parents)


def _others(contents: Contents, supported: list[Path]) -> list[str]:
    companions: set[Path] = set()
    for file in supported:
        companions |= set(companions_of(file))
    others = [file for file in contents.files if file not in {*supported, *companions}]
    unreadable = [f"{entry.path}: {entry.reason}" for entry in contents.left_out]
    return [*unreadable, *(f"{file}: is no image of a supported format" for file in others)]


def _own_name(entry: _Found) -> str:
    return entry.name


def _name_without_roles(entry: _Found) -> str:
    """Return a file's name without the words that say whether it is an image or a mask."""
    name = _ROLES.sub("", entry.name)
    return re.sub(r"[\W_]+", "_", _EDGES.sub("", name))


def _has(entry: _Found, suffix: str) -> bool:
    return entry.name.endswith(suffix) and len(entry.name) > len(suffix)


def _match(
    images: Sequence[_Found],
    masks: Sequence[_Found],
    key: Callable[[_Found], str],
    pairing: Pairing,
) -> tuple[list[_Found], list[_Found]]:
    """Add the pairs with equal keys; return the images and the masks that have no partner yet."""
    by_key: dict[str, tuple[list[_Found], list[_Found]]] = defaultdict(lambda: ([], []))
    for part, entries in enumerate((images, masks)):
        for entry in entries:
            by_key[key(entry)][part].append(entry)
    remaining: tuple[list[_Found], list[_Found]] = ([], [])
    for own_images, own_masks in by_key.values():
        if len(own_images) == len(own_masks) == 1 and own_images[0].name not in pairing.cases:
            pairing.cases[own_images[0].name] = own_images[0].file, own_masks[0].file
        elif own_images and own_masks:
            pairing.faults.extend(_ambiguous(own_images, own_masks))
        else:
            remaining[0].extend(own_images)
            remaining[1].extend(own_masks)
    return remaining


def _ambiguous(images: list[_Found], masks: list[_Found]) -> list[str]:
    """Name each of several files of which it is not clear which belong together."""
    entries = [*images, *masks]
    faults = []
    for entry in entries:
        others = _listed([other for other in entries if other is not entry])
        faults.append(
            f"{entry.file}: has no partner of its own: {len(images)} image(s) and {len(masks)} "
            "mask(s) have this name, apart from endings and words such as mask (the others: "
            f"{others}); rename or remove files until there is one of each"
        )
    return faults


def _listed(entries: list[_Found]) -> str:
    shown = ", ".join(str(entry.file) for entry in entries[:_SHOWN_FILES])
    rest = len(entries) - _SHOWN_FILES
    return shown + (f" and {rest} more" if rest > 0 else "")


def _equal_names(cases: dict[str, tuple[Path, Path]]) -> list[str]:
    """Name cases that differ in upper and lower case only: some systems have one file of both."""
    by_name: dict[str, list[str]] = defaultdict(list)
    for name in cases:
        by_name[name.casefold()].append(name)
    faults = []
    for names in by_name.values():
        if len(names) > 1:
            files = ", ".join(str(cases[name][0]) for name in names)
            faults.append(
                f"{files}: the names differ in upper and lower case only, so one would replace the "
                "other on some systems; rename all but one"
            )
    return faults
