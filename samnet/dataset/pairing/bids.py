"""Names in the Brain Imaging Data Structure (BIDS), and the masks of its images.

A name is a list of entities and a suffix: `sub-01_ses-2_run-1_T1w`. Masks have further entities and
lie in a tree of their own: `derivatives/labels/sub-01/anat/sub-01_space-T1w_desc-lesion_mask`. The
names are those of bids-specification.readthedocs.io.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from samnet.dataset.pairing.candidates import Candidate, Pairing, listed

# Finds the patient in the name of a case.
PATIENT_KEY = "^(sub-[^_]+)"
_SUBJECT = re.compile(r"^sub-[^\W_]+$")
_SESSION = re.compile(r"^ses-[^\W_]+$")
_MASK_SUFFIXES = ("_mask", "_dseg", "_roi", "_seg")
# What only derived files state. It does not tell which image they are derived from.
_DERIVED = ("space", "label", "desc", "res", "den", "hemi", "atlas", "seg", "roi", "rater")


def is_bids_tree(folder: Path) -> bool:
    """Tell whether a folder directly contains folders of subjects, such as `sub-01`.

    Args:
        folder: The folder.
    """
    if not folder.is_dir():
        return False
    return any(_SUBJECT.match(entry.name) and entry.is_dir() for entry in folder.iterdir())


def is_bids_name(name: str) -> bool:
    """Tell whether the name of a file or case begins with a subject.

    Args:
        name: The name without its ending.
    """
    return bool(_SUBJECT.match(name.split("_")[0]))


def bids_name(folders: Sequence[str], stem: str) -> str | None:
    """Return the name of a file of a subject, with the subject and session of its folders.

    Args:
        folders: Names of the folders that lead to the file.
        stem: Name of the file without its ending.

    Returns:
        Such as `sub-01_ses-2_T1w`, or None where neither folders nor name tell the subject.
    """
    parts = stem.split("_") if stem else []
    own = [part for part in parts if _SUBJECT.match(part) or _SESSION.match(part)]
    missing = []
    for pattern in (_SUBJECT, _SESSION):
        in_folders = [folder for folder in folders if pattern.match(folder)]
        in_name = [part for part in own if pattern.match(part)]
        missing += (in_name or in_folders)[-1:]
    if not missing or not _SUBJECT.match(missing[0]):
        return None
    return "_".join((*missing, *(part for part in parts if part not in own)))


def differing_subject(folders: Sequence[str], stem: str) -> str | None:
    """Return the folder of a subject or session that a file lies in and its name contradicts.

    Args:
        folders: Names of the folders that lead to the file.
        stem: Name of the file without its ending.
    """
    for pattern in (_SUBJECT, _SESSION):
        in_folders = [folder for folder in folders if pattern.match(folder)]
        in_name = [part for part in stem.split("_") if pattern.match(part)]
        if in_name and in_folders and in_folders[-1] != in_name[0]:
            return in_folders[-1]
    return None


def is_bids_mask(stem: str) -> bool:
    """Tell whether a file is a mask by the suffix of its name, such as `_dseg`.

    Args:
        stem: Name of the file without its ending.
    """
    return stem.endswith(_MASK_SUFFIXES)


@dataclass(frozen=True)
class _Entities:
    """The parts of a name.

    Attributes:
        own: Those that tell the image: subject, session, run, acquisition and others.
        space: The space that a file was resampled to, or None.
        words: The parts without a hyphen, such as `T1w` and `mask`.
    """

    own: dict[str, str]
    space: str | None
    words: tuple[str, ...]

    @classmethod
    def of(cls, name: str) -> _Entities:
        entities: dict[str, str] = {}
        words = []
        for part in name.split("_"):
            key, hyphen, value = part.partition("-")
            if hyphen and value:
                entities[key] = value
            else:
                words.append(key)
        space = entities.get("space")
        own = {key: value for key, value in entities.items() if key not in _DERIVED}
        return cls(own, space, tuple(words))

    def may_be_of(self, image: _Entities) -> bool:
        """Tell whether a mask may be that of an image: it states nothing that differs."""
        return all(image.own.get(key) == value for key, value in self.own.items())


def match_bids(
    images: Sequence[Candidate], masks: Sequence[Candidate], pairing: Pairing
) -> list[Candidate]:
    """Add the pairs of images and masks whose entities agree.

    A mask without an entity that images have, such as the run, belongs to the only image it may be
    of. A mask that names a kind of image (`T1w`, `space-T1w`) belongs to images of this kind.

    Args:
        images: The images, with names of BIDS.
        masks: The masks, with names of BIDS.
        pairing: What pairs and faults are added to.

    Returns:
        The images and the masks without a partner.
    """
    by_subject: dict[str, list[Candidate]] = defaultdict(list)
    for image in images:
        by_subject[_Entities.of(image.name).own["sub"]].append(image)
    kinds = frozenset[str]().union(*(_kinds(image) for image in images))
    masks_of: dict[Candidate, list[Candidate]] = defaultdict(list)
    unmatched = []
    ambiguous: set[Candidate] = set()
    for mask in masks:
        subject = _Entities.of(mask.name).own["sub"]
        possible = _images_of(mask, by_subject[subject], kinds)
        if len(possible) == 1:
            masks_of[possible[0]].append(mask)
        elif possible:
            ambiguous.update(possible)
            pairing.faults.append(_several_images(mask, possible))
        else:
            unmatched.append(mask)
    for image, own_masks in masks_of.items():
        if len(own_masks) == 1 and image.name not in pairing.cases:
            pairing.add(image, own_masks[0])
        else:
            pairing.faults.append(_several_masks(image, own_masks))
    rest = [image for image in images if image not in masks_of and image not in ambiguous]
    return [*rest, *unmatched]


def _kinds(image: Candidate) -> frozenset[str]:
    """Return the kinds of an image that a mask may name, such as `T1w`."""
    if image.parts:
        return frozenset(part.split("_")[-1] for part in image.parts)
    return frozenset(_Entities.of(image.name).words[-1:])


def _images_of(
    mask: Candidate, images: Iterable[Candidate], kinds: frozenset[str]
) -> list[Candidate]:
    """Return the images of a subject that a mask may be of."""
    stated = _Entities.of(mask.name)
    named_kinds = kinds & {*stated.words, stated.space or ""}
    possible = []
    for image in images:
        is_of_kind = not named_kinds or bool(named_kinds & _kinds(image))
        if is_of_kind and stated.may_be_of(_Entities.of(image.name)):
            possible.append(image)
    exact = [image for image in possible if _Entities.of(image.name).own == stated.own]
    possible = exact or possible
    space = None if stated.space in kinds else stated.space
    in_space = [image for image in possible if _Entities.of(image.name).space == space]
    return in_space or possible


def _several_images(mask: Candidate, images: list[Candidate]) -> str:
    return (
        f"{mask.file}: may belong to {len(images)} images ({listed(images)}); take those of one "
        "kind with --channel-suffixes, such as _T1w, all as channels, such as _T1w _FLAIR, or "
        "name session and run in the name of the mask"
    )


def _several_masks(image: Candidate, masks: list[Candidate]) -> str:
    return (
        f"{image.file}: has {len(masks)} masks ({listed(masks)}) or is there twice; choose one "
        "with --mask-suffix, such as _label-lesion_mask, take each as a class with "
        "--class-suffixes, such as lesion oedema, or remove a file"
    )
