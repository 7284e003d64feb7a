"""Finding the image files and the masks of each case, by the names of files and folders."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from samnet.core.errors import UserError
from samnet.dataset.mask_rules import MaskRules
from samnet.dataset.pairing.bids import is_bids_mask, is_bids_name, is_bids_tree, match_bids
from samnet.dataset.pairing.candidates import Candidate, Pairing
from samnet.dataset.pairing.found_files import FoundFile, find_files
from samnet.dataset.pairing.hints import suggest_options
from samnet.dataset.pairing.name_matching import equal_names, match_names
from samnet.dataset.pairing.part_files import PartFiles, group_parts, part_name
from samnet.dataset.pairing.role_words import is_mask_folder, without_role_words

_CHANNEL_NUMBER = re.compile(r"(.+)_(\d{4})")
_MOST_CHANNELS = 16  # more files of a name are rather the frames of a film
_MOST_LISTED = 20
_SHOWN_KINDS = 5


def pair_files(images: Path, masks: Path, rules: MaskRules | None = None) -> Pairing:
    """Find the image files and the masks of each case.

    Args:
        images: Folder of the images.
        masks: Folder of the masks. It may be that of the images where the rules tell them apart.
        rules: How masks and channels are named. None for the defaults.

    Returns:
        The pairs, and what belongs to none.

    Raises:
        UserError: A folder is missing, or holds no image, or a channel or class has no file.
    """
    rules = rules or MaskRules()
    pairing = Pairing(allows_missing_masks=rules.allow_missing_masks)
    is_recursive = rules.recursive or any(map(is_bids_tree, (images, masks)))
    is_recursive |= bool(rules.class_suffixes or rules.channel_suffixes)
    found_images = find_files(images, masks, is_recursive, pairing)
    if images.resolve() == masks.resolve():
        found_images, found_masks = _tell_apart(found_images, rules, images)
    else:
        found_masks = find_files(masks, images, is_recursive, pairing)
    mask_candidates = _mask_candidates(found_masks, masks, rules, pairing)
    image_candidates = _image_candidates(
        found_images, images, rules.channel_suffixes, mask_candidates, pairing
    )
    remaining = _match_all(image_candidates, mask_candidates, pairing)
    for candidate in remaining:
        pairing.unmatched.extend(candidate.present)
    known_images = set(image_candidates)
    pairing.suggestions.extend(
        suggest_options(
            [candidate for candidate in remaining if candidate in known_images],
            [candidate for candidate in remaining if candidate not in known_images],
        )
    )
    pairing.faults.extend(equal_names(pairing.cases))
    ordered = sorted(pairing.cases.items())
    pairing.cases.clear()
    pairing.cases.update(ordered)
    return pairing


def _tell_apart(
    found: list[FoundFile], rules: MaskRules, folder: Path
) -> tuple[list[FoundFile], list[FoundFile]]:
    """Sort the files of one folder into images and masks."""
    if rules.suffix is not None:
        found_masks = [entry for entry in found if _has_suffix(entry, rules.suffix)]
    elif rules.class_suffixes:
        without_class = set(group_parts(found, rules.class_suffixes).others)
        found_masks = [
            entry for entry in found if entry not in without_class or _is_in_mask_folder(entry)
        ]
    elif is_bids_tree(folder):
        found_masks = [entry for entry in found if is_bids_mask(entry.stem)]
    else:
        raise UserError(
            f"{folder}: is the folder of the images and of the masks; say with --mask-suffix how "
            "the names of the masks end, such as _mask, or with --class-suffixes where each class "
            "has a mask of its own"
        )
    known_masks = set(found_masks)
    return [entry for entry in found if entry not in known_masks], found_masks


def _is_in_mask_folder(entry: FoundFile) -> bool:
    return any(map(is_mask_folder, entry.folders))


def _has_suffix(entry: FoundFile, suffix: str) -> bool:
    return entry.name.endswith(suffix) and len(entry.name) > len(suffix)


def _mask_candidates(
    found: list[FoundFile], top: Path, rules: MaskRules, pairing: Pairing
) -> list[Candidate]:
    """Return the masks by their names, without what tells that they are masks."""
    if rules.class_suffixes:
        grouped = group_parts(found, rules.class_suffixes)
        _require_all(grouped, "--class-suffixes", top)
        pairing.notes.append(f"each class has its own mask, told by {grouped.form}")
        pairing.faults.extend(grouped.faults)
        pairing.left_out.extend(_of_no_part(grouped.others, "mask of no class that is named"))
        return grouped.candidates
    if rules.suffix is None:
        return [entry.as_candidate() for entry in found]
    candidates = []
    for entry in found:
        candidate = entry.as_candidate()
        if _has_suffix(entry, rules.suffix):
            name = candidate.name[: -len(rules.suffix)]
            candidates.append(Candidate(name, candidate.files, candidate.folder))
        else:
            pairing.unmatched.append(entry.file)
    return candidates


def _image_candidates(
    found: list[FoundFile],
    top: Path,
    suffixes: Sequence[str],
    masks: list[Candidate],
    pairing: Pairing,
) -> list[Candidate]:
    """Return the images by their names, without what tells their channels."""
    if not suffixes:
        suffixes = _numbers_of_channels(found, masks)
        if suffixes:
            pairing.notes.append(f"channels by their numbers: {' '.join(suffixes)}")
    if not suffixes:
        return [entry.as_candidate() for entry in found]
    grouped = group_parts(found, suffixes)
    _require_all(grouped, "--channel-suffixes", top)
    pairing.notes.append(f"each channel has its own file, told by {grouped.form}")
    pairing.faults.extend(grouped.faults)
    pairing.left_out.extend(_of_no_part(grouped.others, "of no channel that is named"))
    return grouped.candidates


def _numbers_of_channels(found: list[FoundFile], masks: list[Candidate]) -> tuple[str, ...]:
    """Return nnU-Net's channel numbers, if the masks are named as the images without them."""
    matches = [_CHANNEL_NUMBER.fullmatch(entry.name) for entry in found]
    numbered = [match for match in matches if match is not None]
    numbers = sorted({int(match[2]) for match in numbered})
    if len(numbered) < len(found) or numbers != list(range(len(numbers))):
        return ()
    own_names = {match[0] for match in numbered}
    names = {match[1] for match in numbered}
    mask_names = {mask.name for mask in masks}
    mask_names |= {without_role_words(name) for name in mask_names}
    if own_names & mask_names or not names & mask_names or len(numbers) > _MOST_CHANNELS:
        return ()
    return tuple(f"_{number:04d}" for number in numbers)


