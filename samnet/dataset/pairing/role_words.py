"""Words in names that say whether a file is an image or a mask, and not which case it is."""

from __future__ import annotations

import re
import unicodedata

_MASK_WORDS = r"masks?|segs?|segmentations?|labels?|gt|ground[\W_]?truth|annotations?"
ROLE_WORDS = rf"images?|imgs?|{_MASK_WORDS}"
_ROLES = re.compile(rf"(?:^|(?<=[\W_]))(?:{ROLE_WORDS})(?=[\W_]|$)", re.IGNORECASE)
_MASK_FOLDER = re.compile(rf"(?:{_MASK_WORDS})\w{{0,2}}", re.IGNORECASE)
_EDGES = re.compile(r"^[\W_]+|[\W_]+$")


def without_role_words(name: str) -> str:
    """Return a name without the words that say whether it is an image or a mask.

    Upper and lower case, and the two ways to write an umlaut in Unicode, make no difference.

    Args:
        name: A name without its ending.

    Returns:
        The rest in small letters, with one underscore in place of other separators.
    """
    name = unicodedata.normalize("NFC", name).casefold()
    return re.sub(r"[\W_]+", "_", _EDGES.sub("", _ROLES.sub("", name)))


def is_mask_folder(name: str) -> bool:
    """Tell whether a folder is named as one of masks, such as `segmentations` and `labelsTr`.

    Args:
        name: Name of the folder.
    """
    return bool(_MASK_FOLDER.fullmatch(name))
