"""Pairing of images and masks by the names of files and folders."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

from samnet.dataset.pairing.candidates import Candidate, CaseFiles, Pairing, listed
from samnet.dataset.pairing.role_words import without_role_words

_Key = Callable[[Candidate], str]
_Remaining = tuple[list[Candidate], list[Candidate]]


def match_names(
    images: Sequence[Candidate], masks: Sequence[Candidate], pairing: Pairing
) -> list[Candidate]:
    """Add the pairs of equal names.

    First equal names are matched, then names that are equal without words such as `mask`, at last
    a mask that is named as the folder of an image (`p1/ct` and `p1/segmentation`).

    Args:
        images: The images.
        masks: The masks.
        pairing: What pairs and faults are added to.

    Returns:
        The images and the masks without a partner.
    """
    remaining = _match(images, masks, _own_name, _own_name, pairing)
    remaining = _match(*remaining, _name_without_roles, _name_without_roles, pairing)
    remaining = _match(*remaining, _folder_without_roles, _name_without_roles, pairing)
    return [*remaining[0], *remaining[1]]


def _own_name(entry: Candidate) -> str:
    return entry.name


def _name_without_roles(entry: Candidate) -> str:
    return without_role_words(entry.name)


def _folder_without_roles(entry: Candidate) -> str:
    # An image that lies in no folder keeps a key that no other one has.
    return without_role_words(entry.folder) or str(entry.file)


def _match(
    images: Sequence[Candidate],
    masks: Sequence[Candidate],
    image_key: _Key,
    mask_key: _Key,
    pairing: Pairing,
) -> _Remaining:
    """Add the pairs with equal keys; return the images and the masks that have no partner yet."""
    by_key: dict[str, _Remaining] = defaultdict(lambda: ([], []))
    for image in images:
        by_key[image_key(image)][0].append(image)
    for mask in masks:
        by_key[mask_key(mask)][1].append(mask)
    remaining: _Remaining = ([], [])
    for own_images, own_masks in by_key.values():
        if len(own_images) == len(own_masks) == 1 and own_images[0].name not in pairing.cases:
            pairing.add(own_images[0], own_masks[0])
        elif own_images and own_masks:
            pairing.faults.extend(_ambiguous(own_images, own_masks))
        else:
            remaining[0].extend(own_images)
            remaining[1].extend(own_masks)
    return remaining


def _ambiguous(images: list[Candidate], masks: list[Candidate]) -> list[str]:
    """Name each of several files of which it is not clear which belong together."""
    entries = [*images, *masks]
    faults = []
    for entry in entries:
        others = listed([other for other in entries if other is not entry])
        faults.append(
            f"{entry.file}: has no partner of its own: {len(images)} image(s) and {len(masks)} "
            "mask(s) have this name or folder, apart from endings and words such as mask (the "
            f"others: {others}); rename or remove files until there is one of each, or say with "
            "--channel-suffixes or --class-suffixes what tells channels or classes"
        )
    return faults


def equal_names(cases: Mapping[str, CaseFiles]) -> list[str]:
    """Name cases that differ in upper and lower case only: some systems have one file of both.

    Args:
        cases: Case name -> its files.
    """
    by_name: dict[str, list[str]] = defaultdict(list)
    for name in cases:
        by_name[name.casefold()].append(name)
    faults = []
    for names in by_name.values():
        if len(names) > 1:
            files = ", ".join(str(cases[name].images[0]) for name in names)
            faults.append(
                f"{files}: the names differ in upper and lower case only, so one would replace the "
                "other on some systems; rename all but one"
            )
    return faults