def _require_all(grouped: PartFiles, option: str, top: Path) -> None:
    if grouped.absent:
        raise UserError(
            f"{option} {' '.join(grouped.absent)}: {top} has no file whose name, or folder, is or "
            f"ends in {' or '.join(map(part_name, grouped.absent))}; check upper and lower case"
        )


def _of_no_part(others: list[FoundFile], reason: str) -> list[str]:
    """Name the files that hold none of the parts, in short where there are many."""
    if len(others) <= _MOST_LISTED:
        return [f"{entry.file}: {reason}" for entry in others]
    kinds = Counter(re.split(r"[\W_]+", entry.stem)[-1] for entry in others)
    shown = ", ".join(f"{count} of {kind}" for kind, count in kinds.most_common(_SHOWN_KINDS))
    more = " and others" if len(kinds) > _SHOWN_KINDS else ""
    return [f"{others[0].file} and {len(others) - 1} more files: {reason} ({shown}{more})"]


def _match_all(
    images: list[Candidate], masks: list[Candidate], pairing: Pairing
) -> list[Candidate]:
    """Add all pairs, those of BIDS by their entities; return what has no partner."""
    image_parts, mask_parts = _split(images), _split(masks)
    if not image_parts[0] or not mask_parts[0]:
        return match_names(images, masks, pairing)
    pairing.notes.append("names of BIDS: paired by subject, session, run and other entities")
    unmatched = match_bids(image_parts[0], mask_parts[0], pairing)
    return [*unmatched, *match_names(image_parts[1], mask_parts[1], pairing)]


def _split(candidates: list[Candidate]) -> tuple[list[Candidate], list[Candidate]]:
    """Sort candidates into those with names of BIDS and others."""
    with_names = [entry for entry in candidates if is_bids_name(entry.name)]
    return with_names, [entry for entry in candidates if not is_bids_name(entry.name)]
