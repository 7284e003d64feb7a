"""Names that come from the network. None of them becomes a path unless it is of a strict form."""

from __future__ import annotations

import re

from samnet.dataset.description import IGNORE
from samnet.dataset.images import supported_endings
from samnet.dataset.label_scheme import LabelScheme
from samnet.serving.errors import BadRequest

FINAL_TAG, ORIGINAL_TAG = "final", "original"
_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}")
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._-]+")
_LONGEST_NAME = 100


def file_name_of(identifier: str) -> str:
    """Return the name of a case that an identifier of a client stands for.

    Clients call images as people do (`3: Axial T1`). Such a name is turned into one that every
    file system takes, and is the same each time.

    Args:
        identifier: What the client calls the image, with or without the ending of an image file.

    Returns:
        Letters, digits, hyphens, underscores and dots, without a dot at the beginning.

    Raises:
        BadRequest: Nothing is left of it.
    """
    name = identifier[: 4 * _LONGEST_NAME]
    for ending in supported_endings():
        if name.lower().endswith(ending):
            name = name[: len(name) - len(ending)]
            break
    name = _NOT_IN_NAMES.sub("_", name).strip("._-")[:_LONGEST_NAME]
    if not name:
        raise BadRequest(f"{identifier[:_LONGEST_NAME]!r}: write letters or digits")
    return name


def check_tag(tag: str | None) -> str:
    """Check the tag of a label map.

    Args:
        tag: What the client says; empty or None for `final`.

    Returns:
        The tag.

    Raises:
        BadRequest: It is not of letters, digits, hyphens and underscores.
    """
    if not tag:
        return FINAL_TAG
    if not _TAG.fullmatch(tag):
        raise BadRequest(f"tag {tag[:40]!r}: write letters, digits, hyphens and underscores")
    return tag


def upload_ending(file_name: str | None, default: str) -> str:
    """Return the ending that an uploaded file is stored with.

    Args:
        file_name: What the client calls the file; only its ending counts.
        default: The ending where the name has none.

    Returns:
        One of the endings that samnet reads.

    Raises:
        BadRequest: It is another one.
    """
    name = (file_name or "").replace("\\", "/").rsplit("/", 1)[-1]
    if "." not in name:
        return default
    ending = next((end for end in supported_endings() if name.lower().endswith(end)), None)
    if ending is None:
        raise BadRequest(
            f"{name[-_LONGEST_NAME:]!r}: supported are {', '.join(supported_endings())}"
        )
    return ending


def label_names(scheme: LabelScheme) -> dict[str, int]:
    """Return what the values of label maps are called, for programs that show them.

    Programs number the labels from 1 on without gaps. A region has the value that is written for
    it. Values without a name are called by their number.

    Args:
        scheme: The classes or regions of a data set.

    Returns:
        Name -> value, from 1 on in ascending order, without the background.
    """
    named: dict[int, str] = {}
    if scheme.regions is not None:
        named = dict(zip(scheme.regions.class_order, scheme.class_names, strict=True))
    else:
        for name, values in zip(scheme.class_names, scheme.label_sets, strict=True):
            named[values[0]] = name
    if scheme.ignore_label is not None:
        named[scheme.ignore_label] = IGNORE
    return {
        named.get(value, f"label {value}"): value for value in range(1, scheme.highest_value + 1)
    }
